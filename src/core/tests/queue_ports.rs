//! Ports of nodes: two sessions with the same one never share a node, and the one that waits is told so.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::SessionPort;
use batchyard_core::waits::{self, Kind};
use proptest::prelude::*;
use stage::{BIG, Stage};

const ON_NODE: SessionPort = SessionPort { number: 8443, of_node: true, network: None };
const IN_POD: SessionPort = SessionPort { number: 8443, of_node: false, network: None };
const AS_NODE: SessionPort = SessionPort { network: Some(true), ..IN_POD };
const OWN: SessionPort = SessionPort { network: Some(false), ..IN_POD };

fn session(stage: Stage, uid: &str, port: SessionPort) -> Stage {
    stage.job(uid, 1).edit(|job| job.port = Some(port))
}

fn pool(nodes: usize) -> Stage {
    Stage::default().pool("p", None, &vec![BIG; nodes]).queue("q", 1, &["p"])
}

fn has(mut stage: Stage, node: usize, port: u16) -> Stage {
    stage.snapshot.nodes[node].ports.insert(port);
    stage
}

#[test]
fn a_session_gets_a_node_on_which_its_port_is_free() {
    for (name, stage, admitted) in [
        ("one node", session(pool(1), "a", ON_NODE), vec!["a"]),
        ("another pod has the port", session(has(pool(1), 0, 8443), "a", ON_NODE), vec![]),
        ("another pod has another port", session(has(pool(1), 0, 8080), "a", ON_NODE), vec!["a"]),
        ("it is free on the second node", session(has(pool(2), 0, 8443), "a", ON_NODE), vec!["a"]),
        ("two at once", session(session(pool(1), "a", ON_NODE), "b", ON_NODE), vec!["a"]),
        ("two at once on two nodes", session(session(pool(2), "a", ON_NODE), "b", ON_NODE), vec!["a", "b"]),
        ("ports of pods", session(session(pool(1), "a", IN_POD), "b", IN_POD), vec!["a", "b"]),
        (
            "pods have their node's network",
            session(session(pool(1), "a", IN_POD), "b", IN_POD).change("p", |p| p.host_network = true),
            vec!["a"],
        ),
        ("they say that they have it", session(session(pool(1), "a", AS_NODE), "b", AS_NODE), vec!["a"]),
        (
            "they say that they have one of their own where others have their node's",
            session(session(pool(1), "a", OWN), "b", OWN).change("p", |p| p.host_network = true),
            vec!["a", "b"],
        ),
    ] {
        assert_eq!(stage.admitted(), admitted, "{name}: {:?}", stage.verdicts());
    }
}

#[test]
fn a_session_is_told_that_only_its_port_is_missing() {
    let port = waits::host_port("p", 8443).text;
    session(has(pool(1), 0, 8443), "a", ON_NODE).says("a", &port);
    let full = session(has(pool(1), 0, 8443).taken(0, 64, 1, 0), "a", ON_NODE);
    full.says("a", &waits::resource("p", Kind::Vcpus).text);
    // The room is on one node and the port on another.
    session(has(pool(2), 0, 8443).taken(1, 64, 1, 0), "a", ON_NODE).says("a", &port);
}

#[test]
fn where_nodes_come_a_port_is_no_obstacle() {
    let stage = Stage::default().provisioned("p", 64, 10).queue("q", 1, &["p"]);
    let stage = session(session(stage, "a", ON_NODE), "b", ON_NODE);
    assert_eq!(stage.admitted(), ["a", "b"]);
}

fn port() -> impl Strategy<Value = SessionPort> {
    let parts = (1u16..4, any::<bool>(), prop::option::of(any::<bool>()));
    parts.prop_map(|(number, of_node, network)| SessionPort { number, of_node, network })
}

proptest! {
    #![proptest_config(cases::config(256))]

    /// However sessions and other jobs are in line, a port is given away once on each node, and the head of the queue
    /// never waits while a node is empty and has its port.
    #[test]
    fn no_port_is_given_away_twice(
        taken in prop::collection::vec(prop::collection::btree_set(1u16..4, 0..3), 1..4),
        jobs in prop::collection::vec((prop::option::of(port()), 1i64..3), 0..10),
    ) {
        let nodes = vec![(4, 64, 0); taken.len()];
        let mut stage = Stage::default().pool("p", None, &nodes).queue("q", 1, &["p"]);
        for (node, ports) in taken.iter().enumerate() {
            stage.snapshot.nodes[node].ports.extend(ports);
        }
        for (number, (port, vcpus)) in jobs.iter().enumerate() {
            stage = stage.job(&number.to_string(), *vcpus).edit(|job| job.port = *port);
        }
        let admitted: Vec<usize> = stage.admitted().iter().filter_map(|uid| uid.parse().ok()).collect();
        // In an environment where pods have a network of their own.
        let has_port_of_node = |job: &usize| {
            jobs[*job].0.filter(|port| port.of_node || port.network == Some(true)).map(|port| port.number)
        };
        for port in 1..4u16 {
            let free = taken.iter().filter(|ports| !ports.contains(&port)).count();
            let given = admitted.iter().filter_map(has_port_of_node).filter(|given| *given == port).count();
            prop_assert!(given <= free, "{} has {} free nodes and {} sessions", port, free, given);
        }
        if !jobs.is_empty() && !admitted.contains(&0) {
            let port = has_port_of_node(&0);
            prop_assert!(port.is_some_and(|port| taken.iter().all(|ports| ports.contains(&port))));
        }
    }
}
