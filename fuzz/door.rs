//! Requests to the AWS door, before anything of them is proved.

use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use jiff::Timestamp;
use serde_json::Value;

use super::names;
use super::routes::Route;
use super::service::Service;
use super::sigv4::{Claim, Signed};
use crate::crd::aws::JOB_DEFINITION;
use crate::crd::{BatchJobSpec, JobDefinitionSpec};
use crate::fuzz::run;
use crate::k8s::access_key::Hidden;

const REGION: &str = "us-east-1";

const HEADERS: [&str; 2] = [
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/batch/aws4_request, SignedHeaders=content-type;host;x-amz-date, \
     Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31\n20150830T123600Z\n/v1/describejobs?a=b&c=%20d\n{}",
    "AWS4-HMAC-SHA256 Credential=BYAK0000000000000000/20150830/us-east-1/batch/aws4_request,SignedHeaders=host;x-amz-date,\
     Signature=00\n20150830T123559Z\n/v1/tags/arn%3Aaws\n",
];

/// Authorization, date, target and body, a line each.
fn signature(input: &[u8]) -> bool {
    let mut parts = input.splitn(4, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (authorization, date, target, body) = (next(), next(), next(), next());
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", authorization), ("x-amz-date", date), ("host", b"a".as_slice())] {
        let Ok(value) = HeaderValue::from_bytes(value) else { return false };
        headers.insert(name, value);
    }
    let now: Timestamp = "2015-08-30T12:36:00Z".parse().expect("a time");
    let claim = match Claim::read(&headers, Service::Batch, REGION, now) {
        Ok(claim) => claim,
        Err(_) => return true,
    };
    let Ok(uri) = std::str::from_utf8(target).unwrap_or_default().parse::<Uri>() else { return false };
    let signed = Signed { method: &Method::POST, uri: &uri, headers: &headers, body };
    let secret = Hidden::from("a secret that nobody signed with");
    assert!(claim.verify(signed, &secret, REGION).is_err(), "nobody knows the secret");
    true
}

const REQUESTS: [&str; 3] = [
    r#"{"path": "/v1/submitjob", "body": {"jobName": "a", "jobQueue": "q", "jobDefinition": "d", "parameters": {"x": "y"},
        "containerOverrides": {"command": ["a"], "environment": [{"name": "A", "value": "1"}], "vcpus": 1},
        "arrayProperties": {"size": 2}, "dependsOn": [{"jobId": "x"}], "tags": {"a": "b"}, "timeout": {"attemptDurationSeconds": 60}}}"#,
    r#"{"path": "/v1/registerjobdefinition", "body": {"jobDefinitionName": "d", "type": "container", "containerProperties":
        {"image": "i", "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
        "logConfiguration": {"logDriver": "awslogs", "options": {"a": "b"}}}, "retryStrategy": {"attempts": 1}, "propagateTags": null}}"#,
    r#"{"path": "/v1/tags/arn%3Aaws%3Abatch%3Aus-east-1%3A1%3Ajob-queue%2Fq?tagKeys=a&tagKeys=b%20c", "body": {"tags": {"a": "b"}}}"#,
];

fn request(input: &[u8]) -> bool {
    // The body as it came, and as a part of what came.
    let whole = serde_json::from_slice::<Value>(input).ok();
    let path = whole.as_ref().and_then(|whole| whole["path"].as_str()).unwrap_or("/v1/submitjob");
    let body = whole.as_ref().map_or_else(|| input.to_vec(), |whole| whole["body"].to_string().into_bytes());
    let Ok(uri) = path.parse::<Uri>() else { return false };
    for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
        let Ok(route) = Route::read(&method, &uri) else { continue };
        let Ok(body) = route.body(&body) else { continue };
        assert!(body.is_object());
        route.knows_its_tries(Some("i"), &body);
        let members: Vec<&str> =
            body.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        // As a caller may state them, and as if each member were one.
        for members in [JOB_DEFINITION, members.as_slice()] {
            let _ = names::spec::<JobDefinitionSpec>("JobDefinition", members, &body);
            let _ = names::spec::<BatchJobSpec>("BatchJob", members, &body);
        }
        let _ = names::text(&body, "jobName");
    }
    let _ = Route::of_logs(path);
    whole.is_some()
}

#[test]
fn signatures() {
    run("signatures", &HEADERS, signature);
}

#[test]
fn requests() {
    run("requests", &REQUESTS, request);
}
