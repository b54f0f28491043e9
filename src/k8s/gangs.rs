//! What a multi-node job has beside its pods: a headless Service, by which the names of its nodes resolve, and for
//! each round of its pods a ConfigMap with the main node's address. Both belong to the job and go with it.
//!
//! Nobody watches them: this process remembers what it made, and makes it again after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use batchyard_core::name;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, EnvVar, EnvVarSource, PodAffinityTerm, PodAntiAffinity, Service,
    ServiceSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::meta;
use crate::crd::BatchJob;

/// The key of the main node's address in its ConfigMap.
pub const ADDRESS: &str = "address";

/// A node of a multi-node job.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Its index, from 0.
    pub index: u32,
    /// The index of the main node.
    pub main: u32,
    /// How many nodes there are.
    pub count: u32,
    /// The instance type that it wants.
    pub instance_type: Option<&'a str>,
}

/// What this process made for multi-node jobs, by the job's uid; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Gangs {
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// What was made for one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Its Service.
    named: bool,
    /// The address of this round's main node.
    published: Option<((u32, u32), Timestamp)>,
}

impl Gangs {
    /// True if the job's Service is there.
    pub fn is_named(&self, job_uid: &str) -> bool {
        self.lock().get(job_uid).is_some_and(|known| known.named)
    }

    /// When the main node's address of a round, by attempt and placement, was written.
    pub fn published_at(&self, job_uid: &str, round: (u32, u32)) -> Option<Timestamp> {
        let (known, at) = self.lock().get(job_uid)?.published?;
        (known == round).then_some(at)
    }

    /// The job's Service is there.
    pub fn named(&self, job_uid: &str) {
        self.lock().entry(job_uid.to_owned()).or_default().named = true;
    }

    /// The address of a round's main node is there.
    pub fn published(&self, job_uid: &str, round: (u32, u32), at: Timestamp) {
        self.lock().entry(job_uid.to_owned()).or_default().published = Some((round, at));
    }

    /// The job is over or gone.
    pub fn forget(&self, job_uid: &str) {
        self.lock().remove(job_uid);
    }

    /// Keeps what is about objects that exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| exists(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Service of a job. It has neither an address nor ports of its own: its nodes resolve as `node-<index>` in it, also
/// before they are ready.
pub fn service(job: &BatchJob) -> Service {
    let id = job.status.as_ref().and_then(|status| status.record.job_id.clone());
    let uid = job.uid().unwrap_or_default();
    let selector = [(meta::JOB_ID.to_owned(), id.unwrap_or_else(|| uid.clone()))];
    Service {
        metadata: metadata(job, name::gang(&job.name_any(), &uid)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector.into()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The address of the main node in a round, or what is to be deleted of it.
pub fn address(job: &BatchJob, (attempt, placement): (u32, u32), address: &str) -> ConfigMap {
    let name = name::gang_address(&job.name_any(), &job.uid().unwrap_or_default(), attempt, placement);
    ConfigMap {
        metadata: metadata(job, name),
        data: Some([(ADDRESS.to_owned(), address.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// The nodes of a job would rather be on different hosts, as they are on AWS, but share one before they wait.
pub fn apart(job_id: &str) -> PodAntiAffinity {
    let labels = [(meta::JOB_ID.to_owned(), job_id.to_owned())];
    let selector = LabelSelector { match_labels: Some(labels.into()), match_expressions: None };
    PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: PodAffinityTerm {
                label_selector: Some(selector),
                topology_key: "kubernetes.io/hostname".to_owned(),
                ..PodAffinityTerm::default()
            },
        }]),
        ..PodAntiAffinity::default()
    }
}

/// The variable that holds the main node's address in the other nodes of a round. The kubelet starts no container
/// before the ConfigMap is there, which the job controller writes once the main node has an address.
pub fn main_address(job: &str, uid: &str, (attempt, placement): (u32, u32)) -> EnvVar {
    let name = name::gang_address(job, uid, attempt, placement);
    let reference = ConfigMapKeySelector { name, key: ADDRESS.to_owned(), optional: None };
    EnvVar {
        name: "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS".to_owned(),
        value_from: Some(EnvVarSource { config_map_key_ref: Some(reference), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

fn metadata(job: &BatchJob, name: String) -> ObjectMeta {
    let text = |value: &str| value.to_owned();
    ObjectMeta {
        name: Some(name),
        namespace: job.namespace(),
        labels: Some(
            [(meta::MANAGED_BY, text(meta::OPERATOR)), (meta::JOB_NAME, name::slug(&job.name_any()))]
                .map(|(key, value)| (text(key), value))
                .into(),
        ),
        owner_references: Some(vec![OwnerReference {
            api_version: text("batchyard.io/v1alpha1"),
            kind: text("BatchJob"),
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_known_of_one_round() {
        let (gangs, now) = (Gangs::default(), Timestamp::UNIX_EPOCH);
        assert!(!gangs.is_named("a") && gangs.published_at("a", (1, 0)).is_none());
        gangs.named("a");
        gangs.published("a", (1, 0), now);
        assert!(gangs.is_named("a") && !gangs.is_named("b"));
        assert_eq!((gangs.published_at("a", (1, 0)), gangs.published_at("a", (1, 1))), (Some(now), None));
        gangs.retain(|uid| uid != "a");
        assert!(!gangs.is_named("a") && gangs.lock().is_empty());
    }

    #[test]
    fn what_a_job_has_beside_its_pods_goes_with_it() {
        let job = serde_json::json!({"metadata": {"name": "1.sim", "namespace": "ns", "uid": "0f8b3c1a-77aa"},
            "spec": {"jobQueue": "q"}, "status": {"jobId": "id"}});
        let job: BatchJob = serde_json::from_value(job).expect("a job");
        let (service, address) = (service(&job), address(&job, (2, 1), "10.0.0.1"));
        assert_eq!(
            (service.name_any(), address.name_any()),
            ("nodes-1-sim-0f8b3c1a".into(), "1-sim-0f8b3c1a-main-2-1".into())
        );
        for owners in [&service.metadata.owner_references, &address.metadata.owner_references] {
            assert_eq!(owners.as_ref().expect("an owner")[0].uid, "0f8b3c1a-77aa");
        }
        let spec = service.spec.expect("a spec");
        assert_eq!(spec.selector.expect("a selector")[meta::JOB_ID], "id");
        assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    }
}
