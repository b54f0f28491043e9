//! What would have to end so that a job finds room in an environment: for `kubectl batch why`.

use batchyard_core::name;
use batchyard_core::waits::Kind;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::connect::Cluster;
use super::error::Result;
use super::time;
use crate::crd::{BatchJob, ComputeEnvironment, JobDefinitionSpec, convert};
use crate::k8s::{meta, observe, pods};

/// A pod that holds room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    /// The job that it runs, or which child of it.
    job: String,
    vcpus_milli: i64,
    since: Timestamp,
}

/// Which jobs of the namespace, those that have run longest first, would leave enough vCPUs in an environment by
/// ending; nothing where vCPUs are not what the job waits for.
pub(super) async fn would_have_to_end(
    cluster: &Cluster,
    job: &BatchJob,
    environment: &ComputeEnvironment,
) -> Result<String> {
    let waiting = job.status.as_ref().and_then(|status| status.record.waiting);
    let is_behind = waiting.is_some_and(|waiting| waiting.kind == Kind::Turn);
    if !waiting.is_some_and(|waiting| matches!(waiting.kind, Kind::Vcpus | Kind::Turn)) {
        return Ok(String::new());
    }
    let Some(need) = vcpus_milli(cluster, job).await? else { return Ok(String::new()) };
    let labels = format!("{}={}", meta::COMPUTE_ENVIRONMENT, name::slug(&environment.name_any()));
    let api: Api<Pod> = cluster.api();
    let Ok(list) = api.list(&ListParams::default().labels(&labels)).await else { return Ok(String::new()) };
    let holders = list.items.iter().filter(|pod| !observe::is_finished(pod)).filter_map(holder).collect();
    Ok(match enough(holders, missing(need, environment)) {
        Some(jobs) => {
            let behind = if is_behind { ", and first those that are ahead" } else { "" };
            format!("  Would have to end there: {}{behind}\n", told(&jobs, Timestamp::now()))
        }
        None => String::new(),
    })
}

/// The vCPUs that a job needs, in thousandths; of a multi-node job those of all of its nodes.
async fn vcpus_milli(cluster: &Cluster, job: &BatchJob) -> Result<Option<i64>> {
    let plan = match convert::inline_definition(&job.spec) {
        Some(definition) => convert::plan(&job.spec, &definition),
        None => {
            let resolved = job.status.as_ref().and_then(|status| status.record.job_definition.clone());
            let Some(revision) = resolved.and_then(|resolved| name::revision(&resolved)) else {
                return Ok(None);
            };
            let api: Api<ControllerRevision> = cluster.api();
            // Who may see jobs may not see what they run.
            let found = api.get_opt(&revision).await.ok().flatten().and_then(|found| found.data);
            let definition = found.and_then(|data| serde_json::from_value::<JobDefinitionSpec>(data.0).ok());
            let Some(definition) = definition else { return Ok(None) };
            convert::plan(&job.spec, &definition)
        }
    };
    Ok(plan.effective.ok().map(|effective| effective.amounts.vcpus_milli))
}

/// The vCPUs that have to become free: what `maxvCpus` lacks, else all, since then it is the nodes that are full.
fn missing(need: i64, environment: &ComputeEnvironment) -> i64 {
    let max = environment.spec.compute_resources.as_ref().map(|found| i64::from(found.maxv_cpus) * 1000);
    let used = environment.status.as_ref().and_then(|status| status.vcpus_in_use).map_or(0, i64::from) * 1000;
    let lacks = max.map_or(0, |max| need - (max - used).max(0));
    if lacks > 0 { lacks } else { need }
}

fn holder(pod: &Pod) -> Option<Holder> {
    let (job, _) = pods::job_of(pod)?;
    let job = observe::index(pod).map_or_else(|| job.to_owned(), |index| format!("{job}:{index}"));
    let since = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let since = since.or_else(|| pod.creation_timestamp().map(|time| time.0))?;
    Some(Holder { job, vcpus_milli: pods::vcpus_milli(pod), since })
}

/// One that is enough alone, of several the one that has run longest; else as many as it takes. None if not even all
/// of them are enough.
fn enough(mut holders: Vec<Holder>, missing: i64) -> Option<Vec<Holder>> {
    holders.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.job.cmp(&b.job)));
    if let Some(alone) = holders.iter().find(|holder| holder.vcpus_milli >= missing) {
        return Some(vec![alone.clone()]);
    }
    let mut left = missing;
    let mut taken = Vec::new();
    for holder in holders {
        if left <= 0 {
            break;
        }
        left -= holder.vcpus_milli;
        taken.push(holder);
    }
    (left <= 0).then_some(taken)
}

fn told(holders: &[Holder], now: Timestamp) -> String {
    /// So many are named.
    const NAMED: usize = 5;
    let vcpus = |milli: i64| milli as f64 / 1000.0;
    let one = |holder: &Holder| {
        format!(
            "{} ({} vCPUs, for {})",
            holder.job,
            vcpus(holder.vcpus_milli),
            time::between(holder.since, now)
        )
    };
    let mut text = holders.iter().take(NAMED).map(one).collect::<Vec<_>>().join(" and ");
    if holders.len() > NAMED {
        text.push_str(&format!(" and {} more", holders.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holders(all: &[(&str, i64, i64)]) -> Vec<Holder> {
        let holder = |(job, vcpus, second): &(&str, i64, i64)| Holder {
            job: (*job).to_owned(),
            vcpus_milli: vcpus * 1000,
            since: Timestamp::from_second(*second).expect("a time"),
        };
        all.iter().map(holder).collect()
    }

    #[test]
    fn who_would_have_to_end() {
        let all = holders(&[("young", 4, 9), ("old", 1, 1), ("older", 4, 5), ("small", 1, 2)]);
        for (missing, want) in [
            (1_000, Some(vec!["old"])),
            (3_000, Some(vec!["older"])),
            (6_000, Some(vec!["old", "small", "older"])),
            (10_000, Some(vec!["old", "small", "older", "young"])),
            (11_000, None),
        ] {
            let found = enough(all.clone(), missing);
            let names =
                found.as_ref().map(|found| found.iter().map(|one| one.job.as_str()).collect::<Vec<_>>());
            assert_eq!(names, want, "{missing}");
        }
        let now = Timestamp::from_second(65).expect("a time");
        assert_eq!(
            told(&holders(&[("a:3", 2, 5), ("b", 1, 60)]), now),
            "a:3 (2 vCPUs, for 60s) and b (1 vCPUs, for 5s)"
        );
    }

    #[test]
    fn what_has_to_become_free() {
        let environment = |max: i32, used: i32| -> ComputeEnvironment {
            serde_json::from_value(
                json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
                "metadata": {"name": "e"}, "status": {"vcpusInUse": used},
                "spec": {"type": "MANAGED", "computeResources": {"type": "EC2", "maxvCpus": max}}}),
            )
            .expect("an environment")
        };
        for (need, max, used, want) in [(4, 8, 6, 2), (4, 8, 8, 4), (4, 64, 6, 4), (4, 8, 9, 4)] {
            assert_eq!(
                missing(need * 1000, &environment(max, used)),
                want * 1000,
                "{need} of {max} with {used}"
            );
        }
    }
}
