//! Text that users, images and registries wrote, made fit for a status: one line, bounded, and
//! without the secrets that such text likes to carry along.

/// Longest container reason, in characters
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ContainerDetail.html>, `reason`).
pub const REASON_LIMIT: usize = 255;
/// Longest statusReason, in characters.
pub const STATUS_REASON_LIMIT: usize = 512;
/// Longest log tail, in bytes.
pub const LOG_TAIL_LIMIT: usize = 2048;

/// What may stand around a key or a secret.
const QUOTES: [char; 3] = ['"', '\'', '\\'];

const REDACTED: &str = "[redacted]";
const GAP: &str = " … ";

/// What is followed by a secret. The end of a longer word counts too, as in `access_token=…`.
const KEYS: [&str; 7] =
    ["authorization", "password", "passwd", "token", "secret", "x-amz-signature", "x-amz-credential"];

/// Schemes of an `Authorization` header.
const SCHEMES: [&str; 6] = ["bearer", "basic", "digest", "negotiate", "token", "aws4-hmac-sha256"];

/// One line without control characters and secrets, of at most `limit` characters.
pub fn line(text: &str, limit: usize) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
    shorten(&redact(&words.join(" ")), limit)
}

/// The last [`LOG_TAIL_LIMIT`] bytes of some output, lines kept, without other control characters
/// and without secrets. `None` if nothing is left.
pub fn tail(text: &str) -> Option<String> {
    let lines: Vec<String> = text.lines().map(|l| redact(&l.replace(is_noise, ""))).collect();
    let text = lines.join("\n");
    let start = (text.len().saturating_sub(LOG_TAIL_LIMIT)..=text.len()).find(|i| text.is_char_boundary(*i));
    let kept = text.get(start.unwrap_or_default()..).unwrap_or_default().trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

fn is_noise(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// At most `limit` characters. The middle goes: a registry's answer names itself first and its
/// cause last.
pub fn shorten(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    let Some(room) = limit.checked_sub(GAP.chars().count()).filter(|_| length > limit) else {
        return text.chars().take(limit).collect();
    };
    let head = room * 2 / 5;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - (room - head)).collect();
    format!("{start}{GAP}{end}")
}

/// At most so many bytes, shortened as [`shorten`] does.
pub fn within(text: &str, bytes: usize) -> String {
    let fits = |limit: usize| Some(shorten(text, limit)).filter(|short| short.len() <= bytes);
    (0..=bytes).rev().find_map(fits).unwrap_or_default()
}

/// The text with `[redacted]` in place of what follows a key such as `password` and of the user part of
/// an address.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, key, after)) = split_at_key(rest) {
        out.push_str(before);
        out.push_str(key);
        // As in `exec: "/etc/passwd": permission denied`.
        let is_path = before.ends_with('/') && after.starts_with(QUOTES);
        let (gap, secret) = secret_of(key, after).filter(|_| !is_path).unwrap_or_default();
        out.push_str(after.get(..gap).unwrap_or_default());
        if secret > 0 {
            out.push_str(REDACTED);
        }
        rest = after.get(gap + secret..).unwrap_or_default();
    }
    out.push_str(rest);
    redact_user(&out)
}

/// The text before the first key, the key as written, and the text after it.
fn split_at_key(text: &str) -> Option<(&str, &str, &str)> {
    text.char_indices().find_map(|(at, _)| {
        let key = KEYS.iter().find_map(|key| {
            text.get(at..at + key.len()).filter(|written| written.eq_ignore_ascii_case(key))
        })?;
        Some((text.get(..at)?, key, text.get(at + key.len()..)?))
    })
}

/// How many bytes after a key lead up to its secret, and how long that is. `None` if the key is
/// just a word, as in `may require authorization: server message: …`.
fn secret_of(key: &str, after: &str) -> Option<(usize, usize)> {
    let closed = after.trim_start_matches(QUOTES);
    let separated = closed.trim_start();
    let spaced = separated.strip_prefix([':', '='])?;
    let quoted = spaced.trim_start();
    let value = quoted.trim_start_matches(QUOTES);

    if value.starts_with(REDACTED) {
        return None;
    }
    let prose = separated.starts_with(':') && spaced.starts_with(' ') && value.len() == quoted.len();
    if prose && closed.len() == after.len() && is_sentence(key, value) {
        return None;
    }
    let end = if key.eq_ignore_ascii_case("authorization") {
        value.find(['"', '\'', '\n'])
    } else {
        value.find(|c: char| c.is_whitespace() || ",;&\"'\\)]}<>".contains(c))
    };
    Some((after.len() - value.len(), end.unwrap_or(value.len())))
}

/// True if `key: value …` reads like words and not like a header or a setting.
fn is_sentence(key: &str, value: &str) -> bool {
    let word = value.split(|c: char| !c.is_ascii_graphic()).next().unwrap_or_default();
    let word = word.trim_end_matches([':', ',', '.', ';']);
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    let lower = key.chars().all(|c| !c.is_ascii_uppercase());
    plain && lower && !key.starts_with("pass") && !SCHEMES.contains(&word)
}

/// `https://user:word@host` without the user and the word.
fn redact_user(text: &str) -> String {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("://");
        let end = part.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(part.len());
        let user = part.get(..end).and_then(|authority| authority.rfind('@')).unwrap_or(0);
        if user > 0 {
            out.push_str(REDACTED);
        }
        out.push_str(part.get(user..).unwrap_or_default());
    }
    out
}
