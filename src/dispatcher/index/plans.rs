//! What jobs run, kept once for all that run the same: of 50,000 jobs of one definition most are alike.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::crd::BatchJob;
use crate::crd::convert::{self, Plan};
use crate::k8s::caches::Caches;

/// So many definitions are remembered before those that nobody waits with any more are forgotten.
const FORGET: usize = 1_000;

/// The last plan of each definition, as long as a job has it.
#[derive(Default)]
pub(super) struct Plans(Mutex<HashMap<String, Weak<Plan>>>);

impl Plans {
    /// A job's definition with its overrides, once the definition is resolved.
    pub(super) fn of(&self, job: &BatchJob, caches: &Caches) -> Option<Arc<Plan>> {
        let plan = convert::plan(&job.spec, &caches.definition_of(job)?);
        let definition = job.status.as_ref().and_then(|status| status.record.job_definition.as_deref());
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        Some(self.share(format!("{namespace}/{}", definition.unwrap_or_default()), plan))
    }

    fn share(&self, definition: String, plan: Plan) -> Arc<Plan> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&definition).and_then(Weak::upgrade).filter(|known| **known == plan) {
            return same;
        }
        if known.len() >= FORGET {
            known.retain(|_, plan| plan.strong_count() > 0);
        }
        let plan = Arc::new(plan);
        known.insert(definition, Arc::downgrade(&plan));
        plan
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(command: &str) -> Plan {
        let job = json!({"jobQueue": "q", "containerOverrides": {"command": [command]}});
        let definition = json!({"jobDefinitionName": "d", "type": "container",
            "containerProperties": {"image": "i", "vcpus": 1, "memory": 64}});
        let job = serde_json::from_value(job).expect("a job");
        convert::plan(&job, &serde_json::from_value(definition).expect("a definition"))
    }

    #[test]
    fn jobs_that_run_the_same_share_it() {
        let plans = Plans::default();
        let share = |definition: &str, command: &str| plans.share(definition.to_owned(), plan(command));
        let first = share("ns/d:1", "a");
        assert!(Arc::ptr_eq(&first, &share("ns/d:1", "a")));
        let other = share("ns/d:1", "b");
        assert!(*other == plan("b") && !Arc::ptr_eq(&first, &other), "its own overrides count");
        assert!(!Arc::ptr_eq(&other, &share("ns/d:2", "b")));
    }

    #[test]
    fn what_nobody_runs_is_forgotten() {
        let plans = Plans::default();
        let kept = plans.share("ns/kept".to_owned(), plan("a"));
        for number in 0..2 * FORGET {
            plans.share(format!("ns/{number}"), plan("a"));
        }
        assert!(plans.0.lock().expect("nobody panicked").len() <= FORGET + 1);
        assert!(Arc::ptr_eq(&kept, &plans.share("ns/kept".to_owned(), plan("a"))));
    }
}
