//! An answer that is none, as AWS words and shapes them
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/CommonErrors.html>).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::core::Status;
use serde_json::json;
use tracing::warn;

use super::service::Service;
use crate::k8s::error::{Error, chain};

/// The header by which SDKs tell errors apart; the body says the same for those who read only that.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// Why a call is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Failure {
    /// The caller's fault. AWS Batch has no 404: what is not there is one of these, too.
    pub(super) fn client(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "ClientException", message: message.into() }
    }

    /// Ours, or the API server's: SDKs try again.
    pub(super) fn server(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "ServerException", message: message.into() }
    }

    /// The caller may not do that.
    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::auth("AccessDeniedException", message)
    }

    /// Too much at a time: SDKs wait and try again.
    pub(super) fn throttled(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "TooManyRequestsException",
            message: message.into(),
        }
    }

    /// Who calls is not known.
    pub(super) fn auth(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, kind, message: message.into() }
    }

    /// What is not there, to CloudWatch Logs.
    pub(super) fn absent(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "ResourceNotFoundException", message: message.into() }
    }

    /// An operation that CloudWatch Logs has and this door has not.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "UnknownOperationException", message: message.into() }
    }

    /// A request that is larger than any of ours.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::client(format!("Request must be smaller than {limit} bytes"))
    }

    /// The same in a service's words. What is written here is AWS Batch's; CloudWatch Logs has other names
    /// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/CommonErrors.html>).
    pub(super) fn to(self, service: Service) -> Self {
        if service == Service::Batch {
            return self;
        }
        let (status, kind) = match self.kind {
            "ClientException" => (StatusCode::BAD_REQUEST, "InvalidParameterException"),
            "ServerException" => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException"),
            "TooManyRequestsException" => (StatusCode::TOO_MANY_REQUESTS, "ThrottlingException"),
            kind => (StatusCode::BAD_REQUEST, kind),
        };
        Self { status, kind, message: self.message }
    }

    /// AWS's name of it.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// What it says.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl Failure {
    /// The answer, as a service gives it.
    pub(super) fn into_answer(self, service: Service) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CONTENT_TYPE, service.content_type());
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let body = json!({"__type": self.kind, "message": self.message}).to_string();
        (self.status, headers, body).into_response()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Some(status) = error.status() else {
            warn!(error = chain(&error), "the API server did not answer");
            return Self::server("The Kubernetes API server did not answer in time.");
        };
        match status.code {
            400 | 413 | 422 => Self::client(refusal(status)),
            404 => Self::client(status.message.clone()),
            409 if status.reason == "AlreadyExists" => Self::client("Object already exists"),
            409 => Self::client("Cannot update, resource is being modified"),
            // A quota, or an admission webhook: what was sent is not wanted.
            403 if !status.message.contains("cannot") => Self::client(status.message.clone()),
            403 => {
                warn!(error = status.message, "the gateway lacks a right");
                Self::server("The gateway has no right to do that in Kubernetes; its log says which.")
            }
            429 => Self::throttled("Too Many Requests"),
            _ => {
                warn!(error = chain(&error), "the API server failed");
                Self::server("The Kubernetes API server failed.")
            }
        }
    }
}

/// What the API server's refusal says, in AWS's words where a rule of the schema has them.
fn refusal(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let texts: Vec<String> = causes.map(|cause| plain(&cause.message, &cause.field)).collect();
    match texts.is_empty() {
        true => status.message.clone(),
        false => texts.join("; "),
    }
}

/// A cause without what stands around it: `Invalid value: "object": attempts must be …`. Newer API servers leave out the
/// value.
fn plain(message: &str, field: &str) -> String {
    let rule = message.strip_prefix("Invalid value: ").map(after_value);
    match rule.filter(|rule| !rule.is_empty()) {
        // A rule names its member itself; what the schema says of a member does not.
        Some(rule) if !rule.contains(" in body ") => rule.to_owned(),
        Some(rule) => rule.replace("spec.", "").replace(" in body", ""),
        None => format!("{}: {message}", field.trim_start_matches("spec.")),
    }
}

/// What follows a value, if there is one. Our rules begin with none of the signs that a value begins with.
fn after_value(text: &str) -> &str {
    let end = match text.chars().next() {
        Some('"') => closing_quote(text),
        Some('{') => text.find("}: "),
        Some('[') => text.find("]: "),
        Some('-' | '0'..='9') => text.find(": ").map(|at| at - 1),
        _ => None,
    };
    end.map_or(text, |end| text[end + 1..].trim_start_matches(": "))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some(at),
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_in_their_own_words() {
        for (message, field, says) in [
            (
                "Invalid value: \"object\": attempts must be between 1 and 10",
                "spec.retryStrategy",
                "attempts must be between 1 and 10",
            ),
            (
                "Invalid value: 11: attempts must be between 1 and 10",
                "spec.a",
                "attempts must be between 1 and 10",
            ),
            (
                "Invalid value: \"a\\\"b: c\": Job name should match valid pattern",
                "spec.jobName",
                "Job name should match valid pattern",
            ),
            (
                "Invalid value: \"string\": spec.priority in body must be of type integer: \"string\"",
                "spec.priority",
                "priority must be of type integer: \"string\"",
            ),
            ("Invalid value: Tags can only contain: _ . :", "spec.tags", "Tags can only contain: _ . :"),
            (
                "Invalid value: {\"a\":1}: tags can have at most 50 entries",
                "spec.tags",
                "tags can have at most 50 entries",
            ),
            (
                "Invalid value: []: containers must have 1 to 10 elements",
                "x",
                "containers must have 1 to 10 elements",
            ),
            ("Invalid value: -1: priority must not be negative", "x", "priority must not be negative"),
            ("Required value", "spec.priority", "priority: Required value"),
            (
                "Too long: may not be more than 512 bytes",
                "spec.jobName",
                "jobName: Too long: may not be more than 512 bytes",
            ),
        ] {
            assert_eq!(plain(message, field), says);
        }
    }

    #[test]
    fn an_error_says_what_it_is_twice() {
        let response = Failure::throttled("slowly").into_answer(Service::Batch);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[ERROR_TYPE], "TooManyRequestsException");
    }

    #[test]
    fn each_service_has_its_own_words() {
        for (failure, status, kind) in [
            (Failure::client("x"), 400, "InvalidParameterException"),
            (Failure::server("x"), 503, "ServiceUnavailableException"),
            (Failure::throttled("x"), 429, "ThrottlingException"),
            (Failure::denied("x"), 400, "AccessDeniedException"),
            (Failure::absent("x"), 400, "ResourceNotFoundException"),
        ] {
            assert_eq!(failure.clone().to(Service::Batch), failure);
            let answer = failure.to(Service::Logs).into_answer(Service::Logs);
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers()[ERROR_TYPE], kind);
            assert_eq!(answer.headers()["content-type"], "application/x-amz-json-1.1");
        }
    }
}
