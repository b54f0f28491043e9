//! Where the output of jobs goes: the sidecar of their pods, its Secret, and what becomes of a job without it.

use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue};
use batchyard_core::job::phase::Phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::kubelet::{PodHandle, seconds};
use super::world::{World, job};
use crate::support::{audit, wait};

const SIDECAR: &str = "batchyard-log";

fn splunk() -> Value {
    json!({"logDriver": "splunk",
        "options": {"splunk-url": "https://splunk.example:8088", "splunk-token": "B5A79AAD-D822"}})
}

fn awslogs(group: &str) -> Value {
    json!({"logDriver": "awslogs", "options": {"awslogs-group": group, "awslogs-region": "eu-west-1"}})
}

fn logging(configuration: Value) -> Value {
    json!({"containerProperties": {"logConfiguration": configuration}})
}

/// A condition of an object, with its status, reason and message.
fn condition(object: &impl serde::Serialize, type_: &str) -> Option<(String, String, String)> {
    let object = serde_json::to_value(object).expect("plain data");
    let mut all = object["status"]["conditions"].as_array()?.iter();
    let found = all.rfind(|condition| condition["type"] == type_)?;
    let text = |member: &str| found[member].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Waits until a job has this condition.
async fn until_condition(world: &World, job: &str, type_: &str) -> (String, String, String) {
    let api = world.api::<BatchJob>();
    let found = wait::until(&api, job, type_, |job| condition(job, type_).is_some()).await;
    condition(&found, type_).expect("it is there")
}

fn init_containers(pod: &Pod) -> Vec<String> {
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    inits.iter().map(|container| container.name.clone()).collect()
}

/// The Secret that a pod's sidecar has its configuration from.
async fn secret_of(world: &World, pod: &Pod) -> Secret {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let volume = volumes.iter().find(|volume| volume.name == "batchyard-log-config").expect("a volume");
    let name = volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()).expect("a Secret");
    world.api::<Secret>().get(&name).await.expect("it is there before the pod")
}

fn text(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().and_then(|data| data.get(key)).expect(key);
    String::from_utf8(data.0.clone()).expect("text")
}

/// The kubelet reports the sidecar's state, and that of the job's container.
async fn reports(pod: &PodHandle<'_>, phase: &str, sidecar: Value, main: Value) {
    reports_answer(pod, phase, (sidecar, true), main).await;
}

/// The same, with what the sidecar answers when it is asked.
async fn reports_answer(pod: &PodHandle<'_>, phase: &str, (sidecar, is_ready): (Value, bool), main: Value) {
    let past = seconds(Timestamp::now() - SignedDuration::from_secs(30));
    let runs = main.get("waiting").is_none();
    let status = |name: &str, state: Value| {
        let ready = state.get("running").is_some() && (is_ready || name != SIDECAR);
        json!({"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state,
            "lastState": {}})
    };
    let flag = |is: bool| if is { "True" } else { "False" };
    let patch = json!({"status": {"phase": phase,
        "conditions": [
            {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": past},
            {"type": "Initialized", "status": flag(runs), "lastTransitionTime": past}],
        "initContainerStatuses": [status(SIDECAR, sidecar)],
        "containerStatuses": [status("default", main)]}});
    let pods: Api<Pod> = Api::namespaced(pod.world.kubelet.clone(), &pod.world.namespace);
    let answer = pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    answer.unwrap_or_else(|e| panic!("status of {}: {e}", pod.name));
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

fn running() -> Value {
    running_for(0)
}

fn running_for(so_long: i64) -> Value {
    json!({"running": {"startedAt": seconds(Timestamp::now() - SignedDuration::from_secs(so_long))}})
}

fn exited(code: i32) -> Value {
    let now = seconds(Timestamp::now());
    let reason = if code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now,
        "containerID": "containerd://0"}})
}

/// How often a Secret was written until the audit log knows of two pods. To write the same again changes no object.
async fn writes_of_secrets(mark: &audit::Mark, world: &World) -> usize {
    let namespace = &world.namespace;
    wait::answer("two pods in the audit log", namespace, || {
        let writes = mark.writes(namespace);
        let pods = writes.iter().filter(|write| write.verb == "create" && write.resource == "pods").count();
        std::future::ready(
            (pods == 2).then(|| writes.iter().filter(|write| write.resource == "secrets").count()),
        )
    })
    .await
}

/// How often a job's status was written, until the audit log knows of it.
async fn writes_of_status(mark: &audit::Mark, world: &World) -> usize {
    wait::answer("a write in the audit log", &world.namespace, || {
        let writes = mark.writes(&world.namespace);
        let count = writes.iter().filter(|write| write.resource == "batchjobs/status").count();
        std::future::ready((count > 0).then_some(count))
    })
    .await
}

#[tokio::test]
async fn jobs_of_a_revision_share_a_configuration_and_no_token_is_anywhere_else() {
    let world = World::with_queue("log-secret").await;
    let mark = audit::mark();
    world.definition("logs", logging(splunk())).await;
    world.ready::<JobDefinition>("logs").await;
    let definition = world.api::<JobDefinition>().get("logs").await.expect("it exists");
    let (status, _, message) = condition(&definition, "PlainTextSecret").expect("it is flagged");
    assert_eq!(status, "True");
    assert!(message.starts_with("containerProperties.logConfiguration.options.splunk-token: "), "{message}");
    assert!(!message.contains("B5A79AAD"), "{message}");
    assert_eq!(condition(&definition, "FieldsIgnored"), None);
    let mut secrets = Vec::new();
    for name in ["a", "b"] {
        let spec = job(json!({"containerProperties": null, "jobDefinition": "logs"}));
        let job = world.submit(name, spec).await;
        let pod = job.pod(1).await.get().await;
        assert_eq!(init_containers(&pod), [SIDECAR]);
        assert!(!serde_json::to_string(&pod).expect("plain data").contains("B5A79AAD"));
        secrets.push(secret_of(&world, &pod).await);
    }
    assert_eq!(secrets[0].name_any(), secrets[1].name_any());
    match mark {
        Some(mark) => assert_eq!(writes_of_secrets(&mark, &world).await, 1),
        None => println!("SKIPPED: this cluster has no audit log that can be read, so nothing is counted"),
    }
    let yaml = text(&secrets[0], "fluent-bit.yaml");
    assert!(yaml.contains("splunk.example") && !yaml.contains("B5A79AAD"), "{yaml}");
    assert_eq!(text(&secrets[0], "BATCHYARD_SECRET_0"), "B5A79AAD-D822");
    let owner = &secrets[0].owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("ControllerRevision", "logs-1"));
}

#[tokio::test]
async fn the_job_ends_while_its_sidecar_still_sends() {
    let world = World::with_queue("log-ends").await;
    world.definition("logs", logging(awslogs("/g"))).await;
    world.ready::<JobDefinition>("logs").await;
    let job = world.submit("job", job(json!({"containerProperties": null, "jobDefinition": "logs"}))).await;
    let pod = job.pod(1).await;
    let stream = format!("logs/default/{}", pod.name);
    pod.bind().await;
    reports(&pod, "Running", running(), running()).await;
    let record = job.reaches(Phase::Running).await;
    assert_eq!(record.current.expect("a pod").log_stream_name.as_ref(), Some(&stream));
    let (status, reason, message) = until_condition(&world, "job", "LogsRouted").await;
    assert_eq!((status.as_str(), reason.as_str()), ("True", "SidecarRuns"));
    assert_eq!(message, format!("awslogs: log group /g, log stream {stream}"));
    let logs = job.get().await.status.and_then(|status| status.logs).expect("told");
    assert_eq!(
        (logs.log_driver.as_deref(), logs.log_group_name.as_deref(), logs.log_stream_name.as_ref()),
        (Some("awslogs"), Some("/g"), Some(&stream))
    );
    reports(&pod, "Running", running(), exited(0)).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!(record.attempts[0].log_stream_name.as_ref(), Some(&stream));
    pod.is_released().await;
    assert_eq!(pod.get().await.metadata.deletion_timestamp, None, "it is left to send");
}

#[tokio::test]
async fn a_sink_that_takes_nothing_is_told_of_once_and_changes_nothing() {
    let world = World::with_queue("log-sink").await;
    let job = world.submit("job", job(logging(splunk()))).await;
    let pod = job.pod(1).await;
    let spec = pod.get().await.spec.expect("a spec");
    let sidecar = &spec.init_containers.expect("one")[0];
    assert!(sidecar.readiness_probe.is_some(), "the kubelet asks");
    pod.bind().await;
    // It was not asked yet, and for all that anybody knows never answers well: no event tells that a minute is over.
    let started = Timestamp::now();
    reports_answer(&pod, "Running", (running_for(55), false), running()).await;
    job.reaches(Phase::Running).await;
    let (status, reason, message) = until_condition(&world, "job", "LogSinkUnavailable").await;
    assert!(
        Timestamp::now().duration_since(started) > SignedDuration::from_secs(4),
        "a minute after its start"
    );
    assert_eq!((status.as_str(), reason.as_str()), ("True", "OutputNotTaken"));
    assert!(message.contains(&format!("kubectl logs {} --container batchyard-log", pod.name)), "{message}");
    let record = job.reaches(Phase::Running).await;
    assert_eq!((record.attempts.len(), record.current.expect("a pod").pod_name), (0, pod.name.clone()));
    let told = job.get().await;
    let mark = audit::mark();
    // The same once more is no news.
    reports_answer(&pod, "Running", (running_for(70), false), running_for(70)).await;
    reports_answer(&pod, "Running", (running_for(80), true), running_for(70)).await;
    let api = world.api::<BatchJob>();
    let is_well = |job: &BatchJob| condition(job, "LogSinkUnavailable").is_none();
    let well = wait::until(&api, "job", "no trouble", is_well).await;
    assert_eq!(well.metadata.generation, told.metadata.generation);
    match mark {
        Some(mark) => assert_eq!(writes_of_status(&mark, &world).await, 1),
        None => println!("SKIPPED: this cluster has no audit log that can be read, so nothing is counted"),
    }
    // What is so when the job ends stays told, and is no reason to fail.
    reports_answer(&pod, "Running", (running_for(200), false), running_for(70)).await;
    until_condition(&world, "job", "LogSinkUnavailable").await;
    reports_answer(&pod, "Running", (running_for(200), false), exited(0)).await;
    job.reaches(Phase::Succeeded).await;
    assert!(condition(&job.get().await, "LogSinkUnavailable").is_some(), "not all of it may have arrived");
    reports_answer(&pod, "Succeeded", (exited(0), false), exited(0)).await;
    pod.is_released().await;
}

#[tokio::test]
async fn nobody_is_asked_where_the_answer_would_cost_something() {
    let world = World::with_queue("log-unasked").await;
    let plain = world.submit("plain", job(logging(splunk()))).await.pod(1).await.get().await;
    world.changed_environment("pool", json!({"network": "host"})).await;
    let host = world.submit("host", job(logging(splunk()))).await.pod(1).await.get().await;
    let probe = |pod: &Pod| {
        let spec = pod.spec.as_ref().expect("a spec");
        spec.init_containers.as_ref().expect("one")[0].readiness_probe.clone()
    };
    assert!(probe(&plain).is_some());
    assert_eq!(host.spec.as_ref().and_then(|spec| spec.host_network), Some(true));
    assert_eq!(probe(&host), None, "another pod of the node would have the port");
    let (with, without) = (secret_of(&world, &plain).await, secret_of(&world, &host).await);
    assert!(text(&with, "fluent-bit.yaml").contains("http_server"));
    assert!(!text(&without, "fluent-bit.yaml").contains("http_server"));
}

#[tokio::test]
async fn a_sidecar_that_does_not_start_costs_no_attempt() {
    let world = World::with_queue("log-late").await;
    world.changed_environment("pool", json!({"logging": {"startTimeoutSeconds": 1}})).await;
    let job = world.submit("job", job(logging(splunk()))).await;
    let first = job.pod(1).await;
    first.bind().await;
    reports(&first, "Pending", waiting("ImagePullBackOff"), waiting("PodInitializing")).await;
    first.is_deleted().await;
    first.vanishes().await;
    let second = wait::answer("a pod without a sidecar", &world.namespace, || async {
        let pods = world.pods().await;
        pods.into_iter().map(|pod| pod.name_any()).find(|name| *name != first.name)
    })
    .await;
    let second = PodHandle { world: &world, name: second };
    assert_eq!(init_containers(&second.get().await), [""; 0]);
    second.bind().await;
    second.starts().await;
    job.reaches(Phase::Running).await;
    let (status, reason, message) = until_condition(&world, "job", "LogsRouted").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotRouted"));
    assert!(message.contains("Log sidecar did not start within 1 s: ImagePullBackOff"), "{message}");
    second.exits(0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!((record.attempts.len(), record.attempts[0].pod_name == second.name), (1, true));
    assert_eq!(record.placements[0].pod_name, first.name);
}

/// The job could look into such a sidecar.
#[tokio::test]
async fn a_pod_whose_processes_are_shared_has_no_sidecar_with_secrets() {
    let world = World::with_queue("log-shared").await;
    let shared = |configuration: Value| {
        let mut spec = logging(configuration);
        spec["containerProperties"]["linuxParameters"] = json!({"initProcessEnabled": true});
        job(spec)
    };
    let plain = world.submit("plain", shared(json!({"logDriver": "stdout"}))).await;
    assert_eq!(init_containers(&plain.pod(1).await.get().await), [SIDECAR], "it has nothing to take");
    let job = world.submit("job", shared(splunk())).await;
    let pod = job.pod(1).await;
    let made = pod.get().await;
    assert_eq!(init_containers(&made), [""; 0]);
    let volumes = made.spec.and_then(|spec| spec.volumes).unwrap_or_default();
    assert!(!volumes.iter().any(|volume| volume.name.starts_with(SIDECAR)), "{volumes:?}");
    let secrets = world.api::<Secret>().list(&ListParams::default()).await.expect("an answer");
    let tells = |secret: &&Secret| secret.data.iter().flatten().any(|(key, _)| key.starts_with("BATCHYARD_"));
    assert_eq!(secrets.items.iter().find(tells), None, "nobody needs the token");
    pod.bind().await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    let (status, reason, message) = until_condition(&world, "job", "LogsRouted").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SharedProcesses"));
    for part in ["containerProperties.linuxParameters.initProcessEnabled", "variables from Secrets"] {
        assert!(message.contains(part), "{message}");
    }
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn a_sidecar_that_crashes_is_told_of_and_changes_nothing() {
    let world = World::with_queue("log-crash").await;
    let job = world.submit("job", job(logging(splunk()))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    reports(&pod, "Running", exited(1), running()).await;
    job.reaches(Phase::Running).await;
    let (status, reason, message) = until_condition(&world, "job", "LogsRouted").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SidecarEnded"));
    assert!(message.contains("ended with exit code 1 while the job ran"), "{message}");
    reports(&pod, "Succeeded", exited(1), exited(0)).await;
    job.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn what_an_environment_forbids_is_refused_when_the_job_comes_and_when_its_pod_does() {
    let world = World::with_queue("log-policy").await;
    let policy = json!({"logging": {"allowedLogGroups": ["/aws/batch/custom/*"]}});
    // No pod can be made, for which the same would be asked.
    let disabled = json!({"state": "DISABLED", "logging": policy["logging"]});
    world.changed_environment("pool", disabled.clone()).await;
    let refused = world.submit("refused", job(logging(awslogs("/aws/batch/job")))).await;
    let record = refused.reaches(Phase::Failed).await;
    let why = record.status_reason.unwrap_or_default();
    assert!(why.starts_with("Invalid job definition: containerProperties.logConfiguration: "), "{why}");
    assert!(
        why.ends_with("does not allow the log group /aws/batch/job; allowed: /aws/batch/custom/*"),
        "{why}"
    );
    world.changed_environment("pool", json!({"state": "ENABLED", "logging": policy["logging"]})).await;
    let allowed = world.submit("allowed", job(logging(awslogs("/aws/batch/custom/env-queue")))).await;
    allowed.pod(1).await;
    // It was allowed when it came, and is not any more when its turn comes.
    world.changed_environment("pool", disabled).await;
    let late = world.submit("late", job(logging(awslogs("/aws/batch/custom/late")))).await;
    late.until("a wait", |record| record.phase() == Phase::Runnable).await;
    world.environment("pool", json!({"logging": {"allowedDrivers": ["splunk"]}})).await;
    let record = late.reaches(Phase::Failed).await;
    let why = record.status_reason.unwrap_or_default();
    assert!(why.ends_with("does not allow the log driver awslogs; allowed: splunk"), "{why}");
    let list = ListParams::default().labels("batchyard.io/job-name=late");
    assert!(world.api::<Pod>().list(&list).await.expect("an answer").items.is_empty());
}

#[tokio::test]
async fn what_cannot_be_honoured_is_told_where_it_stands() {
    let world = World::with_queue("log-invalid").await;
    let bad = json!({"logDriver": "splunk", "options": {"splunk-token": "t", "splunk-uri": "x"}});
    let member = "containerProperties.logConfiguration.options";
    let want = [
        format!("{member}.splunk-uri: the driver splunk has no such option"),
        format!("{member}.splunk-url: it is required"),
    ];
    world.definition("bad", logging(bad.clone())).await;
    let definition = wait::until(&world.api::<JobDefinition>(), "bad", "a verdict", |definition| {
        condition(definition, "Ready").is_some_and(|(status, ..)| status == "False")
    })
    .await;
    let (_, reason, message) = condition(&definition, "Ready").expect("told");
    assert_eq!(reason, "Invalid");
    want.iter().for_each(|want| assert!(message.contains(want), "{message}"));
    let refused =
        world.submit("job", job(json!({"containerProperties": null, "jobDefinition": "bad"}))).await;
    let why = refused.reaches(Phase::Failed).await.status_reason.unwrap_or_default();
    want.iter().for_each(|want| assert!(why.contains(want), "{why}"));
    world.queue("queue", json!({"logging": {"logConfiguration": bad}})).await;
    wait::until(&world.api::<JobQueue>(), "queue", "a verdict", |queue| {
        condition(queue, "Ready").is_some_and(|(.., message)| {
            message.contains("logging.logConfiguration.options.splunk-url: it is required")
        })
    })
    .await;
    let of_node = json!({"source": "API", "logConfiguration": {"logDriver": "json-file"}});
    let environment = world.environment("pool", json!({"logging": of_node})).await;
    let api: Api<ComputeEnvironment> = world.environments();
    wait::until(&api, &environment.name_any(), "a verdict", |environment| {
        condition(environment, "Ready").is_some_and(|(.., message)| {
            message.contains("logging.logConfiguration.logDriver: json-file writes into a")
        })
    })
    .await;
}

#[tokio::test]
async fn a_default_of_the_queue_reaches_jobs_that_say_nothing() {
    let world = World::with_queue("log-default").await;
    world.changed_environment("pool", json!({"logging": {"awslogs": {"region": "eu-west-1"}}})).await;
    world.queue("queue", json!({"logging": {"logConfiguration": {"logDriver": "awslogs"}}})).await;
    world.ready::<JobQueue>("queue").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await.get().await;
    assert_eq!(pod.annotations()["batchyard.io/log-group"], "/aws/batch/job");
    let secret = secret_of(&world, &pod).await;
    assert_eq!(secret.owner_references()[0].kind, "JobQueue");
    assert!(text(&secret, "fluent-bit.yaml").contains("eu-west-1"));
}

/// A namespace whose pods may see no folder of their node has jobs without a log sidecar.
#[tokio::test]
async fn a_namespace_that_takes_no_sidecar_has_its_jobs_all_the_same() {
    let world = World::with_queue("log-baseline").await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let namespaces: Api<Namespace> = Api::all(world.user.clone());
    let answer = namespaces.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(label)).await;
    answer.expect("the namespace exists");
    let job = world.submit("job", job(logging(splunk()))).await;
    let pod = job.pod(1).await;
    let made = pod.get().await;
    assert_eq!(init_containers(&made), [""; 0]);
    let why = &made.annotations()["batchyard.io/logs-not-routed"];
    assert!(why.starts_with("Pods with a log sidecar are refused: ") && why.contains("hostPath"), "{why}");
}

/// The job's Secret need not be there: the sidecar waits for nothing that the job would have to wait for.
#[tokio::test]
async fn a_secret_that_is_missing_holds_up_no_job() {
    let world = World::with_queue("log-missing").await;
    let configuration = json!({"logDriver": "splunk", "options": {"splunk-url": "https://splunk.example:8088"},
        "secretOptions": [{"name": "splunk-token", "valueFrom": "nowhere:token"}]});
    let job = world.submit("job", job(logging(configuration))).await;
    let made = job.pod(1).await.get().await;
    let sidecar = serde_json::to_value(&made).expect("plain data")["spec"]["initContainers"][0].clone();
    let env = sidecar["env"].as_array().expect("variables").clone();
    let reference = json!({"name": "nowhere", "key": "token", "optional": true});
    assert!(env.iter().any(|one| one["valueFrom"]["secretKeyRef"] == reference), "{env:?}");
    let required = |one: &&Value| {
        let reference = &one["valueFrom"]["secretKeyRef"];
        !reference.is_null() && reference["optional"] != json!(true)
    };
    assert_eq!(env.iter().find(required), None);
}

/// The objects of examples/logging, in the order in which kubectl takes them.
fn example() -> Vec<Value> {
    let files = ["compute-environment", "job-definitions", "job-queue", "jobs", "policy"];
    let read = |file: &str| {
        let path = format!("{}/examples/logging/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let texts: Vec<String> = files.into_iter().map(read).collect();
    let documents = texts.iter().flat_map(|text| text.split("\n---\n"));
    documents.map(|text| serde_saphyr::from_str(text).expect("an object")).collect()
}

/// Its files as they are, but for the environments' nodes: three jobs run with a sidecar, and so does the one that the
/// post's policy allows; the others are refused with the rule that forbids them.
#[tokio::test]
async fn the_example_runs_and_its_policy_forbids_what_it_says() {
    let world = World::empty("log-example").await;
    for environment in ["od-ce", "od-ce-policy"] {
        world.node(environment, environment, 4).await;
    }
    for object in example() {
        let (name, spec) = (object["metadata"]["name"].as_str().expect("a name"), object["spec"].clone());
        match object["kind"].as_str().expect("a kind") {
            "ComputeEnvironment" => drop(world.environment(name, spec).await),
            "JobQueue" => drop(world.apply::<JobQueue>(name, spec).await),
            "JobDefinition" => drop(world.apply::<JobDefinition>(name, spec).await),
            "BatchJob" => drop(world.apply::<BatchJob>(name, spec).await),
            kind => assert_eq!(kind, "Secret", "it need not be there"),
        }
    }
    for (name, rule) in [
        (
            "policy-splunk",
            "allowedDrivers of ComputeEnvironment CE does not allow the log driver splunk; allowed: awslogs",
        ),
        (
            "policy-elsewhere",
            "allowedLogGroups of ComputeEnvironment CE does not allow the log group /aws/batch/job; allowed: \
             /aws/batch/custom/*",
        ),
    ] {
        let why = world.job(name).reaches(Phase::Failed).await.status_reason.unwrap_or_default();
        let rule = rule.replace("CE", &world.environment_name("od-ce-policy"));
        let member = "containerProperties.logConfiguration";
        assert_eq!(why, format!("Invalid job definition: {member}: logging.{rule}"), "{name}");
    }
    for (name, node) in
        [("test", "od-ce"), ("splunk", "od-ce"), ("splunk-secret", "od-ce"), ("policy-env", "od-ce-policy")]
    {
        let job = world.job(name);
        let pod = job.pod(1).await;
        assert_eq!(init_containers(&pod.get().await), [SIDECAR], "{name}");
        // A pod on a node that nobody knows has lost it.
        pod.bind_to(&format!("{}-{node}", world.namespace)).await;
        reports(&pod, "Running", running(), running()).await;
        job.reaches(Phase::Running).await;
        reports(&pod, "Running", running(), exited(0)).await;
        job.reaches(Phase::Succeeded).await;
    }
    for (name, flagged) in [("alpine-splunk", true), ("alpine-splunk-secret", false)] {
        let definition = world.api::<JobDefinition>().get(name).await.expect("it exists");
        assert_eq!(condition(&definition, "PlainTextSecret").is_some(), flagged, "{name}");
    }
    let logs = world.job("test").get().await.status.and_then(|status| status.logs).expect("told");
    assert_eq!(logs.log_group_name.as_deref(), Some("/aws/batch/custom/env-queue"));
}

/// Under the strictest rules for pods output is followed through the API, and not where its driver needs the node.
#[tokio::test]
async fn a_restricted_namespace_takes_a_sidecar_that_reads_through_the_api() {
    let world = World::with_queue("log-restricted").await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(world.user.clone());
    let answer = namespaces.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(label)).await;
    answer.expect("the namespace exists");
    let by_api = json!({"source": "API", "logConfiguration": splunk()});
    world.changed_environment("pool", json!({"logging": by_api})).await;
    let security = json!({"runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    let container = json!({"name": "app", "image": "busybox", "securityContext": security,
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}});
    let pod = json!({"podProperties": {"containers": [container]}});
    let job_of = |more: Value| {
        let mut spec = json!({"containerProperties": null, "eksProperties": pod});
        super::world::merge(&mut spec, more);
        job(spec)
    };
    let pod = world.submit("job", job_of(json!({}))).await.pod(1).await.get().await;
    assert_eq!(init_containers(&pod), [SIDECAR, "batchyard-log-follow"]);
    assert_eq!(pod.annotations().get("batchyard.io/logs-not-routed"), None);
    let yaml = text(&secret_of(&world, &pod).await, "fluent-bit.yaml");
    assert!(yaml.contains("unix_path: /batchyard/buffer/forward.sock") && !yaml.contains("tail"), "{yaml}");
    let refused = world.submit("files", job(logging(json!({"logDriver": "json-file"})))).await;
    let why = refused.reaches(Phase::Failed).await.status_reason.unwrap_or_default();
    assert!(
        why.contains("containerProperties.logConfiguration.logDriver: json-file writes into a folder"),
        "{why}"
    );
}

/// The Role that people copy gives the right to read logs in its namespace, and nothing else.
#[tokio::test]
async fn the_example_lets_pods_read_logs_and_nothing_else() {
    let world = World::with_queue("log-role").await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/logging-api/read-logs.yaml");
    let file = std::fs::read_to_string(path).expect("a file");
    let mut objects = file.split("\n---\n");
    let mut next = || objects.next().expect("an object");
    let role: Role = serde_saphyr::from_str(next()).expect("a Role");
    let binding: RoleBinding = serde_saphyr::from_str(next()).expect("a RoleBinding");
    world.api::<Role>().create(&PostParams::default(), &role).await.expect("it is made");
    world.api::<RoleBinding>().create(&PostParams::default(), &binding).await.expect("it is made");
    let may = |namespace: &str, verb: &str, subresource: &str| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": format!("system:serviceaccount:{}:default", world.namespace),
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": "pods",
                "subresource": subresource}}});
        let review: SubjectAccessReview = serde_json::from_value(review).expect("a question");
        let api: Api<SubjectAccessReview> = Api::all(world.user.clone());
        async move {
            let answer = api.create(&PostParams::default(), &review).await.expect("an answer");
            answer.status.is_some_and(|status| status.allowed)
        }
    };
    wait::answer("the right", &world.namespace, || async {
        may(&world.namespace, "get", "log").await.then_some(())
    })
    .await;
    for (namespace, verb, subresource) in [
        (world.namespace.as_str(), "get", ""),
        (&world.namespace, "list", ""),
        (&world.namespace, "create", "exec"),
        ("default", "get", "log"),
    ] {
        assert!(!may(namespace, verb, subresource).await, "{namespace} {verb} {subresource}");
    }
}
