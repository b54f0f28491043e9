//! What the conditions of a NotificationRule say.

use core::net::IpAddr;

use super::address::Refusal;

/// The rule is in order.
pub const HEALTHY: &str = "NotificationRule Healthy";
/// The rule is in order, and sends nothing.
pub const DISABLED: &str = "NotificationRule is DISABLED";

/// A name in braces that stands for nothing.
pub fn unknown_placeholder(unknown: &[String], known: &[&str]) -> String {
    format!("smtp.subject: {{{}}} stands for nothing; known are {}", unknown.join("}, {"), known.join(", "))
}

/// A member that cannot be read as what it is to be.
pub fn invalid(member: &str, why: &str) -> String {
    format!("{member} is not valid: {why}")
}

/// A Secret, or a key of it, that is not there.
pub fn secret_missing(name: &str, key: &str) -> String {
    format!("Secret {name} with the key {key} does not exist")
}

/// A Secret's value that cannot be used.
pub fn secret_unusable(name: &str, key: &str, why: &str) -> String {
    format!("Secret {name}: {key} {why}")
}

/// A Secret that the notifier may not read.
pub fn secret_forbidden(name: &str, namespace: &str) -> String {
    format!(
        "Secret {name} may not be read: an administrator has to name namespace {namespace} in the chart's \
         notifier.namespaces"
    )
}

/// A Secret that could not be read now.
pub fn secret_unread(name: &str) -> String {
    format!("Secret {name} could not be read: the API server did not answer")
}

/// What a host is called that stands in a Secret, or that nobody named.
pub const SINK: &str = "the sink";

/// An address that nothing is sent to; none: one that is not told.
pub fn address_refused(host: &str, address: Option<IpAddr>, why: Refusal) -> String {
    let address = address.map_or_else(|| "its address".to_owned(), |address| address.to_string());
    format!("nothing is sent to {host}: {address} is {}", why.as_str())
}

/// A name without an address.
pub fn unresolved(host: &str) -> String {
    format!("{host} has no address")
}

/// No connection came about.
pub fn unreachable(host: &str) -> String {
    format!("{host} cannot be reached")
}

/// The certificate is not trusted, or the other side speaks no TLS.
pub fn tls_failed(host: &str) -> String {
    format!("no TLS with {host}: its certificate is not trusted, or it speaks another protocol")
}

/// No answer in time.
pub fn no_answer(host: &str) -> String {
    format!("{host} did not answer in time")
}

/// An HTTP answer that is no success.
pub fn http_status(host: &str, status: u16) -> String {
    match status {
        300..=399 => format!("{host} answered {status}: redirects are not followed"),
        _ => format!("{host} answered {status}"),
    }
}

/// An SMTP reply that is no success.
pub fn smtp_reply(host: &str, code: Option<u16>) -> String {
    match code {
        Some(code) => format!("{host} answered {code}"),
        None => format!("{host} did not speak SMTP as it should"),
    }
}

/// What could not be delivered within [`super::delivery::GIVE_UP`].
pub const TOO_OLD: &str = "it could not be delivered within 24 hours";
