//! What stands in an option, read: the text as Fluent Bit can carry it, numbers, sizes, times, addresses.
//!
//! Fluent Bit has no way to write `${` as text: it looks for `${…}` in the values of its configuration, and again in
//! what came of them (docs/design/0008). So no text with `${` ever gets there, and only this crate's builder makes
//! placeholders.

use core::net::Ipv6Addr;

/// Text that means itself wherever Fluent Bit reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Literal(String);

impl Literal {
    /// Takes the text, if Fluent Bit would take it as it is.
    ///
    /// # Errors
    /// What is wrong with it, without the option's name.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')) {
            return Err("has a line break or another character that cannot be printed".to_owned());
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err("begins or ends with a space, which Fluent Bit would drop".to_owned());
        }
        if text.contains("${") {
            return Err("has \"${\", which Fluent Bit cannot take as text".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Text for a place where Fluent Bit looks for members of the record, too: a dollar sign begins one.
    ///
    /// # Errors
    /// What is wrong with it, without the option's name.
    pub fn without_dollar(text: &str) -> Result<Self, String> {
        if text.contains('$') {
            return Err(
                "has a dollar sign, with which Fluent Bit begins the name of a record's member".to_owned()
            );
        }
        Self::read(text)
    }

    /// Text that this crate states itself.
    pub(super) fn fixed(text: &str) -> Self {
        debug_assert!(Self::read(text).is_ok(), "{text:?}");
        Self(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A yes or no, in the spellings that Docker knows (Go's `strconv.ParseBool`).
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A whole number within bounds.
pub(super) fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{text:?} is no whole number from {least} to {most}"))
}

/// What a `k` is: Docker counts the size of files in thousands and that of buffers in 1024s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kilo {
    Thousand,
    Binary,
}

/// A size in bytes: digits and perhaps b, k, m, g or t, with or without a further b.
pub(super) fn size(text: &str, kilo: Kilo) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size such as 10m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let (number, unit) = lower.split_at(digits);
    let base: u64 = if kilo == Kilo::Thousand { 1000 } else { 1024 };
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(base.pow(power)));
    bytes.filter(|bytes| *bytes > 0 && *bytes <= i64::MAX as u64).ok_or_else(wrong)
}

/// A time such as `500ms` or `1m30s`, at least zero, in whole seconds, rounded up: Fluent Bit counts in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time such as 10s");
    let time = text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
    if time.is_negative() {
        return Err(wrong());
    }
    let more = u64::from(time.subsec_nanos() > 0);
    Ok(u64::try_from(time.as_secs()).map_err(|_| wrong())?.saturating_add(more))
}

/// Where something listens: `scheme://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The scheme, in lower case.
    pub scheme: String,
    /// The host's name or address, in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The port, if it is stated.
    pub port: Option<u16>,
    /// The path with its slash, or nothing.
    pub path: String,
}

/// Reads an address with one of the schemes.
pub(super) fn address(text: &str, schemes: &[&str]) -> Result<Address, String> {
    let wrong = |what: &str| format!("{text:?} {what}");
    // First, because the other errors repeat the text.
    let behind_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    if behind_scheme.split('/').next().is_some_and(|place| place.contains('@')) {
        return Err("has a user in it; credentials have options of their own".to_owned());
    }
    Literal::without_dollar(text)?;
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| wrong(&format!("is no address such as {}://host", schemes[0])))?;
    let scheme = scheme.to_ascii_lowercase();
    if !schemes.contains(&scheme.as_str()) {
        return Err(wrong(&format!(
            "must begin with {}",
            schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ")
        )));
    }
    let (place, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if path.contains(['?', '#', ' ', '"', '\\']) || place.contains(['?', '#']) {
        return Err(wrong("has more than a host, a port and a path"));
    }
    let (host, port) = host_and_port(place).map_err(|what| wrong(&what))?;
    Ok(Address { scheme, host, port, path: path.to_owned() })
}

/// Takes `host`, `host:port` and `[address]:port` apart.
pub(super) fn host_and_port(place: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            address.parse::<Ipv6Addr>().map_err(|_| "has no valid address in its brackets".to_owned())?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':').ok_or("has no valid port")?),
            };
            (address, port)
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let is_bracketed = place.starts_with('[');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > 253 || (!is_bracketed && !host.chars().all(plain)) {
        return Err("has no valid host".to_owned());
    }
    let port = match port {
        None => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("has no valid port")?),
    };
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_fluent_bit_would_not_take_as_it_is() {
        for text in [
            "a",
            "a b",
            "ünï 漢 😀",
            "\"q\" 'q'",
            "@INCLUDE x",
            "$a",
            "{a}",
            "}",
            "%d",
            "a: b # c",
            "&a *b !c",
            "\u{200b}",
        ] {
            assert_eq!(Literal::read(text).expect(text).as_str(), text);
        }
        for (text, what) in [
            ("", "empty"),
            ("a\nb", "line break"),
            ("a\tb", "cannot be printed"),
            ("a\u{0}", "cannot be printed"),
            ("a\u{7f}", "cannot be printed"),
            ("a\u{85}b", "line break"),
            ("\u{feff}a", "cannot be printed"),
            (" a", "space"),
            ("a ", "space"),
            ("${HOME}", "${"),
            ("a${", "${"),
            ("$${A}", "${"),
        ] {
            let error = Literal::read(text).expect_err(text);
            assert!(error.contains(what), "{text:?}: {error}");
        }
        assert!(Literal::without_dollar("a$b").is_err());
    }

    #[test]
    fn sizes_times_and_numbers() {
        for (text, want) in [
            ("10", 10),
            ("10b", 10),
            ("10k", 10_240),
            ("10KB", 10_240),
            ("1m", 1 << 20),
            ("1MiB", 1 << 20),
            ("2g", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text, Kilo::Binary), Ok(want), "{text}");
        }
        assert_eq!(size("10m", Kilo::Thousand), Ok(10_000_000));
        for text in ["", "0", "m", "-1", "1.5m", "10x", "10 m", "99999999999t", "１０"] {
            assert!(size(text, Kilo::Binary).is_err(), "{text}");
        }
        for (text, want) in [("10s", 10), ("500ms", 1), ("1m30s", 90), ("1h", 3600), ("0s", 0)] {
            assert_eq!(seconds(text), Ok(want), "{text}");
        }
        for text in ["", "10", "-1s", "s", "10 apples"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!((number("5", 0, 9), number("0", 0, 9)), (Ok(5), Ok(0)));
        for text in ["", "a", "10", "-1", "1.0"] {
            assert!(number(text, 0, 9).is_err(), "{text}");
        }
        assert_eq!((boolean("True"), boolean("f")), (Ok(true), Ok(false)));
        for text in ["", "yes", "on", "tRUE"] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        for (text, scheme, host, port, path) in [
            ("https://Splunk.example.com", "https", "splunk.example.com", None, ""),
            ("https://splunk:8088/", "https", "splunk", Some(8088), "/"),
            ("HTTP://10.0.0.1:80/a/b", "http", "10.0.0.1", Some(80), "/a/b"),
            ("https://[fd00::1]:443", "https", "fd00::1", Some(443), ""),
            ("https://[fd00::1]", "https", "fd00::1", None, ""),
        ] {
            let want = Address { scheme: scheme.into(), host: host.into(), port, path: path.into() };
            assert_eq!(address(text, &["http", "https"]), Ok(want), "{text}");
        }
        for text in
            ["ftp://user:pw@host", "user:pw@host", "https://user:pw@host/a?b", "https://user:$pw@host"]
        {
            let error = address(text, &["https"]).expect_err(text);
            assert!(!error.contains("pw"), "{error}");
        }
        for text in [
            "",
            "splunk",
            "https://",
            "https:///path",
            "ftp://host",
            "https://user:pw@host",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "https://ho st",
            "https://host/a?b",
            "https://host#a",
            "https://host/\n",
            "https://<splunk-url>",
            "https://[fd00::1",
            "https://[splunk]:1",
            "https://fd00::1",
            "https://${HOST}",
            "https://h$a",
        ] {
            assert!(address(text, &["http", "https"]).is_err(), "{text}");
        }
    }
}
