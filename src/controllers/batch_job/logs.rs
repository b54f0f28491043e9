//! Where the output of a job goes: whether it may, what people are told of it, and whether its log sidecar works.
//!
//! All of it is read from what is there anyway, the pod and its status, and told with what is written anyway.

use std::sync::Arc;

use batchyard_core::job::decide::Readiness;
use batchyard_core::job::record::Record;
use batchyard_core::logging::health::{self, Verdict};
use batchyard_core::logging::sidecar::{CONTAINER, is_ours};
use batchyard_core::logging::{Driver, text};
use batchyard_core::reason::{self, logs};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::controllers::Context;
use crate::crd::BatchJob;
use crate::crd::batch_job::LogStatus;
use crate::crd::convert::Plan;
use crate::k8s::{logging, meta};

/// Refuses a job whose output may not go where it should in one of its queue's environments: any of them may get it.
pub(super) fn refusal(job: &BatchJob, plan: &Plan, context: &Context) -> Option<Readiness> {
    let (namespace, queue) = (job.namespace()?, context.caches.queue_of(job)?);
    let name = queue.name_any();
    let order = queue.spec.compute_environment_order.iter();
    for environment in
        order.filter_map(|entry| context.caches.environment(&namespace, &entry.compute_environment))
    {
        let place = (environment.name_any(), &environment.spec);
        for effective in plan.all_effective() {
            let routes = logging::routes(effective, (&name, &queue.spec), (&place.0, place.1));
            if let Err(why) = routes {
                return Some(Readiness::Refused(reason::cannot_run(&why)));
            }
        }
    }
    None
}

/// What is seen of the output of the current or last attempt.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    /// Where it goes, if it goes somewhere.
    pub(super) logs: Option<LogStatus>,
    /// `LogsRouted`, with a word and a sentence, once there is something to say.
    pub(super) routed: Option<(bool, &'static str, String)>,
    /// Whether a sink does not take it, while the attempt is under way, and what is said of that.
    pub(super) sinks: (Verdict, String),
}

/// Looks at the pod of the current or last attempt; nothing if it is gone, or nobody wants its output anywhere.
pub(super) fn look(record: &Record, pods: &[Arc<Pod>], now: Timestamp) -> Option<Seen> {
    let current = record.current.as_ref().map(|current| &current.pod_uid);
    let uid = current.or_else(|| record.attempts.last().map(|attempt| &attempt.pod_uid))?;
    let pod = pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(uid))?;
    let said = |key: &str| pod.annotations().get(key).cloned();
    if let Some(why) = said(meta::LOGS_NOT_ROUTED) {
        let routed = Some((false, logs::not_routed_word(&why), logs::not_routed(&why)));
        return Some(Seen { logs: None, routed, sinks: (Verdict::Well, String::new()) });
    }
    let driver = said(meta::LOG_DRIVER)?;
    let verdict = if current.is_some() { health(pod, now) } else { Verdict::Well };
    let sinks = (verdict, logs::sink_unavailable(&pod.name_any(), &driver));
    let logs = LogStatus {
        log_driver: Some(driver),
        log_group_name: said(meta::LOG_GROUP),
        log_stream_name: said(meta::LOG_STREAM),
    };
    let routed = standing(pod, &logs, current.is_some());
    Some(Seen { logs: Some(logs), routed, sinks })
}

/// What the kubelet's question to the sidecar says, where it asks.
fn health(pod: &Pod, now: Timestamp) -> Verdict {
    let containers = pod.spec.iter().filter_map(|spec| spec.init_containers.as_ref()).flatten();
    let statuses = pod.status.iter().filter_map(|status| status.init_container_statuses.as_ref()).flatten();
    let is_asked = containers.into_iter().any(|one| one.name == CONTAINER && one.readiness_probe.is_some());
    let Some(status) = statuses.into_iter().find(|status| status.name == CONTAINER && is_asked) else {
        return Verdict::Well;
    };
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    let runs_since = running.and_then(|running| running.started_at.as_ref()).map(|time| time.0);
    health::verdict(health::Seen { runs_since, ready: status.ready }, now)
}

/// When to look again, if it is too early to tell whether its sinks take what there is.
pub(super) fn again(record: &Record, pods: &[Arc<Pod>], now: Timestamp) -> Option<Timestamp> {
    match look(record, pods, now)?.sinks.0 {
        Verdict::Later(at) => Some(at),
        Verdict::Well | Verdict::Unavailable => None,
    }
}

/// How the sidecar does. One that ends with its pod, when the job's containers have ended, does well.
fn standing(pod: &Pod, logs: &LogStatus, is_under_way: bool) -> Option<(bool, &'static str, String)> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let ours: Vec<_> = statuses.iter().filter(|status| is_ours(&status.name)).collect();
    if let Some(end) = ours.iter().find_map(|status| ended(status, is_under_way)) {
        let ContainerStateTerminated { exit_code, reason, message, .. } = end;
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let why = logs::sidecar_ended(&pod.name_any(), *exit_code, &said(reason), &said(message));
        return Some((false, "SidecarEnded", why));
    }
    let runs = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    if ours.is_empty() || !ours.iter().all(runs) {
        return None;
    }
    let drivers = logs.log_driver.iter().flat_map(|names| names.split(',')).filter_map(Driver::parse);
    let (group, stream) = (logs.log_group_name.as_deref(), logs.log_stream_name.as_deref());
    let each = drivers.map(|driver| text::routed(driver, group, stream));
    // The job has its output sent all the same; what is less than it states is told.
    let each: Vec<_> = each.chain(pod.annotations().get(meta::LOG_BUFFER).cloned()).collect();
    Some((true, "SidecarRuns", each.join("; ")))
}

/// How one of them ended, last.
fn ended(status: &ContainerStatus, is_under_way: bool) -> Option<&ContainerStateTerminated> {
    let now = status.state.as_ref().and_then(|state| state.terminated.as_ref()).filter(|_| is_under_way);
    now.or_else(|| status.last_state.as_ref()?.terminated.as_ref())
}

#[cfg(test)]
mod tests {
    use batchyard_core::job::record::{Attempt, Current};
    use serde_json::{Value, json};

    use super::*;

    fn seen(annotations: Value, sidecar: Value) -> Option<Seen> {
        look_at(pod(&annotations, &sidecar))
    }

    fn pod(annotations: &Value, sidecar: &Value) -> Value {
        json!({"metadata": {"name": "p", "uid": "u", "annotations": annotations},
            "status": {"initContainerStatuses": [{"name": "batchyard-log", "image": "", "imageID": "",
                "ready": true, "restartCount": 0, "state": sidecar["state"], "lastState": sidecar["last"]}]}})
    }

    fn look_at(pod: Value) -> Option<Seen> {
        look_at_time(pod, 0)
    }

    fn look_at_time(pod: Value, second: i64) -> Option<Seen> {
        let pod = serde_json::from_value(pod).expect("a pod");
        look(&under_way(), &[Arc::new(pod)], Timestamp::from_second(second).expect("a time"))
    }

    fn under_way() -> Record {
        let current = Current { pod_uid: "u".to_owned(), ..Current::default() };
        Record { current: Some(current), ..Record::default() }
    }

    #[test]
    fn what_the_kubelet_s_question_says() {
        let annotations = json!({meta::LOG_DRIVER: "splunk"});
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let start = "2026-01-01T00:00:00Z".parse::<Timestamp>().expect("a time");
        let in_a_minute = Timestamp::from_second(start.as_second() + 60).expect("a time");
        let of = |state: &Value, ready: bool, is_asked: bool, after: i64| {
            let mut pod = pod(&annotations, &json!({"state": state, "last": null}));
            pod["status"]["initContainerStatuses"][0]["ready"] = ready.into();
            let probe = if is_asked { json!({"httpGet": {"port": 24226}}) } else { Value::Null };
            pod["spec"] = json!({"containers": [],
                "initContainers": [{"name": "batchyard-log", "readinessProbe": probe}]});
            let seen = look_at_time(pod.clone(), start.as_second() + after).expect("routed");
            let pod = [Arc::new(serde_json::from_value(pod).expect("a pod"))];
            let now = Timestamp::from_second(start.as_second() + after).expect("a time");
            let ended = look(&Record { attempts: vec![ended_attempt()], ..Record::default() }, &pod, now);
            assert_eq!(
                ended.expect("routed").sinks.0,
                Verdict::Well,
                "an attempt that has ended has no trouble"
            );
            let wake = again(&under_way(), &pod, now);
            assert_eq!(wake.is_some(), matches!(seen.sinks.0, Verdict::Later(_)));
            seen.sinks
        };
        for (state, ready, is_asked, after, want) in [
            (&running, true, true, 1000, Verdict::Well),
            (&running, false, true, 0, Verdict::Later(in_a_minute)),
            (&running, false, true, 60, Verdict::Unavailable),
            (&running, false, false, 1000, Verdict::Well),
            (&waiting, false, true, 1000, Verdict::Well),
        ] {
            let (verdict, text) = of(state, ready, is_asked, after);
            assert_eq!(verdict, want, "{state} {ready} {is_asked} {after}");
            assert_eq!(
                text,
                "Output waits in pod p (splunk): a sink is away, refuses it or takes too little. kubectl logs p \
                 --container batchyard-log says why"
            );
        }
    }

    fn ended_attempt() -> Attempt {
        Attempt { pod_uid: "u".to_owned(), ..Attempt::default() }
    }

    #[test]
    fn what_is_told_of_output() {
        let annotations =
            json!({meta::LOG_DRIVER: "awslogs", meta::LOG_GROUP: "/g", meta::LOG_STREAM: "d/default/p"});
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let of = |state: &Value, last: &Value| {
            let seen = seen(annotations.clone(), json!({"state": state, "last": last})).expect("routed");
            assert_eq!(seen.logs.expect("told").log_stream_name.as_deref(), Some("d/default/p"));
            seen.routed
        };
        assert_eq!(of(&json!({"waiting": {"reason": "PodInitializing"}}), &Value::Null), None);
        assert_eq!(
            of(&running, &Value::Null),
            Some((true, "SidecarRuns", "awslogs: log group /g, log stream d/default/p".to_owned()))
        );
        let mut with_cut = annotations.clone();
        with_cut[meta::LOG_BUFFER] = "max-buffer-size is cut".into();
        let cut = seen(with_cut, json!({"state": running, "last": null})).expect("routed").routed;
        assert_eq!(
            cut.map(|(is_routed, _, message)| (is_routed, message)),
            Some((true, "awslogs: log group /g, log stream d/default/p; max-buffer-size is cut".to_owned()))
        );
        for (state, last) in [(&ended, &Value::Null), (&waiting, &ended), (&running, &ended)] {
            let (routed, word, why) = of(state, last).expect("told");
            assert_eq!((routed, word), (false, "SidecarEnded"));
            assert!(why.contains("pod p ended with exit code 1 while the job ran"), "{why}");
        }
        // The helper that follows the output is a part of it.
        let follower = |state: Value, message: &str| {
            let mut pod = pod(&annotations, &json!({"state": running, "last": null}));
            let last = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": message}});
            let status = json!({"name": "batchyard-log-follow", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": state, "lastState": if message.is_empty() { Value::Null } else { last }});
            pod["status"]["initContainerStatuses"].as_array_mut().expect("a list").push(status);
            look_at(pod).expect("routed").routed
        };
        assert_eq!(follower(json!({"waiting": {"reason": "PodInitializing"}}), ""), None);
        assert_eq!(
            follower(running.clone(), "").map(|(routed, word, _)| (routed, word)),
            Some((true, "SidecarRuns"))
        );
        let (routed, _, why) = follower(waiting.clone(), "{}\nbatchyard: may not be read\n").expect("told");
        assert!(!routed && why.ends_with("the kubelet starts it again: batchyard: may not be read"), "{why}");
        let unrouted = seen(json!({meta::LOGS_NOT_ROUTED: "Because."}), Value::Null).expect("told");
        let (routed, word, why) = unrouted.routed.expect("told");
        assert_eq!((routed, word, unrouted.logs), (false, "NotRouted", None));
        assert!(why.ends_with("Because."), "{why}");
        let shared = logs::shared_processes("pidMode", &["variables from Secrets"]);
        let unrouted = seen(json!({meta::LOGS_NOT_ROUTED: shared}), Value::Null).expect("told");
        assert_eq!(
            unrouted.routed.map(|(routed, word, why)| (routed, word, why.ends_with(&shared))),
            Some((false, "SharedProcesses", true))
        );
        assert_eq!(seen(json!({}), Value::Null), None);
    }
}
