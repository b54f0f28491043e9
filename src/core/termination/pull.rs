//! Why an image could not be pulled, read from the text of the runtime (W1, W2).

/// What a runtime's text says about a failed pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The registry answered: no such image, or not for you.
    Denied,
    /// The registry could not be reached or was not well, or the text does not say.
    Network,
}

/// Texts of containerd, CRI-O and Go's network code that speak of the way to the registry. They
/// outrank [`DENIED`]: when one of several mirrors is down, its answer is still awaited.
const NETWORK: [&str; 24] = [
    "dial tcp",
    "dial udp",
    "timed out",
    "timeout",
    "deadline exceeded",
    "connection refused",
    "connection reset",
    "no route to host",
    "network is unreachable",
    "no such host",
    "server misbehaving",
    "temporary failure",
    "tls handshake",
    "broken pipe",
    "unexpected eof",
    ": eof",
    "429",
    "toomanyrequests",
    "too many requests",
    "internal server error",
    "bad gateway",
    "service unavailable",
    "registry is unavailable",
    "no space left on device",
];

/// Texts by which a registry or a runtime refuses an image.
const DENIED: [&str; 17] = [
    "not found",
    "404",
    "401",
    "403",
    "unauthorized",
    "forbidden",
    "denied",
    "insufficient_scope",
    "manifest unknown",
    "name unknown",
    "blob unknown",
    "does not exist",
    "authentication required",
    "no basic auth credentials",
    "authorization failed",
    "not permitted",
    "no match for platform",
];

/// Reads a runtime's text. The image's own name, in which anything may stand, is left out.
pub(super) fn cause(message: &str) -> Cause {
    let text = without_names(message);
    let says = |markers: &[&str]| markers.iter().any(|marker| contains(&text, marker));
    match (says(&NETWORK), says(&DENIED)) {
        (false, true) => Cause::Denied,
        _ => Cause::Network,
    }
}

/// The error behind `Back-off pulling image "R": ErrImagePull: …`: its word and its text.
pub(super) fn behind_back_off(message: &str) -> Option<(&str, &str)> {
    let (_, error) = message.strip_prefix("Back-off pulling image \"")?.split_once("\": ")?;
    let (word, cause) = error.split_once(": ")?;
    word.chars().all(|c| c.is_ascii_alphabetic()).then_some((word, cause))
}

/// The text without gRPC's introduction.
pub(super) fn without_rpc(message: &str) -> &str {
    message
        .strip_prefix("rpc error: code = ")
        .and_then(|rest| rest.split_once(" desc = "))
        .map_or(message, |(_, description)| description)
}

/// Lower case, without what stands in double quotes and without words that hold a slash.
fn without_names(message: &str) -> String {
    let outside: Vec<&str> = message.split('"').step_by(2).collect();
    let lower = outside.join(" ").to_lowercase();
    let words = lower.split_whitespace().filter(|word| !word.contains('/'));
    words.collect::<Vec<_>>().join(" ")
}

/// A number must stand alone; words may be part of others.
fn contains(text: &str, marker: &str) -> bool {
    match marker.bytes().all(|b| b.is_ascii_digit()) {
        true => numbers(text).any(|number| number == marker),
        false => text.contains(marker),
    }
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| w.bytes().all(|b| b.is_ascii_digit()))
}
