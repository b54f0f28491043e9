//! What the API server does not take: pods of a job, of an environment, of a namespace, and for how long each is not
//! asked for again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use batchyard_core::name;
use batchyard_core::waits::{self, Wait};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use roaring::RoaringBitmap;

use super::{Dispatch, State, children_of};
use crate::crd::ComputeEnvironment;

/// A job whose last create failed for a reason that may pass, or a namespace that has no room.
#[derive(Clone, Debug)]
pub(super) struct HeldBack {
    pub(super) until: Instant,
    failures: u32,
    wait: Wait,
}

impl HeldBack {
    /// What it waits for, while it does.
    pub(super) fn is_on(&self) -> Option<Wait> {
        (self.until > Instant::now()).then(|| self.wait.clone())
    }
}

/// What the API server said of the pods of an environment, whatever the job.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The member of the environment that it is about.
    pub member: &'static str,
    /// Its words.
    pub why: String,
    /// The environment's generation that it is about.
    generation: Option<i64>,
    until: Instant,
    failures: u32,
}

impl Refusal {
    /// True while it is not worth asking again.
    pub fn is_fresh(&self) -> bool {
        self.until > Instant::now()
    }

    /// What jobs wait for.
    pub fn waits(&self, environment: &str) -> Wait {
        waits::environment_refused(environment, self.member, &self.why)
    }
}

/// The first and the longest pause after a create that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a namespace in which no pod can be made is left alone.
const NAMESPACE_PAUSE: Duration = Duration::from_secs(5);

impl Dispatch {
    /// Why the API server will never accept a job's pod, or that of a child of an array: they are alike.
    pub fn refused(&self, job_uid: &str) -> Option<String> {
        let state = self.lock();
        let child = || state.refused.range(children_of(job_uid)).next().map(|(_, why)| why);
        state.refused.get(job_uid).or_else(child).cloned()
    }

    /// What the API server says of the pods of an environment as it is now.
    pub fn refusal_of(&self, environment: &ComputeEnvironment) -> Option<Refusal> {
        let state = self.lock();
        let refusal = state.refusals.get(&environment.name_any())?;
        (refusal.generation == environment.metadata.generation).then(|| refusal.clone())
    }

    /// The API server takes no pod of this environment because of one of its members. The job may
    /// go elsewhere.
    pub(super) fn refuse_environment(
        &self,
        job_uid: &str,
        pod: &str,
        environment: &ComputeEnvironment,
        member: &'static str,
        why: String,
    ) {
        let (name, generation) = (environment.name_any(), environment.metadata.generation);
        let mut state = self.lock();
        state.fail(job_uid, pod);
        let known = state.refusals.get(&name).filter(|known| known.generation == generation);
        // Pods that were on their way together were refused together.
        if known.is_some_and(Refusal::is_fresh) {
            return;
        }
        let failures = known.map_or(0, |known| known.failures);
        // Not sooner than people could have mended it.
        let until = Instant::now() + pause(failures.saturating_add(3));
        let refusal = Refusal { member, why, generation, until, failures: failures.saturating_add(1) };
        state.refusals.insert(name.clone(), refusal);
        state.news.insert(name);
    }

    /// The environments about which the API server has said something new.
    pub(super) fn take_news(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().news)
    }

    pub(super) fn refuse(&self, job_uid: &str, pod: &str, why: String) {
        let mut state = self.lock();
        state.fail(job_uid, pod);
        state.refused.insert(job_uid.to_owned(), why);
    }

    /// The create failed for a reason that may pass.
    pub(super) fn hold_back(&self, job_uid: &str, pod: &str, wait: Wait) {
        let mut state = self.lock();
        state.fail(job_uid, pod);
        state.hold_back(job_uid, wait);
    }

    /// What stands in the way of this pod stands in that of every pod of its job: all children or nodes wait.
    pub(super) fn hold_job(&self, key: &str, pod: &str, wait: Wait) {
        let mut state = self.lock();
        state.fail(key, pod);
        let (uid, _) = name::whole(key);
        // Pods that were on their way together are held back together.
        if state.held_back.get(uid).and_then(HeldBack::is_on).is_none() {
            state.hold_back(uid, wait);
        }
    }

    /// A quota of the job's namespace is used up, or nobody may make pods there: none of its jobs is worth a try for a while.
    pub(super) fn hold_namespace(&self, job_uid: &str, pod: &Pod, wait: Wait) {
        let mut state = self.lock();
        state.fail(job_uid, &pod.name_any());
        let held = HeldBack { until: Instant::now() + NAMESPACE_PAUSE, failures: 1, wait };
        state.held_namespaces.insert(pod.namespace().unwrap_or_default(), held);
    }

    /// Why a job is not tried now.
    pub(super) fn held_back(&self, job_uid: &str) -> Option<Wait> {
        self.lock().held_back.get(job_uid).and_then(HeldBack::is_on)
    }

    /// Why a multi-node job is not tried now: a pod of one of its nodes was not taken.
    pub(super) fn held_back_part(&self, job_uid: &str) -> Option<Wait> {
        self.lock().held_back.range(children_of(job_uid)).find_map(|(_, held)| held.is_on())
    }

    /// The children of an array that are not tried now.
    pub(super) fn held_back_of(&self, job_uid: &str) -> RoaringBitmap {
        let state = self.lock();
        let held = state.held_back.range(children_of(job_uid)).filter(|(_, held)| held.is_on().is_some());
        held.filter_map(|(key, _)| name::whole(key).1).collect()
    }

    /// Why no job of a namespace is tried now.
    pub(super) fn held_namespace(&self, namespace: &str) -> Option<Wait> {
        self.lock().held_namespaces.get(namespace).and_then(HeldBack::is_on)
    }
}

impl State {
    fn hold_back(&mut self, key: &str, wait: Wait) {
        let failures = self.held_back.get(key).map_or(0, |held| held.failures);
        let until = Instant::now() + pause(failures);
        let held = HeldBack { until, failures: failures.saturating_add(1), wait };
        self.held_back.insert(key.to_owned(), held);
    }
}

/// How long to wait after so many failures before this one.
fn pause(failures: u32) -> Duration {
    PAUSES.0.saturating_mul(1 << failures.min(5)).min(PAUSES.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use batchyard_core::queue::{Candidate, Decisions};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::dispatcher::index::environment_closed;
    use crate::dispatcher::{Creating, Found};

    fn environment(generation: i64, observed: i64, status: &str) -> ComputeEnvironment {
        let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": "spot", "generation": generation},
            "spec": {"type": "MANAGED", "computeResources": {"type": "EC2", "maxvCpus": 16}},
            "status": {"observedGeneration": observed, "status": status}});
        serde_json::from_value(object).expect("an environment")
    }

    fn creating(pod: &str) -> Creating {
        let (pod, environment) = (pod.to_owned(), "spot".to_owned());
        let (queue, candidate) = ("ns/q".to_owned(), Candidate::default());
        Creating {
            pod,
            attempt: 1,
            placement: 0,
            environment,
            queue,
            candidate,
            answered: None,
            waited: None,
        }
    }

    /// An environment that was edited a moment ago is not used by what was said of it before.
    #[test]
    fn an_environment_takes_jobs_once_its_change_is_looked_at() {
        let dispatch = Dispatch::default();
        let closed = |generation, observed, status| {
            environment_closed(&environment(generation, observed, status), &dispatch)
        };
        assert_eq!(closed(2, 2, "VALID"), None);
        assert_eq!(closed(3, 2, "VALID"), Some(waits::environment_settling("spot")));
        assert_eq!(closed(3, 3, "INVALID"), Some(waits::environment_closed("spot")));
    }

    /// What the API server said of an environment's pods counts for a while and for this spec, and
    /// is forgotten with the first pod that it takes.
    #[test]
    fn an_environment_whose_pods_are_refused_is_left_alone_for_a_while() {
        let dispatch = Dispatch::default();
        let spot = environment(2, 2, "VALID");
        let refuse = |uid: &str| {
            dispatch.assume(uid, creating(uid));
            let (member, why) = ("podDefaults.priorityClassName", "no such class".to_owned());
            dispatch.refuse_environment(uid, uid, &spot, member, why);
        };
        refuse("a");
        refuse("b");
        assert!(!dispatch.is_creating("a") && !dispatch.is_creating("b"));
        assert_eq!(dispatch.lock().refusals["spot"].failures, 1, "refused together counts once");
        assert_eq!(dispatch.take_news().into_iter().collect::<Vec<_>>(), ["spot"]);
        assert!(dispatch.take_news().is_empty());
        let says = environment_closed(&spot, &dispatch).expect("closed");
        let says = says.text;
        assert!(says.contains("spot") && says.contains("podDefaults.priorityClassName"), "{says}");
        assert_eq!(environment_closed(&environment(3, 3, "VALID"), &dispatch), None, "it was mended");

        // After a while it is tried again, although its status says INVALID by then.
        let told = environment(2, 2, "INVALID");
        assert!(environment_closed(&told, &dispatch).is_some());
        dispatch.lock().refusals.get_mut("spot").expect("known").until = Instant::now();
        assert_eq!(environment_closed(&told, &dispatch), None);
        dispatch.assume("a", creating("a"));
        dispatch.created("a", "a", Timestamp::UNIX_EPOCH);
        assert_eq!(dispatch.last_placed_of("ns/q"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(dispatch.last_placed_in("spot"), Some(Timestamp::UNIX_EPOCH));
        assert!(dispatch.refusal_of(&spot).is_none());
        assert_eq!(dispatch.take_news().len(), 1, "its controller says VALID again");
        assert_eq!(dispatch.creating_in("spot"), ["a"]);
        assert!(dispatch.creating_in("other").is_empty());
    }

    /// What no pod of a job can do without holds all of it back, once for all that were on their way, until one is made.
    #[test]
    fn a_job_is_held_back_with_all_its_children() {
        let dispatch = Dispatch::default();
        for key in ["a:0", "a:1"] {
            dispatch.assume(key, creating(key));
            dispatch.hold_job(key, key, waits::submitter_unreadable("x", "y"));
            assert!(!dispatch.is_creating(key));
        }
        assert_eq!(dispatch.held_back("a"), Some(waits::submitter_unreadable("x", "y")));
        assert_eq!(dispatch.lock().held_back["a"].failures, 1);
        assert!(dispatch.held_back_of("a").is_empty() && dispatch.held_back("b").is_none());
        dispatch.assume("a:1", creating("a:1"));
        dispatch.created("a:1", "a:1", Timestamp::UNIX_EPOCH);
        assert_eq!(dispatch.held_back("a"), None);
    }

    /// Nothing is remembered of jobs and environments that are gone, whatever came last.
    #[test]
    fn memory_goes_with_the_objects() {
        let dispatch = Dispatch::default();
        for uid in ["gone", "here"] {
            dispatch.hold_back(uid, uid, waits::last_pod());
            dispatch.refuse(uid, uid, "never".into());
            let others = [(uid.to_owned(), waits::last_pod())].into();
            let found = Found { decisions: &Decisions::default(), others: &others, shares: BTreeMap::new() };
            dispatch.publish(found, BTreeMap::new, Timestamp::now());
        }
        let spot = environment(1, 1, "VALID");
        dispatch.refuse_environment("gone", "gone", &spot, "network", "no".into());
        dispatch.prune(|uid| uid == "here", |_| false, |_| false);
        let state = dispatch.lock();
        assert_eq!((state.held_back.len(), state.refused.len(), state.waits.len()), (1, 1, 1));
        assert!(state.refusals.is_empty());
    }
}
