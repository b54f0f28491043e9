//! The order in which the containers of one pod start: `dependsOn` of the containers of a task
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_TaskContainerDependency.html>).
//!
//! Kubernetes starts a pod's containers one after another and none of them waits for the end of another; its init
//! containers do, but a failure of one of them is the failure of all. So a container that waits has a variable of which
//! the value is missing: the kubelet does not start it, tries again and again, and what it waits for may end as it
//! likes. Once that has come so far, the value is given ([`due`]). The pod's status is all that must be known for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::pod::{ContainerState, ContainerView, PodView};
use crate::reason;
use crate::termination::{end_code, start_of, stopped_at};

/// The kubelet's word for a container of which a value is missing.
pub const CONFIG: &str = "CreateContainerConfigError";

/// How far another container must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Until {
    /// It has started.
    Start,
    /// It has ended, however.
    Complete,
    /// It has ended with 0.
    Success,
}

impl Until {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Success => "SUCCESS",
        }
    }

    /// Reads AWS's word; START if there is none.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("COMPLETE") => Self::Complete,
            Some("SUCCESS") => Self::Success,
            _ => Self::Start,
        }
    }
}

/// Something that a container waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The other container.
    pub container: String,
    /// How far it must have come.
    pub until: Until,
    /// `startTimeout` of the other: how long after its start it is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// Whether a container that waits may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may, since then.
    Open(Option<Timestamp>),
    /// Not yet.
    Waits {
        /// When it gives up.
        ends: Option<Timestamp>,
        /// In words.
        text: String,
        /// Why it gives up then.
        why: String,
    },
    /// It never will, and since when that is known.
    Never(Option<Timestamp>, String),
}

/// How it stands with a container; `None` for one that waits for no other.
pub(crate) fn standing(pod: &PodView, container: &ContainerView) -> Option<Standing> {
    Standings { pod, known: BTreeMap::new() }.of(container)
}

/// Those that a container waits for and that have not started, and those that these wait for, and so on.
pub(crate) fn awaited<'p>(pod: &'p PodView, container: &'p ContainerView) -> Vec<&'p ContainerView> {
    let mut seen = BTreeSet::from([container.name.as_str()]);
    let (mut found, mut look) = (Vec::new(), vec![container]);
    while let Some(waits) = look.pop() {
        for name in waits.after.iter().map(|after| after.container.as_str()) {
            let Some(other) = find(pod, name).filter(|_| seen.insert(name)) else { continue };
            if !has_begun(other) && end_code(other).is_none() {
                found.push(other);
                look.push(other);
            }
        }
    }
    found
}

/// The containers that may start and wait for nothing but our word, if it was not given yet: all that may are named.
pub fn due(pod: &PodView) -> Vec<String> {
    if pod.deleted_at.is_some() {
        return Vec::new();
    }
    let may = |container: &&ContainerView| matches!(standing(pod, container), Some(Standing::Open(_)));
    let waits = |container: &ContainerView| {
        matches!(&container.state, ContainerState::Waiting { reason, .. } if reason.as_deref() == Some(CONFIG))
            && !pod.opened.contains(&container.name)
    };
    let open: Vec<_> = pod.containers.iter().filter(may).collect();
    match open.iter().any(|container| waits(container)) {
        true => open.into_iter().map(|container| container.name.clone()).collect(),
        false => Vec::new(),
    }
}

fn find<'p>(pod: &'p PodView, name: &str) -> Option<&'p ContainerView> {
    pod.containers.iter().find(|container| container.name == name)
}

/// How it stands with containers, each looked at once: what they wait for stands on the pod, where users can write, too.
struct Standings<'p> {
    pod: &'p PodView,
    /// `None` while it is being looked at: who meets it again waits for itself.
    known: BTreeMap<&'p str, Option<Standing>>,
}

impl<'p> Standings<'p> {
    fn of(&mut self, container: &'p ContainerView) -> Option<Standing> {
        self.known.insert(&container.name, None);
        let found = container.after.iter().map(|after| self.one(&container.name, after)).reduce(worse);
        // One that waits for nothing is open.
        self.known.insert(&container.name, Some(found.clone().unwrap_or(Standing::Open(None))));
        found
    }

    fn one(&mut self, waits: &str, after: &'p After) -> Standing {
        let (name, until) = (after.container.as_str(), after.until);
        let never =
            |since, code| Standing::Never(since, reason::container_dependency_failed(waits, name, code));
        let Some(other) = find(self.pod, name) else { return never(None, None) };
        let started = start_of(other);
        match (until, end_code(other)) {
            (Until::Start, _) if has_begun(other) => Standing::Open(started),
            (Until::Complete, Some(_)) | (Until::Success, Some(Some(0))) => Standing::Open(stopped_at(other)),
            (Until::Start | Until::Success, Some(code)) => never(stopped_at(other), code),
            (_, None) if has_begun(other) => running(waits, after, started),
            (_, None) => match self.behind(other) {
                // It waits in turn, and if that ends badly it has no start that could be waited for.
                Some(Standing::Never(since, why)) => Standing::Never(since, why),
                Some(Standing::Waits { ends, why, .. }) => Standing::Waits { ends, why, text: text(after) },
                Some(Standing::Open(_)) => running(waits, after, None),
                None => never(None, None),
            },
        }
    }

    /// How it stands with one that has not begun; `None` if it waits for the one that is asked about.
    fn behind(&mut self, other: &'p ContainerView) -> Option<Standing> {
        if !self.known.contains_key(other.name.as_str()) {
            self.of(other);
        }
        self.known.get(other.name.as_str()).cloned().flatten()
    }
}

fn has_begun(container: &ContainerView) -> bool {
    start_of(container).is_some() || matches!(container.state, ContainerState::Running { .. })
}

/// The other has not come so far, and nothing of its own keeps it.
fn running(waits: &str, after: &After, started: Option<Timestamp>) -> Standing {
    let seconds = after.seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds)));
    let ends = started.zip(seconds).and_then(|(from, limit)| from.checked_add(limit).ok());
    let why = reason::container_dependency_late(waits, &after.container, after.seconds.unwrap_or_default());
    Standing::Waits { ends, text: text(after), why }
}

fn text(after: &After) -> String {
    match after.until {
        Until::Start => reason::waits_for_start(&after.container),
        Until::Complete | Until::Success => reason::waits_for_end(&after.container),
    }
}

/// Of two things that are waited for, what holds for both.
fn worse(a: Standing, b: Standing) -> Standing {
    use Standing::{Never, Open, Waits};
    match (a, b) {
        (Never(since, why), _) | (_, Never(since, why)) => Never(since, why),
        (Waits { ends: a, text, why }, Waits { ends: b, why: other, .. }) => match (a, b) {
            (Some(first), Some(second)) if second < first => Waits { ends: b, text, why: other },
            (None, Some(_)) => Waits { ends: b, text, why: other },
            _ => Waits { ends: a, text, why },
        },
        (waits @ Waits { .. }, Open(_)) | (Open(_), waits @ Waits { .. }) => waits,
        (Open(a), Open(b)) => Open(a.max(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_are_waited_for_the_first_that_gives_up_counts() {
        let waits = |ends: Option<i64>, why: &str| Standing::Waits {
            ends: ends.map(|second| Timestamp::from_second(second).expect("a time")),
            text: String::new(),
            why: why.to_owned(),
        };
        for (a, b, want) in [
            (None, None, "a"),
            (None, Some(5), "b"),
            (Some(5), None, "a"),
            (Some(3), Some(5), "a"),
            (Some(5), Some(3), "b"),
            (Some(4), Some(4), "a"),
        ] {
            let ends = if want == "a" { a } else { b };
            assert_eq!(worse(waits(a, "a"), waits(b, "b")), waits(ends, want), "{a:?} {b:?}");
        }
    }
    #[test]
    fn what_is_awaited_is_what_has_not_started_all_the_way_back() {
        let time = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1));
        let container = |name: &str, state: ContainerState, others: &[&str]| ContainerView {
            name: name.to_owned(),
            state,
            after: others
                .iter()
                .map(|other| After { container: (*other).to_owned(), until: Until::Start, seconds: None })
                .collect(),
            ..ContainerView::default()
        };
        let waiting = || ContainerState::Waiting { reason: None, message: None };
        let running = || ContainerState::Running { started_at: time };
        let refused = ContainerState::Terminated {
            exit_code: 128,
            reason: None,
            message: None,
            started_at: None,
            finished_at: time,
        };
        for (state, want) in [
            (waiting(), vec!["b", "a"]),
            (ContainerState::Unknown, vec!["b", "a"]),
            (running(), vec![]),
            (refused, vec![]),
        ] {
            let pod = PodView {
                containers: vec![
                    container("a", waiting(), &["b"]),
                    container("b", state, &["a", "app"]),
                    container("app", waiting(), &["b", "not there"]),
                ],
                ..PodView::default()
            };
            let names: Vec<&str> =
                awaited(&pod, &pod.containers[2]).iter().map(|other| other.name.as_str()).collect();
            assert_eq!(names, want);
        }
    }

    #[test]
    fn words_of_aws_are_read_as_they_are_written() {
        for until in [Until::Start, Until::Complete, Until::Success] {
            assert_eq!(Until::parse(Some(until.as_str())), until);
            assert_eq!(serde_json::to_value(until).expect("a word"), until.as_str());
        }
        assert_eq!(Until::parse(None), Until::Start);
    }
}
