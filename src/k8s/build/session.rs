//! A session's part of the job's container: its port and its probes. Of several it is the first one that is essential.
//!
//! The kubelet asks the probes, in the container's own network and with the container's own rights, so that the operator
//! connects to nothing that a user names and needs no right to run commands in pods. It answers in the pod's status:
//!
//! | | without an idle timeout | with one |
//! | --- | --- | --- |
//! | the session can be used | `ready`, by the readiness probe | `started`, by a startup probe |
//! | somebody is connected | | `ready`, by the idle probe as readiness probe |
//!
//! A startup probe passes once and for all, and would end the container if it failed for good: it may fail as often as
//! an `int32` can say.

use k8s_openapi::api::core::v1::{ContainerPort, ExecAction, HTTPGetAction, PodSpec, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::session::{Scheme, Session, SessionProbe};
use crate::k8s::observe::first_own;
use crate::k8s::sessions::PORT;

/// Gives the pod of a session its port and probes: they are of the first container that is the job's own work.
pub(super) fn give(session: &Session, auxiliary: &str, spec: &mut PodSpec) {
    let at_node = spec.host_network == Some(true) || session.is_at_node();
    let own = first_own(spec, auxiliary);
    let Some(container) = own.and_then(|own| spec.containers.get_mut(own)) else { return };
    let port = ContainerPort {
        name: Some(PORT.to_owned()),
        container_port: session.port,
        host_port: at_node.then_some(session.port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let ready = session.readiness_probe.clone().unwrap_or_default();
    let ready = probe(&ready, session);
    let (startup, readiness) = match session.idle_probe.as_ref().filter(|_| session.idle_limit().is_some()) {
        None => (None, ready),
        Some(idle) => {
            let startup = Probe { failure_threshold: Some(i32::MAX), success_threshold: Some(1), ..ready };
            (Some(startup), probe(idle, session))
        }
    };
    container.ports = Some(vec![port]);
    container.startup_probe = startup;
    container.readiness_probe = Some(readiness);
}

fn probe(wire: &SessionProbe, session: &Session) -> Probe {
    let port = |port: Option<i32>| IntOrString::Int(port.unwrap_or(session.port));
    let made = Probe {
        initial_delay_seconds: wire.initial_delay_seconds,
        period_seconds: wire.period_seconds,
        timeout_seconds: wire.timeout_seconds,
        success_threshold: wire.success_threshold,
        failure_threshold: wire.failure_threshold,
        ..Probe::default()
    };
    if let Some(http) = &wire.http_get {
        let scheme = http.scheme.or(session.scheme).unwrap_or_default();
        let http_get = HTTPGetAction {
            path: Some(http.path.clone().unwrap_or_else(|| "/".to_owned())),
            port: port(http.port),
            scheme: Some(if scheme == Scheme::Https { "HTTPS" } else { "HTTP" }.to_owned()),
            ..HTTPGetAction::default()
        };
        return Probe { http_get: Some(http_get), ..made };
    }
    if let Some(exec) = &wire.exec {
        return Probe { exec: Some(ExecAction { command: Some(exec.command.clone()) }), ..made };
    }
    let tcp_port = wire.tcp_socket.as_ref().and_then(|tcp| tcp.port);
    Probe { tcp_socket: Some(TCPSocketAction { port: port(tcp_port), host: None }), ..made }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};
    use serde_json::{Value, json};

    use super::super::tests::{Also, effective, made, spot};
    use batchyard_core::definition::Properties;

    fn pod(session: Value, host_network: bool, environment: Value) -> Value {
        let session = serde_json::from_value(session).expect("a session");
        let environment = serde_json::from_value(environment).expect("an environment");
        let also = Also { session: Some(&session), host_network, ..Also::default() };
        made(&environment, &effective(Properties::default()), &also)
    }

    #[test]
    fn ports_and_the_network_follow_from_the_definition_and_the_address() {
        let host = json!({"type": "MANAGED", "network": "host",
            "computeResources": {"type": "SPOT", "maxvCpus": 32}});
        let at_pod = json!({"port": 8443, "address": {"type": "PodIP"}});
        for (name, session, host_network, environment, port, network) in [
            ("a port of the node", json!({"port": 8443}), false, spot(), json!(8443), Value::Null),
            ("the node's network", json!({"port": 8443}), true, spot(), json!(8443), json!(true)),
            ("at the pod", at_pod.clone(), false, spot(), Value::Null, Value::Null),
            (
                "at the pod, which has the node's network",
                at_pod.clone(),
                true,
                spot(),
                json!(8443),
                json!(true),
            ),
            ("where all have it", at_pod, false, host, json!(8443), json!(true)),
        ] {
            let pod = pod(session, host_network, environment);
            let ports = &pod["spec"]["containers"][0]["ports"];
            assert_eq!(ports[0]["containerPort"], 8443, "{name}");
            assert_eq!(ports[0]["hostPort"], port, "{name}");
            assert_eq!(pod["spec"]["hostNetwork"], network, "{name}");
            let policy = if network.is_null() { Value::Null } else { json!("ClusterFirstWithHostNet") };
            assert_eq!(pod["spec"]["dnsPolicy"], policy, "{name}");
        }
        let environment = serde_json::from_value(spot()).expect("an environment");
        let also = Also { host_network: true, ..Also::default() };
        let plain = made(&environment, &effective(Properties::default()), &also);
        assert_eq!(plain["spec"]["hostNetwork"], true, "the parameter has its effect without a session, too");
        assert_eq!(plain["spec"]["containers"][0]["ports"], Value::Null);
    }

    #[test]
    fn of_several_containers_the_first_essential_one_is_it() {
        let container = |name: &str| Container { name: name.into(), ..Container::default() };
        let containers = vec![container("sidecar"), container("desktop"), container("other")];
        let mut spec = PodSpec { containers, ..PodSpec::default() };
        let session = serde_json::from_value(json!({"port": 8443})).expect("a session");
        super::give(&session, "sidecar", &mut spec);
        let asked = |probe: &Option<super::Probe>| probe.is_some();
        let has: Vec<bool> = spec.containers.iter().map(|one| asked(&one.readiness_probe)).collect();
        assert_eq!(has, [false, true, false]);
    }

    #[test]
    fn probes() {
        let default = json!({"tcpSocket": {"port": 8443}});
        let http =
            json!({"httpGet": {"path": "/health", "port": 8443, "scheme": "HTTPS"}, "periodSeconds": 2});
        let exec = json!({"exec": {"command": ["sh", "-c", "x"]}, "failureThreshold": 1});
        let startup = json!({"httpGet": {"path": "/health", "port": 8443, "scheme": "HTTPS"}, "periodSeconds": 2,
            "failureThreshold": i32::MAX, "successThreshold": 1});
        for (session, want_startup, want_readiness) in [
            (json!({"port": 8443}), Value::Null, default.clone()),
            (
                json!({"port": 8443, "readinessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 2}}),
                Value::Null,
                http,
            ),
            (
                json!({"port": 8443, "scheme": "http", "readinessProbe": {"httpGet": {"port": 80}}}),
                Value::Null,
                json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}}),
            ),
            (
                json!({"port": 8443, "readinessProbe": {"tcpSocket": {"port": 5901}}}),
                Value::Null,
                json!({"tcpSocket": {"port": 5901}}),
            ),
            (
                json!({"port": 8443, "readinessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 2},
                    "idleTimeoutSeconds": 600,
                    "idleProbe": {"exec": {"command": ["sh", "-c", "x"]}, "failureThreshold": 1}}),
                startup,
                exec,
            ),
        ] {
            let container = pod(session.clone(), false, spot())["spec"]["containers"][0].clone();
            assert_eq!(container["startupProbe"], want_startup, "{session}");
            assert_eq!(container["readinessProbe"], want_readiness, "{session}");
            assert_eq!(container["livenessProbe"], Value::Null);
        }
    }

    #[test]
    fn a_pod_tells_which_objects_are_made_for_it() {
        let kind = |address: Value| {
            let pod = pod(json!({"port": 8443, "address": address}), false, spot());
            pod["metadata"]["annotations"]["batchyard.io/session"].clone()
        };
        assert_eq!(kind(json!({"type": "Service"})), "Service");
        assert_eq!(kind(json!({"type": "Ingress", "host": "a"})), "Ingress");
        assert_eq!(kind(json!({"type": "PodIP"})), Value::Null);
    }
}
