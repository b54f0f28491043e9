//! Who runs the jobs, and how one asks them to.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde::Serialize;
use serde_json::{Value, json};

use crate::round::Shape;

/// Who runs the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// A pod for each job, made by whoever wants it: nothing could be less.
    Pods,
    /// A `batch/v1` Job for each.
    Jobs,
    /// One `batch/v1` Job with so many completions.
    Indexed,
    /// A BatchJob for each.
    Batchyard,
    /// One BatchJob with so many children.
    Array,
}

/// An object to make, of some kind.
pub(crate) type Made = (ApiResource, DynamicObject);

impl Contender {
    /// Bare pods first: the others are compared with them.
    pub(crate) const ALL: [Self; 5] = [Self::Pods, Self::Jobs, Self::Indexed, Self::Batchyard, Self::Array];
    /// Those that run many with one object.
    pub(crate) const WHOLE: [Self; 2] = [Self::Indexed, Self::Array];

    /// As the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pods => "bare pods",
            Self::Jobs => "batch/v1 Jobs",
            Self::Indexed => "one Indexed Job",
            Self::Batchyard => "BatchJobs",
            Self::Array => "one array job",
        }
    }

    /// How many objects run so many jobs.
    pub(crate) fn objects(self, jobs: usize) -> usize {
        if Self::WHOLE.contains(&self) { 1 } else { jobs }
    }

    /// The object with this number.
    pub(crate) fn object(self, number: usize, shape: Shape) -> Made {
        let jobs = shape.jobs;
        let name = format!("job-{number}");
        let metadata = json!({"name": name});
        let (group, version, kind, body) = match self {
            Self::Pods => {
                ("", "v1", "Pod", json!({"metadata": merged(pod_metadata(), &metadata), "spec": pod()}))
            }
            Self::Jobs | Self::Indexed => {
                let template = json!({"metadata": pod_metadata(), "spec": pod()});
                let mut spec = json!({"template": template, "backoffLimit": 0});
                if self == Self::Indexed {
                    let more = json!({"completionMode": "Indexed", "completions": jobs, "parallelism": jobs});
                    spec = merged(spec, &more);
                }
                ("batch", "v1", "Job", json!({"metadata": metadata, "spec": spec}))
            }
            Self::Batchyard | Self::Array => {
                let mut spec = json!({"jobQueue": queue(number % shape.queues),
                    "containerProperties": {"image": "kwok", "vcpus": 1, "memory": 64}});
                if self == Self::Array {
                    spec["arrayProperties"] = json!({"size": jobs});
                }
                if shape.shares > 0 {
                    let share = number / shape.queues % shape.shares;
                    spec["shareIdentifier"] = json!(format!("share{share}"));
                }
                ("batchyard.io", "v1alpha1", "BatchJob", json!({"metadata": metadata, "spec": spec}))
            }
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let mut object = body;
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(kind);
        (resource, serde_json::from_value(object).expect("an object"))
    }

    /// By which field one knows an object whose jobs have all succeeded.
    pub(crate) fn succeeded(self, jobs: usize) -> String {
        match self {
            Self::Pods => "status.phase=Succeeded".to_owned(),
            Self::Jobs => "status.successful=1".to_owned(),
            Self::Indexed => format!("status.successful={jobs}"),
            Self::Batchyard | Self::Array => "status.phase=SUCCEEDED".to_owned(),
        }
    }
}

/// The queue with this number.
pub(crate) fn queue(number: usize) -> String {
    format!("queue-{number}")
}

/// What tells kwok that the pod shall succeed.
pub(crate) fn annotations() -> Value {
    json!({"kwok.batchyard.io/exit-code": "0"})
}

/// The label of the nodes.
pub(crate) fn nodes() -> Value {
    json!({"type": "kwok"})
}

/// What lets pods on the nodes.
pub(crate) fn tolerations() -> Value {
    json!([{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}])
}

fn pod_metadata() -> Value {
    json!({"annotations": annotations()})
}

/// What Batchyard makes of the same job, without what it needs for itself.
fn pod() -> Value {
    let requests = json!({"cpu": "900m", "memory": "64Mi"});
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "nodeSelector": nodes(),
        "tolerations": tolerations(),
        "containers": [{"name": "default", "image": "kwok",
            "resources": {"requests": requests, "limits": {"memory": "64Mi"}}}],
    })
}

/// An object with the members of another.
pub(crate) fn merged(mut base: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}
