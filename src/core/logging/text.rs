//! What conditions say about logs.

use super::{Driver, Refusal};
use crate::reason::clean::{REASON_LIMIT, line};

/// Members of a `logConfiguration` that cannot be honoured; `path` is that of the `logConfiguration`.
///
/// ```
/// use batchyard_core::logging::{Refusal, text::refused};
/// let refusal = Refusal { member: "options.mode".into(), why: "\"x\" is neither blocking nor non-blocking".into() };
/// assert_eq!(
///     refused("containerProperties.logConfiguration", &[refusal]),
///     "containerProperties.logConfiguration.options.mode: \"x\" is neither blocking nor non-blocking",
/// );
/// ```
pub fn refused(path: &str, refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| format!("{path}.{refusal}")).collect::<Vec<_>>().join("; ")
}

/// `PlainTextSecret`: containers, and options in which a secret stands.
pub fn plain_text_secret(found: &[(String, &str)]) -> String {
    let options: Vec<String> = found
        .iter()
        .map(|(container, option)| format!("options.{option} of container {container}"))
        .collect();
    format!(
        "in plain text: {}; whoever may read the definition may read it, which secretOptions would avoid",
        options.join(", ")
    )
}

/// `LogsRouted` is true: where the output goes.
pub fn routed(driver: Driver, log_group: Option<&str>, log_stream: Option<&str>) -> String {
    let driver = driver.as_str();
    match (log_group, log_stream) {
        (Some(group), Some(stream)) => format!("{driver}: log group {group}, log stream {stream}"),
        (Some(group), None) => format!("{driver}: log group {group}"),
        (None, _) => driver.to_owned(),
    }
}

/// `LogsRouted` is false: the sidecar did not start, and the pod was replaced by one without it.
pub fn not_started(seconds: u32, why: Option<&str>) -> String {
    let why = why.map_or_else(String::new, |why| format!(" ({})", line(why, REASON_LIMIT)));
    format!(
        "the log sidecar did not start within {seconds} s{why}; the job runs without it, and kubectl logs has its output"
    )
}

/// `LogsRouted` is false: the environment does not allow it.
pub fn not_allowed(rules: &[String]) -> String {
    rules.join("; ")
}

/// `LogSinkUnavailable`: output waits in the sidecar's buffer.
pub fn sink_unavailable(driver: Driver, buffer_mib: u64) -> String {
    format!(
        "{} takes no output; up to {buffer_mib} MiB wait in the log sidecar, and then the oldest is dropped",
        driver.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, want) in [
            (
                plain_text_secret(&[("default".to_owned(), "splunk-token")]),
                "in plain text: options.splunk-token of container default; whoever may read the definition may read it, \
                 which secretOptions would avoid",
            ),
            (
                routed(Driver::Awslogs, Some("/aws/batch/job"), Some("a/default/b")),
                "awslogs: log group /aws/batch/job, log stream a/default/b",
            ),
            (routed(Driver::Awsfirelens, Some("/a"), None), "awsfirelens: log group /a"),
            (routed(Driver::JsonFile, None, None), "json-file"),
            (
                not_started(60, Some("ErrImagePull:\n no such image, password=x")),
                "the log sidecar did not start within 60 s (ErrImagePull: no such image, password=[redacted]); the job \
                 runs without it, and kubectl logs has its output",
            ),
            (not_allowed(&["a".to_owned(), "b".to_owned()]), "a; b"),
            (
                sink_unavailable(Driver::Splunk, 256),
                "splunk takes no output; up to 256 MiB wait in the log sidecar, and then the oldest is dropped",
            ),
        ] {
            assert_eq!(text, want);
        }
    }
}
