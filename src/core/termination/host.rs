//! The node under a pod: what it is called in a statusReason, and whether it is to blame.

use jiff::{SignedDuration, Timestamp};

use crate::pod::NodeView;

/// A node with this taint runs nothing any more: somebody vouches for it (D13).
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Taints, or starts of taints, of nodes that are about to go.
const INTERRUPTED: [&str; 9] = [
    OUT_OF_SERVICE,
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/not-ready",
    "node.cloudprovider.kubernetes.io/shutdown",
    "karpenter.sh/disrupt",
    "aws-node-termination-handler/",
    "ToBeDeletedByClusterAutoscaler",
    "cloud.google.com/impending-node-termination",
    "remediator.kubernetes.azure.com/",
];

/// The node that a pod is bound to.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    node: Option<&'a NodeView>,
    /// What a statusReason calls the node.
    pub(super) instance: &'a str,
}

impl<'a> Host<'a> {
    /// `captured` is the instance id remembered at bind: a name may be given to another instance.
    pub(super) fn new(
        node: Option<&'a NodeView>,
        captured: Option<&'a str>,
        node_name: Option<&'a str>,
    ) -> Self {
        let seen = node.map(|node| (node.instance.as_str(), node.name.as_str())).unwrap_or_default();
        let names = [captured.unwrap_or_default(), seen.0, seen.1, node_name.unwrap_or_default()];
        Self { node, instance: names.into_iter().find(|name| !name.is_empty()).unwrap_or("unknown") }
    }

    fn node(&self) -> Option<&'a NodeView> {
        self.node.filter(|node| node.exists)
    }

    /// The Node object is gone (D4).
    pub(super) fn is_gone(&self) -> bool {
        self.node().is_none()
    }

    /// The kubelet does not report (D17).
    pub(super) fn is_silent(&self) -> bool {
        self.node().is_some_and(|node| !node.ready)
    }

    /// Somebody vouches that nothing runs there any more (D13).
    pub(super) fn is_out_of_service(&self) -> bool {
        self.node().is_some_and(|node| node.taints.iter().any(|key| key == OUT_OF_SERVICE))
    }

    /// An eviction or a deletion from such a node is the node's doing (D3).
    pub(super) fn is_leaving(&self) -> bool {
        self.node().is_none_or(|node| {
            node.deleting
                || node.reclaimed
                || node.unschedulable
                || !node.ready
                || node.taints.iter().any(|key| INTERRUPTED.iter().any(|start| key.starts_with(start)))
        })
    }

    /// The node was away while the container ran: it rebooted, or its kubelet was down (T7, T8).
    pub(super) fn was_away_since(&self, started_at: Option<Timestamp>) -> bool {
        if self.node().is_some_and(|node| node.rebooted) {
            return true;
        }
        let back_at = self.node().and_then(|node| node.ready_since);
        matches!((back_at, started_at), (Some(back), Some(started)) if back > started)
    }

    /// When `nodeLostTimeoutSeconds` has passed on a silent node.
    pub(super) fn lost_at(&self, node_lost: Option<SignedDuration>) -> Option<Timestamp> {
        let node = self.node().filter(|node| !node.ready)?;
        Some(super::later(node.ready_since?, node_lost?))
    }
}
