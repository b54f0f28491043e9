//! `kubectl batch top`: what the jobs of each queue and share request now, and what they use.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

use batchyard_core::queue::Resources;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::connect::Cluster;
use super::error::{Error, Result};
use super::table::{Screen, Table};
use super::{find, print};
use crate::k8s::{meta, observe, pods, quantity};

/// Whose jobs.
#[derive(clap::Args, Debug)]
pub(super) struct TopArgs {
    /// Queues of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Whose jobs are summed up: namespace, queue and share.
type Of = (String, String, Option<String>);

/// The jobs of a queue, or of a share of it, that have a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    pods: usize,
    /// As the jobs state them.
    vcpus_milli: i64,
    requested: Resources,
    /// Thousandths of a CPU and bytes; `None` where nothing measures.
    used: Option<(i64, i64)>,
}

/// CPU in thousandths and memory in bytes, by namespace and pod.
type Usage = HashMap<(String, String), (i64, i64)>;

pub(super) async fn run(args: &TopArgs, cluster: &Cluster) -> Result<ExitCode> {
    let api: Api<Pod> = if args.all_namespaces { cluster.all() } else { cluster.api() };
    let running = ListParams::default()
        .labels(&format!("{}={}", meta::MANAGED_BY, meta::OPERATOR))
        .fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = find::every(&api, running).await?;
    let usage = usage(args, cluster).await;
    if usage.is_none() {
        eprintln!("What is used is not known: this cluster has no metrics API, or you may not read it.");
    }
    if pods.is_empty() {
        eprintln!("No job has a pod now.");
    }
    let mut headings = vec!["NAMESPACE"];
    headings.retain(|_| args.all_namespaces);
    headings.extend(["QUEUE", "SHARE", "JOBS", "VCPUS", "MEMORY", "GPUS", "CPU USED", "MEMORY USED"]);
    let mut table = Table::new(Screen::stdout(), &headings);
    for ((namespace, queue, share), sum) in sums(&pods, usage.as_ref()) {
        let row = [
            queue,
            share.unwrap_or_default(),
            sum.pods.to_string(),
            vcpus(sum.vcpus_milli),
            mebibytes(sum.requested.memory),
            sum.requested.gpus.to_string(),
            sum.used.map(|(cpu, _)| vcpus(cpu)).unwrap_or_default(),
            sum.used.map(|(_, memory)| mebibytes(memory)).unwrap_or_default(),
        ];
        let namespace = Some(namespace).filter(|_| args.all_namespaces);
        table.row(namespace.into_iter().chain(row));
    }
    print(&table.show());
    Error::done()
}

fn sums(pods: &[Pod], usage: Option<&Usage>) -> BTreeMap<Of, Sum> {
    let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        let queue = pod.labels().get(meta::JOB_QUEUE).cloned().unwrap_or_default();
        let share = pod.annotations().get(meta::SHARE_IDENTIFIER).cloned();
        let sum = sums.entry((namespace.clone(), queue, share)).or_default();
        sum.pods += 1;
        sum.vcpus_milli += pods::vcpus_milli(pod);
        sum.requested.add(&observe::requests(pod));
        if let Some(usage) = usage {
            let (cpu, memory) = usage.get(&(namespace, pod.name_any())).copied().unwrap_or_default();
            let (cpus, memories) = sum.used.unwrap_or_default();
            sum.used = Some((cpus + cpu, memories + memory));
        }
    }
    sums
}

/// What the metrics API says, if there is one
/// (<https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/>).
async fn usage(args: &TopArgs, cluster: &Cluster) -> Option<Usage> {
    let place =
        if args.all_namespaces { String::new() } else { format!("/namespaces/{}", cluster.namespace) };
    let path = format!("/apis/metrics.k8s.io/v1beta1{place}/pods");
    let request = http_get(&path)?;
    let answer: Value = cluster.client.request(request).await.ok()?;
    Some(answer["items"].as_array()?.iter().map(measured).collect())
}

fn http_get(path: &str) -> Option<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).ok()
}

fn measured(pod: &Value) -> ((String, String), (i64, i64)) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let containers = pod["containers"].as_array().into_iter().flatten();
    let used = containers.fold((0, 0), |(cpu, memory), container| {
        let usage = &container["usage"];
        (
            cpu + quantity::milli(usage["cpu"].as_str().unwrap_or_default()),
            memory + quantity::whole(usage["memory"].as_str().unwrap_or_default()),
        )
    });
    ((text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"])), used)
}

fn vcpus(milli: i64) -> String {
    match milli % 1000 {
        0 => (milli / 1000).to_string(),
        _ => format!("{:.2}", milli as f64 / 1000.0),
    }
}

fn mebibytes(bytes: i64) -> String {
    format!("{}Mi", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, queue: &str, share: Option<&str>, vcpus: &str) -> Pod {
        let mut annotations = json!({meta::VCPUS_MILLI: vcpus});
        share.into_iter().for_each(|share| annotations[meta::SHARE_IDENTIFIER] = json!(share));
        let resources =
            json!({"requests": {"cpu": "900m", "memory": "64Mi"}, "limits": {"nvidia.com/gpu": "1"}});
        let pod = json!({
            "metadata": {"name": name, "namespace": "ns", "labels": {meta::JOB_QUEUE: queue},
                "annotations": annotations},
            "spec": {"containers": [{"name": "default", "resources": resources}]},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn queues_sum_up_what_is_stated_and_what_is_measured() {
        let pods = [
            pod("a", "q", None, "1000"),
            pod("b", "q", None, "500"),
            pod("c", "other", None, "250"),
            pod("d", "q", Some("teamA"), "2000"),
        ];
        let metrics = json!({"metadata": {"namespace": "ns", "name": "a"},
            "containers": [{"usage": {"cpu": "250000000n", "memory": "1024Ki"}}, {"usage": {"cpu": "1m", "memory": "1Mi"}}]});
        let usage = [measured(&metrics)].into_iter().collect();
        let sums = sums(&pods, Some(&usage));
        let of =
            |queue: &str, share: Option<&str>| ("ns".to_owned(), queue.to_owned(), share.map(str::to_owned));
        let q = sums[&of("q", None)];
        assert_eq!(
            (q.pods, vcpus(q.vcpus_milli), mebibytes(q.requested.memory)),
            (2, "1.50".into(), "128Mi".into())
        );
        assert_eq!(q.used, Some((251, 2 << 20)), "a pod that is not measured yet counts as nothing");
        assert_eq!(sums[&of("other", None)].pods, 1);
        assert_eq!(vcpus(sums[&of("q", Some("teamA"))].vcpus_milli), "2");
        assert_eq!(super::sums(&pods, None)[&of("q", None)].used, None);
    }
}
