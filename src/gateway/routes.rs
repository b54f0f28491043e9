//! From a request to an operation. Every operation is `POST /v1/<its name in lower case>`; only tags have a path of
//! their own, with a whole ARN in it, slashes and all, encoded or not.

use axum::http::{Method, Uri};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::call::{Call, without_nulls};
use super::failure::Failure;
use super::tags::{Change, tags};
use super::{definitions, describe, end, environments, list, logs, policies, queues, resources, submit};

/// The operations that there are, with their paths.
pub(super) const OPERATIONS: &[&str] = &[
    "CancelJob",
    "CancelJobs",
    "CreateComputeEnvironment",
    "CreateConsumableResource",
    "CreateJobQueue",
    "CreateSchedulingPolicy",
    "DeleteComputeEnvironment",
    "DeleteConsumableResource",
    "DeleteJobQueue",
    "DeleteSchedulingPolicy",
    "DeregisterJobDefinition",
    "DescribeComputeEnvironments",
    "DescribeConsumableResource",
    "DescribeJobDefinitions",
    "DescribeJobQueues",
    "DescribeJobs",
    "DescribeSchedulingPolicies",
    "GetJobQueueSnapshot",
    "ListConsumableResources",
    "ListJobs",
    "ListJobsByConsumableResource",
    "ListSchedulingPolicies",
    "RegisterJobDefinition",
    "SubmitJob",
    "TerminateJob",
    "TerminateJobs",
    "UpdateComputeEnvironment",
    "UpdateConsumableResource",
    "UpdateJobQueue",
    "UpdateSchedulingPolicy",
];

/// What AWS has and there is none of here: all of it is for SageMaker.
pub(super) const ABSENT: &[&str] = &[
    "CreateQuotaShare",
    "CreateServiceEnvironment",
    "DeleteQuotaShare",
    "DeleteServiceEnvironment",
    "DescribeQuotaShare",
    "DescribeServiceEnvironments",
    "DescribeServiceJob",
    "ListQuotaShares",
    "ListServiceJobs",
    "SubmitServiceJob",
    "TerminateServiceJob",
    "TerminateServiceJobs",
    "UpdateQuotaShare",
    "UpdateServiceEnvironment",
    "UpdateServiceJob",
];

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    /// The operation's name.
    pub(super) operation: &'static str,
    /// Of tags: whose they are.
    arn: Option<String>,
    keys: Vec<String>,
}

impl Route {
    /// Reads method and path.
    ///
    /// # Errors
    /// When there is no such operation.
    pub(super) fn read(method: &Method, uri: &Uri) -> Result<Self, Failure> {
        if let Some(arn) = uri.path().strip_prefix("/v1/tags/") {
            return Self::of_tags(method, uri, arn);
        }
        let named = uri.path().strip_prefix("/v1/").filter(|_| method == Method::POST);
        let is_named = |operation: &&&'static str| Some(operation.to_lowercase().as_str()) == named;
        if let Some(operation) = OPERATIONS.iter().find(is_named) {
            return Ok(Self { operation, arn: None, keys: Vec::new() });
        }
        Err(match ABSENT.iter().find(is_named) {
            Some(absent) => {
                Failure::client(format!("{absent} is for SageMaker, and is not supported by Batchyard."))
            }
            None => Failure::client("There is no such operation."),
        })
    }

    /// Reads the header by which CloudWatch Logs names an operation.
    ///
    /// # Errors
    /// When there is no such operation.
    pub(super) fn of_logs(target: &str) -> Result<Self, Failure> {
        let named = target.strip_prefix(logs::TARGET);
        match logs::OPERATIONS.iter().find(|operation| Some(**operation) == named) {
            Some(operation) => Ok(Self { operation, arn: None, keys: Vec::new() }),
            None => Err(Failure::unknown(match named {
                Some(_) => {
                    format!("Of CloudWatch Logs only these are supported: {}", logs::OPERATIONS.join(", "))
                }
                None => "There is no such operation.".to_owned(),
            })),
        }
    }

    fn of_tags(method: &Method, uri: &Uri, arn: &str) -> Result<Self, Failure> {
        let operation = match *method {
            Method::GET => "ListTagsForResource",
            Method::POST => "TagResource",
            Method::DELETE => "UntagResource",
            _ => return Err(Failure::client("There is no such operation.")),
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let arn = decoded(arn).map_err(|_| Failure::client("the ARN in the path is no text"))?;
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        // In a query a space may be a plus; a plus itself is always encoded.
        let keys =
            pairs.filter(|(name, _)| *name == "tagKeys").map(|(_, key)| decoded(&key.replace('+', "%20")));
        let keys = keys.collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|_| Failure::client("tagKeys are no text"))?;
        if operation == "UntagResource" && (keys.is_empty() || keys.len() > 50) {
            return Err(Failure::client("tagKeys must have 1 to 50 elements"));
        }
        Ok(Self { operation, arn: Some(arn), keys })
    }

    /// True for what changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        ["Describe", "List", "Get", "Filter"].iter().any(|begin| self.operation.starts_with(begin))
    }

    /// True for what is carried out once however often it comes: an SDK names the call, or the caller the change.
    pub(super) fn knows_its_tries(&self, invocation: Option<&str>, body: &Value) -> bool {
        match self.operation {
            "SubmitJob" | "RegisterJobDefinition" => invocation.is_some(),
            "UpdateConsumableResource" => body["clientToken"].as_str().is_some_and(|token| !token.is_empty()),
            _ => false,
        }
    }

    /// Reads the body; an empty one says nothing.
    ///
    /// # Errors
    /// When it is no JSON object, or is nested too deeply.
    pub(super) fn body(&self, body: &[u8]) -> Result<Value, Failure> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        // serde_json reads 128 levels and no more.
        let mut value: Value = serde_json::from_slice(body)
            .map_err(|error| Failure::client(format!("the request is not valid JSON: {error}")))?;
        if !value.is_object() {
            return Err(Failure::client("the request must be a JSON object"));
        }
        without_nulls(&mut value);
        Ok(value)
    }

    /// Carries it out.
    ///
    /// # Errors
    /// When it cannot be carried out.
    pub(super) async fn serve(&self, call: &Call, body: Value) -> Result<Value, Failure> {
        if let Some(arn) = &self.arn {
            let change = match self.operation {
                "TagResource" => Change::add(&body)?,
                "UntagResource" => Change::Remove(self.keys.clone()),
                _ => Change::List,
            };
            return tags(call, arn, change).await;
        }
        match self.operation {
            "CancelJob" => end::cancel_job(call, body).await,
            "CancelJobs" => end::cancel_jobs(call, body).await,
            "CreateComputeEnvironment" => environments::create_compute_environment(call, body).await,
            "CreateConsumableResource" => resources::create_consumable_resource(call, body).await,
            "CreateJobQueue" => queues::create_job_queue(call, body).await,
            "CreateSchedulingPolicy" => policies::create_scheduling_policy(call, body).await,
            "DeleteComputeEnvironment" => environments::delete_compute_environment(call, body).await,
            "DeleteConsumableResource" => resources::delete_consumable_resource(call, body).await,
            "DeleteJobQueue" => queues::delete_job_queue(call, body).await,
            "DeleteSchedulingPolicy" => policies::delete_scheduling_policy(call, body).await,
            "DeregisterJobDefinition" => definitions::deregister_job_definition(call, body).await,
            "DescribeComputeEnvironments" => environments::describe_compute_environments(call, body).await,
            "DescribeConsumableResource" => resources::describe_consumable_resource(call, body).await,
            "DescribeJobDefinitions" => definitions::describe_job_definitions(call, body).await,
            "DescribeJobQueues" => queues::describe_job_queues(call, body).await,
            "DescribeJobs" => describe::describe_jobs(call, body).await,
            "DescribeSchedulingPolicies" => policies::describe_scheduling_policies(call, body).await,
            "GetJobQueueSnapshot" => queues::get_job_queue_snapshot(call, body).await,
            "ListConsumableResources" => resources::list_consumable_resources(call, body).await,
            "ListJobs" => list::list_jobs(call, body).await,
            "ListJobsByConsumableResource" => list::list_jobs_by_consumable_resource(call, body).await,
            "ListSchedulingPolicies" => policies::list_scheduling_policies(call, body).await,
            "RegisterJobDefinition" => definitions::register_job_definition(call, body).await,
            "SubmitJob" => submit::submit_job(call, body).await,
            "TerminateJob" => end::terminate_job(call, body).await,
            "TerminateJobs" => end::terminate_jobs(call, body).await,
            "UpdateComputeEnvironment" => environments::update_compute_environment(call, body).await,
            "UpdateConsumableResource" => resources::update_consumable_resource(call, body).await,
            "UpdateJobQueue" => queues::update_job_queue(call, body).await,
            "UpdateSchedulingPolicy" => policies::update_scheduling_policy(call, body).await,
            _ if logs::OPERATIONS.contains(&self.operation) => logs::serve(call, body).await,
            _ => Err(Failure::client("There is no such operation.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, uri: &str) -> Result<Route, Failure> {
        Route::read(&method.parse().expect("a method"), &uri.parse().expect("a URI"))
    }

    #[test]
    fn paths_lead_to_operations() {
        let operation = |method: &str, uri: &str| route(method, uri).map(|route| route.operation);
        for name in OPERATIONS {
            assert_eq!(operation("POST", &format!("/v1/{}", name.to_lowercase())), Ok(*name));
        }
        for (method, uri, says) in [
            ("GET", "/v1/submitjob", "no such operation"),
            ("POST", "/v1/SubmitJob", "no such operation"),
            ("POST", "/v1/submitjob/", "no such operation"),
            ("POST", "/v1/../v1/submitjob", "no such operation"),
            ("POST", "/", "no such operation"),
            ("POST", "/v1/submitservicejob", "SageMaker"),
            ("PUT", "/v1/tags/arn", "no such operation"),
            ("DELETE", "/v1/tags/arn", "tagKeys"),
        ] {
            let failure = operation(method, uri).expect_err(uri);
            assert!(failure.message().contains(says) && failure.kind() == "ClientException", "{failure:?}");
        }
    }

    #[test]
    fn operations_of_logs_are_named_by_a_header() {
        for name in logs::OPERATIONS {
            let route = Route::of_logs(&format!("Logs_20140328.{name}")).expect("a route");
            assert!(route.operation == *name && route.only_reads());
        }
        for (target, says) in [
            ("Logs_20140328.PutLogEvents", "only these are supported: DescribeLogGroups"),
            ("Logs_20140328.getlogevents", "only these"),
            ("AmazonSSM.GetLogEvents", "no such operation"),
            ("", "no such operation"),
        ] {
            let failure = Route::of_logs(target).expect_err(target);
            assert!(
                failure.message().contains(says) && failure.kind() == "UnknownOperationException",
                "{failure:?}"
            );
        }
    }

    #[test]
    fn an_arn_in_a_path_is_read_whole() {
        let arn = "arn:aws:batch:us-east-1:123456789012:job-queue/q";
        for path in ["arn%3Aaws%3Abatch%3Aus-east-1%3A123456789012%3Ajob-queue%2Fq", arn] {
            let route = route("GET", &format!("/v1/tags/{path}")).expect("a route");
            assert_eq!((route.operation, route.arn.as_deref()), ("ListTagsForResource", Some(arn)));
        }
        let route =
            route("DELETE", &format!("/v1/tags/{arn}?tagKeys=a&tagKeys=b%20c+d&x=y")).expect("a route");
        assert_eq!(route.keys, ["a", "b c d"]);
    }

    #[test]
    fn a_body_is_an_object_or_nothing() {
        let read = |body: &str| route("POST", "/v1/describejobs").expect("a route").body(body.as_bytes());
        assert_eq!(read(""), Ok(serde_json::json!({})));
        assert_eq!(read("{\"a\": null, \"b\": {\"c\": null}}"), Ok(serde_json::json!({"b": {}})));
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for wrong in ["[]", "1", "{", "{}x", &deep, &format!("{{\"a\":{deep}}}")] {
            assert_eq!(read(wrong).expect_err("refused").kind(), "ClientException");
        }
    }
}
