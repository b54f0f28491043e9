//! From attempts to pods. `members` has a case for each member of containerProperties, `overrides` what no job can
//! change.

mod logging;
mod members;
mod overrides;
mod pods;
mod security;

use batchyard_core::definition::container::{Linux, Mount, Source, Tmpfs, User, Volume};
use batchyard_core::definition::requirements::Amounts;
use batchyard_core::definition::{Properties, Work, nodes};
use serde_json::{Value, json};

use super::*;
use crate::crd::convert::{self, Plan};

pub(super) fn effective(properties: Properties) -> Effective {
    let amounts = Amounts { vcpus_milli: 2000, memory_mib: 256, gpus: 0 };
    Effective { work: Work::Container(properties), amounts }
}

pub(super) fn built(environment: Value, effective: &Effective) -> Value {
    let environment = serde_json::from_value(environment).expect("an environment");
    made(&environment, effective, &Also::default())
}

/// What few pods have.
#[derive(Default)]
pub(super) struct Also<'a> {
    pub(super) node: Option<gangs::Node<'a>>,
    pub(super) tags: Option<&'a BTreeMap<String, String>>,
    pub(super) session: Option<&'a Session>,
    pub(super) refuses_root: bool,
    pub(super) host_network: bool,
    pub(super) logs: Logs<'a>,
}

/// The plan of a job of this definition.
fn plan(definition: Value, job: Value) -> Plan {
    let with = |mut spec: Value, more: Value| {
        more.as_object().into_iter().flatten().for_each(|(name, value)| spec[name] = value.clone());
        spec
    };
    let definition = with(json!({"type": "container"}), definition);
    let job = with(json!({"jobQueue": "q", "jobDefinition": "d"}), job);
    let definition = serde_json::from_value(definition).expect("a definition");
    convert::plan(&serde_json::from_value(job).expect("a job"), &definition)
}

/// The pod of a plan, of a multi-node job that of one node.
fn pod_of(environment: Value, plan: &Plan, node: Option<u32>) -> Value {
    let environment = serde_json::from_value(environment).expect("an environment");
    let effective = plan.effective.as_ref().expect("a job that can run");
    let group = plan.gang.as_ref().zip(node).and_then(|(gang, node)| Some((gang, gang.group_of(node)?)));
    let Some((gang, group)) = group else {
        return made(&environment, effective, &Also { tags: plan.tags.as_ref(), ..Also::default() });
    };
    let nodes::Gang { main, nodes: count, .. } = **gang;
    let instance_type = group.instance_type.as_deref();
    let node = node.map(|index| gangs::Node { index, main, count, instance_type });
    made(&environment, &group.effective, &Also { node, tags: plan.tags.as_ref(), ..Also::default() })
}

pub(super) fn made(environment: &ComputeEnvironmentSpec, effective: &Effective, also: &Also<'_>) -> Value {
    let Also { node, tags, session, refuses_root, host_network, logs } = *also;
    let made = pod(&Attempt {
        namespace: "team",
        job_name: "render",
        job_uid: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e",
        job_id: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e",
        child: None,
        node,
        queue_name: "queue-0",
        queue: "queue-0",
        share: Some("teamA"),
        tokens: &[],
        definition: "randomEC:3",
        number: 2,
        placement: 1,
        environment: "compute-0",
        environment_spec: environment,
        pool: &Pool::of("pool", environment, &[]),
        service_account: None,
        effective,
        tags,
        session,
        refuses_root,
        host_network,
        grace_seconds: 30,
        fenced: false,
        log_tail: true,
        logs,
    });
    serde_json::to_value(made).expect("a pod is plain data")
}

pub(super) fn spot() -> Value {
    json!({"type": "MANAGED", "computeResources": {"type": "SPOT", "maxvCpus": 32}})
}

#[test]
fn a_pod_says_whose_it_is_and_is_held_until_it_is_counted() {
    let pod = built(spot(), &effective(Properties { image: "alpine".into(), ..Properties::default() }));
    let metadata = &pod["metadata"];
    assert_eq!(metadata["name"], "render-0f8b3c1a-2-1");
    assert_eq!(metadata["finalizers"], json!(["batchyard.io/attempt"]));
    assert_eq!(metadata["ownerReferences"][0]["uid"], "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e");
    assert_eq!(metadata["annotations"]["batchyard.io/attempt"], "2");
    assert_eq!(metadata["annotations"]["batchyard.io/placement"], "1");
    assert_eq!(metadata["annotations"]["batchyard.io/vcpus-milli"], "2000");
    assert_eq!(metadata["annotations"]["batchyard.io/share-identifier"], "teamA");
    assert_eq!(metadata["labels"]["batchyard.io/job-definition"], "randomec-143dbd");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["containers"][0]["terminationMessagePolicy"], "FallbackToLogsOnError");
}

#[test]
fn cpu_is_a_share_and_memory_a_limit() {
    let job = effective(Properties::default());
    let resources =
        |environment: Value| built(environment, &job)["spec"]["containers"][0]["resources"].clone();
    assert_eq!(
        resources(spot()),
        json!({"requests": {"cpu": "1800m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}})
    );
    let mut strict = spot();
    strict["vcpuRequestPercent"] = json!(100);
    strict["cpuLimit"] = json!(true);
    assert_eq!(
        resources(strict),
        json!({"requests": {"cpu": "2000m", "memory": "256Mi"}, "limits": {"cpu": "2000m", "memory": "256Mi"}})
    );
    let gpu = Effective { amounts: Amounts { gpus: 1, ..job.amounts }, ..job.clone() };
    let pod = built(spot(), &gpu);
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
}

#[test]
fn commands_and_variables_reach_the_program_as_written() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let job = effective(Properties {
        command: vec!["sh".into(), "-c".into(), "echo $(HOME) $$ $x".into()],
        environment: vec![pair("A", "$(B)")],
        ..Properties::default()
    });
    let container = built(spot(), &job)["spec"]["containers"][0].clone();
    assert_eq!(container["args"][2], "echo $$(HOME) $$$$ $$x");
    assert_eq!(container["env"][0], json!({"name": "A", "value": "$$(B)"}));
    let aws: Vec<_> =
        (1..5).map(|i| (container["env"][i]["name"].clone(), container["env"][i]["value"].clone())).collect();
    assert_eq!(
        json!(aws),
        json!([
            ["AWS_BATCH_JOB_ID", "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e"],
            ["AWS_BATCH_JOB_ATTEMPT", "2"],
            ["AWS_BATCH_JQ_NAME", "queue-0"],
            ["AWS_BATCH_CE_NAME", "compute-0"]
        ])
    );
}

#[test]
fn volumes_and_memory_file_systems() {
    let job = effective(Properties {
        user: Some(User { uid: 1000, gid: Some(100) }),
        privileged: true,
        readonly_root: true,
        volumes: vec![
            Volume { name: "Data_Set".into(), source: Source::Host("/data".into()) },
            Volume { name: "scratch".into(), source: Source::Empty },
        ],
        mounts: vec![
            Mount { volume: "Data_Set".into(), path: "/in".into(), read_only: true },
            Mount { volume: "scratch".into(), path: "/tmp".into(), read_only: false },
        ],
        linux: Some(Box::new(Linux {
            tmpfs: vec![Tmpfs { path: "/run".into(), size_mib: 64, read_only: false }],
            shared_memory_mib: Some(512),
            ..Linux::default()
        })),
        ..Properties::default()
    });
    let spec = built(spot(), &job)["spec"].clone();
    let names = |list: &Value| -> Vec<String> {
        let items = list.as_array().expect("a list").iter();
        items.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let volumes = names(&spec["volumes"]);
    assert_eq!(names(&spec["containers"][0]["volumeMounts"]), volumes, "each volume is mounted once");
    assert!(volumes.iter().all(|name| name.len() <= 63 && !name.contains(['_', 'D'])), "{volumes:?}");
    assert_eq!(spec["volumes"][0]["hostPath"]["path"], "/data");
    assert_eq!(spec["volumes"][3]["emptyDir"], json!({"medium": "Memory", "sizeLimit": "512Mi"}));
    assert_eq!(
        spec["containers"][0]["securityContext"],
        json!({"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 1000, "runAsGroup": 100}),
        "what is privileged has it all"
    );
}

#[test]
fn an_environment_gives_its_pods_their_defaults() {
    let mut environment = spot();
    environment["network"] = json!("host");
    environment["podDefaults"] = json!({
        "labels": {"team": "render", "batchyard.io/attempt": "99"},
        "priorityClassName": "batch", "runtimeClassName": "nvidia", "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}]
    });
    let gpu = Effective { amounts: Amounts { gpus: 2, ..Amounts::default() }, ..Effective::default() };
    let pod = built(environment, &gpu);
    assert_eq!(pod["metadata"]["labels"]["team"], "render");
    assert_eq!(pod["metadata"]["labels"]["batchyard.io/attempt"], "2", "ours win");
    let spec = &pod["spec"];
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["dnsPolicy"], "ClusterFirstWithHostNet");
    assert_eq!((&spec["priorityClassName"], &spec["runtimeClassName"]), (&json!("batch"), &json!("nvidia")));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "2");
}

/// `strictFencing`: the scheduler leaves the pod alone until its uid is on record.
#[test]
fn b5_a_fenced_pod_waits_at_a_gate() {
    let effective = effective(Properties { image: "alpine".into(), ..Properties::default() });
    let pod = built(spot(), &effective);
    assert_eq!(pod["spec"].get("schedulingGates"), None);
    let mut fenced: Pod = serde_json::from_value(pod).expect("a pod");
    fenced.metadata.uid = Some("u".into());
    let gate = PodSchedulingGate { name: meta::FENCE.to_owned() };
    fenced.spec.as_mut().expect("a spec").scheduling_gates = Some(vec![gate]);
    crate::k8s::pods::trim(&mut fenced);
    assert!(crate::k8s::observe::pod(&fenced).is_some_and(|view| view.gated), "also in the cache");
}

#[test]
fn what_an_environment_puts_into_pods_is_listed() {
    let environment = json!({"type": "MANAGED", "network": "host", "podSecurity": "aws",
        "provisioner": {"static": {"nodeSelector": {"pool": "a"}}},
        "podDefaults": {"labels": {"team": "hpc"}, "annotations": {"cost": "centre"},
            "tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "a"},
            "priorityClassName": "gold", "schedulerName": "mine", "runtimeClassName": "nvidia",
            "imagePullSecrets": [{"name": "registry"}], "imagePullPolicy": "Always"}});
    let environment: ComputeEnvironmentSpec = serde_json::from_value(environment).expect("an environment");
    let members = pod_members(&environment);
    assert_eq!(members.len(), 11, "{members:?}");
    assert!(members.contains(&("podDefaults.labels", vec!["team", "hpc"])));
    assert!(pod_members(&ComputeEnvironmentSpec::default()).is_empty());
}
