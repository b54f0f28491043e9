//! Texts about interactive sessions.

use super::{Explanation, entry};

pub(super) const TABLE: &[Explanation] = &[
    entry(
        "Session idle: …",
        "Nobody was connected to the session for idleTimeoutSeconds, and it was ended. Such a job is never retried.",
        "Its people have gone, or session.idleProbe does not see them.",
        "Submit the job again. If somebody was connected, run the idle probe in the container: it must pass meanwhile.",
    ),
    entry(
        "Waiting for port … of a node in ComputeEnvironment …",
        "The job is a session that needs this port of its node, and on each node with room another pod has it.",
        "Other sessions with the same port run, or pods of other programs that have a host port.",
        "Wait until one of them ends, add nodes, or reach the session by PodIP, Service, Ingress or Gateway, without \
         the host's network.",
    ),
];
