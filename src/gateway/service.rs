//! The services of AWS that the door speaks for: each has its way to name an operation, to sign, and to answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// Names the operation where the path does not.
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// AWS Batch: REST and JSON, an operation is a path.
    Batch,
    /// CloudWatch Logs: JSON 1.1, an operation is a header
    /// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/Welcome.html>).
    Logs,
}

impl Service {
    /// The one that a request is for.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        match *method == Method::POST && uri.path() == "/" && headers.contains_key(TARGET) {
            true => Self::Logs,
            false => Self::Batch,
        }
    }

    /// The operation that the header names.
    pub(super) fn target(headers: &HeaderMap) -> &str {
        headers.get(TARGET).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// As signatures and policies call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Logs => "logs",
        }
    }

    /// What answers are.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Batch => "application/json",
            Self::Logs => "application/x-amz-json-1.1",
        })
    }
}
