//! Objects as the invariants speak of them, read from plain JSON: nothing here is shared with
//! what is observed.

use serde_json::Value;

/// One version of one object.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// The resourceVersion: one order for all kinds of a cluster.
    pub(crate) version: u64,
    pub(crate) uid: String,
    /// `namespace/name`.
    pub(crate) about: String,
    /// The object is gone; the rest is its last state.
    pub(crate) gone: bool,
    pub(crate) what: What,
}

/// The kinds that matter.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Job(Box<Job>),
    /// What is remembered of children of an array.
    Record(Record),
    Pod(Pod),
    Definition(Strategy),
    Environment {
        max_vcpus_milli: Option<i64>,
    },
}

impl What {
    /// The kind's name.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Job(_) => "BatchJob",
            Self::Record(_) => "BatchJobRecord",
            Self::Pod(_) => "Pod",
            Self::Definition(_) => "JobDefinition",
            Self::Environment { .. } => "ComputeEnvironment",
        }
    }
}

/// A BatchJob.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Job {
    pub(crate) phase: String,
    pub(crate) status_reason: String,
    pub(crate) attempts: Vec<Attempt>,
    /// Pod uids of placements that used no attempt.
    pub(crate) placements: Vec<String>,
    /// Somebody ended it: no retry rule was asked.
    pub(crate) was_ended: bool,
    /// What the job itself says of retries.
    pub(crate) strategy: Option<Strategy>,
    /// Else what the definition of this name says, `namespace/name`.
    pub(crate) definition: Option<String>,
}

/// A BatchJobRecord.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) job_uid: String,
    pub(crate) children: Vec<Child>,
}

/// What a record says of a child.
#[derive(Clone, Debug, Default)]
pub(crate) struct Child {
    pub(crate) index: u64,
    pub(crate) phase: String,
    pub(crate) attempts: Vec<Attempt>,
    /// Pod uids of placements that used no attempt.
    pub(crate) placements: Vec<String>,
}

/// An entry of `status.attempts`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) number: u64,
    pub(crate) pod_uid: String,
    pub(crate) status_reason: String,
    pub(crate) reason: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) action: String,
}

/// A `retryStrategy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Strategy {
    pub(crate) attempts: Option<u64>,
    pub(crate) rules: Vec<Rule>,
}

/// An entry of `evaluateOnExit`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rule {
    pub(crate) on_status_reason: String,
    pub(crate) on_reason: String,
    pub(crate) on_exit_code: String,
    pub(crate) action: String,
}

/// A pod that belongs to a job.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) job_uid: Option<String>,
    /// Which child of an array it runs.
    pub(crate) index: Option<u64>,
    /// It may run or still come to run.
    pub(crate) is_live: bool,
    /// One of its containers has run.
    pub(crate) ran: bool,
    /// Our finalizer is on it.
    pub(crate) is_held: bool,
    pub(crate) environment: String,
    pub(crate) vcpus_milli: i64,
    /// How its attempt must be recorded, if whoever played the kubelet knows: the text behind `=>`
    /// in its command, an exit code (or `-`) and a status reason (or its beginning and `*`).
    pub(crate) expects: Option<String>,
}

impl Fact {
    /// Reads an object; `None` if it is of no kind that matters.
    pub(crate) fn read(object: &Value, gone: bool) -> Option<Self> {
        let metadata = &object["metadata"];
        let what = match object["kind"].as_str()? {
            "BatchJob" => What::Job(Box::new(job(object))),
            "BatchJobRecord" => What::Record(record(&object["spec"])),
            "Pod" => What::Pod(pod(object)),
            "JobDefinition" => What::Definition(strategy(&object["spec"]["retryStrategy"])),
            "ComputeEnvironment" => What::Environment { max_vcpus_milli: max_vcpus_milli(&object["spec"]) },
            _ => return None,
        };
        let namespace = metadata["namespace"].as_str().map(|n| format!("{n}/")).unwrap_or_default();
        Some(Self {
            version: metadata["resourceVersion"].as_str()?.parse().ok()?,
            uid: text(&metadata["uid"]),
            about: format!("{namespace}{}", text(&metadata["name"])),
            gone,
            what,
        })
    }
}

fn job(object: &Value) -> Job {
    let (spec, status) = (&object["spec"], &object["status"]);
    let timed_out = status["statusReason"] == "Job attempt duration exceeded timeout";
    let definition = spec["jobDefinition"].as_str().map(|reference| {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        format!("{}/{name}", text(&object["metadata"]["namespace"]))
    });
    Job {
        phase: text(&status["phase"]),
        status_reason: text(&status["statusReason"]),
        attempts: list(&status["attempts"]).map(attempt).collect(),
        placements: list(&status["placements"]).map(|placement| text(&placement["podUid"])).collect(),
        was_ended: status["isTerminated"] == true || status["isCancelled"] == true || timed_out,
        strategy: spec["retryStrategy"].is_object().then(|| strategy(&spec["retryStrategy"])),
        definition,
    }
}

fn record(spec: &Value) -> Record {
    let child = |child: &Value| Child {
        index: child["index"].as_u64().unwrap_or(u64::MAX),
        phase: text(&child["phase"]),
        attempts: list(&child["attempts"]).map(attempt).collect(),
        placements: list(&child["placements"]).map(|placement| text(&placement["podUid"])).collect(),
    };
    Record { job_uid: text(&spec["jobUid"]), children: list(&spec["children"]).map(child).collect() }
}

fn attempt(value: &Value) -> Attempt {
    Attempt {
        number: value["attempt"].as_u64().unwrap_or(0),
        pod_uid: text(&value["podUid"]),
        status_reason: text(&value["statusReason"]),
        reason: value["container"]["reason"].as_str().map(str::to_owned),
        exit_code: value["container"]["exitCode"].as_i64(),
        action: text(&value["decision"]["action"]),
    }
}

fn strategy(value: &Value) -> Strategy {
    let rule = |entry: &Value| Rule {
        on_status_reason: text(&entry["onStatusReason"]),
        on_reason: text(&entry["onReason"]),
        on_exit_code: text(&entry["onExitCode"]),
        action: text(&entry["action"]).to_uppercase(),
    };
    Strategy {
        attempts: value["attempts"].as_u64(),
        rules: list(&value["evaluateOnExit"]).map(rule).collect(),
    }
}

fn pod(object: &Value) -> Pod {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let owner = list(&metadata["ownerReferences"]).find(|owner| owner["kind"] == "BatchJob");
    let label = |name: &str| text(&metadata["annotations"][name]);
    let has_run = |container: &Value| {
        let state = &container["state"];
        state["running"].is_object() || state["terminated"]["startedAt"].is_string()
    };
    let expects = list(&spec["containers"][0]["args"]).filter_map(Value::as_str).find_map(|argument| {
        let number = metadata["annotations"]["batchyard.io/attempt"].as_str()?.parse::<usize>().ok()?;
        let lines: Vec<&str> = argument.split(';').collect();
        let line = lines.get(number - 1).or(lines.last())?;
        Some(line.split_once("=>")?.1.trim().to_owned())
    });
    Pod {
        job_uid: owner.map(|owner| text(&owner["uid"])),
        index: label("batchyard.io/index").parse().ok(),
        is_live: !matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
        ran: list(&status["containerStatuses"]).any(has_run),
        is_held: list(&metadata["finalizers"]).any(|finalizer| finalizer == "batchyard.io/attempt"),
        environment: label("batchyard.io/compute-environment"),
        vcpus_milli: label("batchyard.io/vcpus-milli").parse().unwrap_or(0),
        expects,
    }
}

fn max_vcpus_milli(spec: &Value) -> Option<i64> {
    spec["computeResources"]["maxvCpus"].as_i64().map(|vcpus| vcpus * 1000)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
