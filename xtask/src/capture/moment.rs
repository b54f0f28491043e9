//! When to take a picture of a pod: what must hold of its object.

use serde_json::Value;

type Test = Box<dyn Fn(&Value) -> bool + Send + Sync>;

/// Something that comes true of a pod.
pub(super) struct Moment {
    /// In words, for a wait that is in vain.
    pub(super) what: String,
    test: Test,
}

impl Moment {
    fn new(what: impl Into<String>, test: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        Self { what: what.into(), test: Box::new(test) }
    }

    /// Whether it has come.
    pub(super) fn has_come(&self, pod: &Value) -> bool {
        (self.test)(pod)
    }

    /// Both at once.
    pub(super) fn and(self, other: Self) -> Self {
        let what = format!("{} and {}", self.what, other.what);
        Self::new(what, move |pod| self.has_come(pod) && other.has_come(pod))
    }
}

/// All containers ended and the kubelet has cleared up after them, if the pod ever had a sandbox.
pub(super) fn ended() -> Moment {
    Moment::new("its end", |pod| {
        matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
            && condition(pod, "PodReadyToStartContainers").is_none_or(|c| c["status"] == "False")
    })
}

/// It has this phase.
pub(super) fn phase(phase: &'static str) -> Moment {
    Moment::new(format!("phase {phase}"), move |pod| pod["status"]["phase"] == phase)
}

/// It has failed with this reason.
pub(super) fn failed(reason: &'static str) -> Moment {
    Moment::new(format!("reason {reason}"), move |pod| {
        pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == reason
    })
}

/// Its container `main` runs.
pub(super) fn running() -> Moment {
    runs("main")
}

/// A container runs.
pub(super) fn runs(name: &'static str) -> Moment {
    Moment::new(format!("{name} to run"), move |pod| state(pod, name)["running"].is_object())
}

/// A container waits with this reason.
pub(super) fn waits(name: &'static str, reason: &'static str) -> Moment {
    Moment::new(format!("{name} to wait with {reason}"), move |pod| {
        state(pod, name)["waiting"]["reason"] == reason
    })
}

/// A container waits, whatever for.
pub(super) fn is_waiting(name: &'static str) -> Moment {
    Moment::new(format!("{name} to wait"), move |pod| state(pod, name)["waiting"]["message"].is_string())
}

/// A container has ended.
pub(super) fn has_ended(name: &'static str) -> Moment {
    Moment::new(format!("the end of {name}"), move |pod| state(pod, name)["terminated"].is_object())
}

/// A container was started again.
pub(super) fn was_restarted(name: &'static str) -> Moment {
    Moment::new(format!("a restart of {name}"), move |pod| {
        container(pod, name)["restartCount"].as_u64().is_some_and(|count| count > 0)
    })
}

/// The kubelet knows no more what became of a container.
pub(super) fn was_lost(name: &'static str) -> Moment {
    Moment::new(format!("the loss of {name}"), move |pod| {
        let states = [state(pod, name), &container(pod, name)["lastState"]];
        states.into_iter().any(|state| state["terminated"]["reason"] == "ContainerStatusUnknown")
    })
}

/// A condition has this status.
pub(super) fn is(kind: &'static str, status: &'static str) -> Moment {
    Moment::new(format!("{kind}={status}"), move |pod| {
        condition(pod, kind).is_some_and(|c| c["status"] == status)
    })
}

/// Somebody asked for its deletion.
pub(super) fn is_deleted() -> Moment {
    Moment::new("a deletion", |pod| pod["metadata"]["deletionTimestamp"].is_string())
}

/// The kubelet has deleted it for good; a finalizer holds what is left.
pub(super) fn is_let_go() -> Moment {
    Moment::new("the kubelet to let go", |pod| {
        pod["metadata"]["deletionTimestamp"].is_string() && pod["metadata"]["deletionGracePeriodSeconds"] == 0
    })
}

/// Whatever it looks like.
pub(super) fn exists() -> Moment {
    Moment::new("the pod", |_| true)
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["containerStatuses", "initContainerStatuses"].map(|list| pod["status"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container["name"] == name).unwrap_or(&Value::Null)
}

fn state<'a>(pod: &'a Value, name: &str) -> &'a Value {
    &container(pod, name)["state"]
}
