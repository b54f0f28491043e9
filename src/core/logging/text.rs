//! What conditions say about logs.

use super::{Driver, Refusal};

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

/// `LogsRouted` is true: where the output goes.
pub fn routed(driver: Driver, log_group: Option<&str>, log_stream: Option<&str>) -> String {
    let driver = driver.as_str();
    match (log_group, log_stream) {
        (Some(group), Some(stream)) => format!("{driver}: log group {group}, log stream {stream}"),
        (Some(group), None) => format!("{driver}: log group {group}"),
        (None, _) => driver.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, want) in [
            (
                routed(Driver::Awslogs, Some("/aws/batch/job"), Some("a/default/b")),
                "awslogs: log group /aws/batch/job, log stream a/default/b",
            ),
            (routed(Driver::Awsfirelens, Some("/a"), None), "awsfirelens: log group /a"),
            (routed(Driver::JsonFile, None, None), "json-file"),
        ] {
            assert_eq!(text, want);
        }
    }
}
