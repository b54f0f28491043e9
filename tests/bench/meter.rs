//! What the components took: CPU and memory, as the kernel counts them.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;
use serde_json::Value;

use crate::support::client::kubeconfig;

/// What a process took during a round.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Taken {
    /// Seconds of CPU.
    pub(crate) cpu_seconds: f64,
    /// The most memory that it held, in MiB.
    pub(crate) peak_mib: u64,
}

/// The components and what they had taken when the round began.
pub(crate) struct Meter(BTreeMap<String, (i64, f64)>);

/// The kernel's clock ticks in a second: the same on every Linux that people use.
const TICKS: f64 = 100.0;

impl Meter {
    /// Begins to count the cluster's components, and the operator if there is one.
    pub(crate) fn begin(operator: Option<i64>) -> Self {
        let mut processes: BTreeMap<String, i64> = components();
        processes.extend(operator.map(|pid| ("operator".to_owned(), pid)));
        let begun = processes.into_iter().filter_map(|(name, pid)| {
            // The highest mark of memory begins anew (proc_pid_clear_refs(5)). The operator is a new process in each
            // round, and what it took to start counts.
            if name != "operator" {
                let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
            }
            Some((name, (pid, cpu(pid)?)))
        });
        Self(begun.collect())
    }

    /// What they took since then.
    pub(crate) fn taken(&self) -> BTreeMap<String, Taken> {
        let since = |(name, (pid, begun)): (&String, &(i64, f64))| {
            let taken = Taken { cpu_seconds: cpu(*pid)? - begun, peak_mib: peak(*pid)? };
            Some((name.clone(), taken))
        };
        self.0.iter().filter_map(since).collect()
    }
}

/// The pids of the local cluster's components.
fn components() -> BTreeMap<String, i64> {
    let folder = kubeconfig();
    let state = folder.parent().and_then(|pki| pki.parent()).map(|folder| folder.join("state.json"));
    let text = state.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    let processes = state["processes"].as_object().into_iter().flatten();
    processes.filter_map(|(name, process)| Some((name.clone(), process["pid"].as_i64()?))).collect()
}

fn cpu(pid: i64) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows it does not (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn peak(pid: i64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}
