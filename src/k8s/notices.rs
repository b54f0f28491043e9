//! Notices that a node is about to be taken away: a spot machine that is reclaimed, maintenance. Pure.
//!
//! Job pods tell every autoscaler to leave them alone, so that nobody moves a job to save money; from
//! a node that goes anyway the operator takes them itself, while there is time for them to end well.

use batchyard_core::pod::NodeView;
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::observe;
use super::pool::is_spot_node;

/// What counts as a notice.
#[derive(Args, Clone, Debug, Default)]
pub struct Notices {
    /// Keys of taints, or beginnings of keys, that announce a node's end.
    #[arg(
        long = "notice-taints",
        env = "BATCHYARD_NOTICE_TAINTS",
        value_delimiter = ',',
        default_value = "aws-node-termination-handler/spot-itn,aws-node-termination-handler/asg-lifecycle-termination,\
                         cloud.google.com/impending-node-termination,remediator.kubernetes.azure.com/unschedulable"
    )]
    pub taints: Vec<String>,
    /// The same, on spot nodes only. Karpenter taints nodes for any reason, and lets pods on the others finish.
    #[arg(
        long = "notice-spot-taints",
        env = "BATCHYARD_NOTICE_SPOT_TAINTS",
        value_delimiter = ',',
        default_value = "karpenter.sh/disrupted"
    )]
    pub spot_taints: Vec<String>,
    /// Conditions of a node that announce its end when they are True.
    #[arg(
        long = "notice-conditions",
        env = "BATCHYARD_NOTICE_CONDITIONS",
        value_delimiter = ',',
        default_value = "PreemptScheduled,TerminateScheduled"
    )]
    pub conditions: Vec<String>,
}

impl Notices {
    /// The node as the core sees it.
    pub fn view(&self, node: &Node) -> NodeView {
        NodeView { reclaimed: self.on(node), ..observe::node(node) }
    }

    /// True if the node shows one.
    pub fn on(&self, node: &Node) -> bool {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        // An empty value is how a list is turned off.
        let is_listed = |list: &[String], key: &str| {
            list.iter().any(|begins| !begins.is_empty() && key.starts_with(begins.as_str()))
        };
        let mut keys = taints.iter().map(|taint| taint.key.as_str());
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
        keys.any(|key| {
            is_listed(&self.taints, key) || is_listed(&self.spot_taints, key) && is_spot_node(node.labels())
        }) || conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.status == "True" && self.conditions.contains(&condition.type_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        notices: Notices,
    }

    fn node(spot: bool, taint: &str, condition: Value) -> Node {
        let kind = if spot { "spot" } else { "on-demand" };
        serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"karpenter.sh/capacity-type": kind}},
            "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]},
            "status": {"conditions": [condition]},
        }))
        .expect("a node")
    }

    #[test]
    fn which_nodes_are_about_to_go() {
        let defaults = Line::parse_from(["batchyard"]).notices;
        let ready = json!({"type": "Ready", "status": "True"});
        let preempted = |status: &str| json!({"type": "PreemptScheduled", "status": status});
        for (spot, taint, condition, want) in [
            (true, "x", ready.clone(), false),
            (true, "karpenter.sh/disrupted", ready.clone(), true),
            (false, "karpenter.sh/disrupted", ready.clone(), false),
            (true, "karpenter.sh/unregistered", ready.clone(), false),
            (false, "aws-node-termination-handler/spot-itn", ready.clone(), true),
            (true, "aws-node-termination-handler/rebalance-recommendation", ready.clone(), false),
            (false, "cloud.google.com/impending-node-termination", ready.clone(), true),
            (false, "remediator.kubernetes.azure.com/unschedulable", ready, true),
            (false, "x", preempted("True"), true),
            (false, "x", preempted("False"), false),
        ] {
            assert_eq!(
                defaults.on(&node(spot, taint, condition.clone())),
                want,
                "{spot} {taint} {condition}"
            );
        }
        let off = Line::parse_from([
            "batchyard",
            "--notice-taints=",
            "--notice-spot-taints=",
            "--notice-conditions=",
        ]);
        assert!(!off.notices.on(&node(true, "karpenter.sh/disrupted", preempted("True"))));
    }
}
