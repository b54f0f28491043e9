//! GPUs that a device plugin of ours offers to a real kubelet: given out, used up, broken under a job.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, LogParams};
use serde_json::{Value, json};
use xtask::cluster::{DEVICE_PLUGIN, GPU, device_plugin, node_folder};

use crate::Case;
use crate::cluster::answer;
use crate::ends::{exit, succeeded};
use crate::programs::shell;
use crate::scenario::{PATIENCE, Scenario, is, merge};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::story("gpus-given-used-up-and-broken", |scenario| Box::pin(devices(scenario))).local_only()]
}

/// The devices of one node.
struct Devices<'a> {
    scenario: &'a Scenario<'a>,
    node: &'a str,
}

impl<'a> Devices<'a> {
    /// Runs the plugin on a node.
    async fn offer(scenario: &'a Scenario<'a>, node: &'a str, count: u32) -> Result<Self> {
        let devices = Self { scenario, node };
        devices.mend()?;
        scenario.apply::<Pod>(&device_plugin(scenario.cluster.cluster.provider, node, count)).await;
        devices.are(count).await?;
        Ok(devices)
    }

    /// Waits until so many devices of the node can be had.
    async fn are(&self, count: u32) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.scenario.cluster.client.clone());
        answer(&format!("{count} GPUs on {}", self.node), PATIENCE, || async {
            let status = nodes.get(self.node).await?.status.unwrap_or_default();
            let there =
                status.allocatable.and_then(|amounts| amounts.get(GPU).map(|amount| amount.0.clone()));
            Ok((there == Some(count.to_string())).then_some(()))
        })
        .await
    }

    /// The plugin's folder of broken devices, as this machine sees it.
    fn broken(&self) -> Result<PathBuf> {
        let node = node_folder(&self.scenario.cluster.cluster.name, self.node)?;
        Ok(node.join("var/lib/kubelet/device-plugins/broken"))
    }

    async fn take_away(self) -> Result<()> {
        let pods = self.scenario.api::<Pod>();
        pods.delete(DEVICE_PLUGIN, &DeleteParams::default()).await?;
        answer("the plugin to go", PATIENCE, || async {
            Ok(pods.get_opt(DEVICE_PLUGIN).await?.is_none().then_some(()))
        })
        .await
    }

    fn damage(&self, id: &str) -> Result<()> {
        std::fs::write(self.broken()?.join(id), "").with_context(|| format!("cannot damage {id}"))
    }

    fn mend(&self) -> Result<()> {
        let Ok(mut files) = std::fs::read_dir(self.broken()?) else { return Ok(()) };
        files.try_for_each(|file| Ok(std::fs::remove_file(file?.path())?))
    }
}

/// A job with a GPU that runs a program.
fn with_gpu(program: &str) -> Value {
    let mut job = shell(program);
    merge(
        &mut job,
        &json!({"containerOverrides": {"resourceRequirements":
            [{"type": "VCPU", "value": "1"}, {"type": "GPU", "value": "1"}]}}),
    );
    job
}

/// Says which device it has, makes sure that it is there, and runs until it is asked to end.
const ASKS: &str = "[ -c /dev/nvidia${NVIDIA_VISIBLE_DEVICES#fake-} ] || exit 9; \
                    trap 'exit 0' TERM; echo has $NVIDIA_VISIBLE_DEVICES; sleep 600 & wait";

/// Two jobs have a device each and a third waits until one ends. Then the device of the one that runs breaks: the job goes
/// on, the next one waits and says for what, and runs once the device is well again.
async fn devices(scenario: &Scenario<'_>) -> Result<()> {
    let [node, _] = scenario.cluster.spot_nodes();
    let devices = Devices::offer(scenario, node, 2).await?;
    for job in ["first", "second"] {
        scenario.submit(job, with_gpu(ASKS)).await;
        let ran_on = scenario.runs(job, 1).await?;
        ensure!(ran_on == node, "{job} runs on {ran_on}, which has no GPU");
    }
    let given = [allocated(scenario, "first").await?, allocated(scenario, "second").await?];
    ensure!(given[0] != given[1] && given.iter().all(|id| id.starts_with("fake-")), "they have {given:?}");

    scenario.submit("third", with_gpu("exit 0")).await;
    scenario.waits("third", "RUNNABLE", "GPU").await?;
    scenario.finish("second").await?;
    scenario.ends("third", &succeeded([exit(0)])).await?;

    devices.damage(&given[0])?;
    devices.damage(&given[1])?;
    devices.are(0).await?;
    scenario.submit("fourth", with_gpu("exit 0")).await;
    scenario.waits("fourth", "RUNNABLE", "GPU").await?;
    let first = scenario.until("first", "to go on", |job| is(job, "RUNNING")).await?;
    let attempts = first.status.map(|status| status.record.attempts.len());
    ensure!(attempts == Some(0), "the job on the broken device was ended: {attempts:?}");
    devices.mend()?;
    devices.are(2).await?;
    scenario.ends("fourth", &succeeded([exit(0)])).await?;
    scenario.finish("first").await?;
    scenario.ends("first", &succeeded([exit(0)])).await?;
    devices.take_away().await
}

/// The device that the job's container was given.
async fn allocated(scenario: &Scenario<'_>, job: &str) -> Result<String> {
    let pod = scenario.current(job).await?.pod_name;
    answer(&format!("{job} to say what it has"), PATIENCE, || async {
        let logs = scenario.api::<Pod>().logs(&pod, &LogParams::default()).await?;
        Ok(logs.trim().strip_prefix("has ").map(str::to_owned))
    })
    .await
}
