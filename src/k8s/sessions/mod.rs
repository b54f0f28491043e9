//! The edge of interactive sessions: what a pod tells of one, the objects by which people reach it, and its URL. Pure.
//!
//! The objects are named after the pod's uid and owned by the pod. They are removed before the pod is let go of, so that
//! a crash in between leaves the pod held, and the next look removes them again; with the pod the garbage collector
//! would take what is left.

#[cfg(test)]
mod tests;

use batchyard_core::session::{self, Progress};
use k8s_openapi::api::core::v1::{Container, Node, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::meta;
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::session::{Scheme, ServiceType, Session, SessionAddress, SessionAddressType};

/// The name of a session's port.
pub const PORT: &str = "session";

/// The group of routes.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// What the pod of a session tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// How far the session is.
    pub progress: Progress,
    /// Somebody is connected, by the word of the idle probe; true where there is none.
    pub connected: bool,
}

/// What the pod tells of the session in the container that has the session's port.
pub fn sight(pod: &Pod, session: &Session) -> Sight {
    let status = pod.status.clone().unwrap_or_default();
    // By what nobody can edit: of a container without the probes it would be said that somebody is always connected.
    let has_port = |c: &&Container| c.ports.iter().flatten().any(|port| port.name.as_deref() == Some(PORT));
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let name = containers.find(has_port).map(|container| container.name.as_str());
    let statuses = status.container_statuses.unwrap_or_default();
    let Some(container) = statuses.iter().find(|status| Some(status.name.as_str()) == name) else {
        return Sight::default();
    };
    let runs = container.state.as_ref().is_some_and(|state| state.running.is_some());
    let has_idle_probe = session.idle_limit().is_some();
    // See `build::session`: which probe answers where.
    let passes = if has_idle_probe { container.started == Some(true) } else { container.ready };
    let progress = match (runs && pod.metadata.deletion_timestamp.is_none(), passes) {
        (false, _) => Progress::Absent,
        (true, false) => Progress::Starting,
        (true, true) => Progress::Passing,
    };
    // Since when is not asked of the pod: its conditions are about all of its containers, and once another one has ended
    // they move no more.
    Sight { progress, connected: !has_idle_probe || container.ready }
}

/// The kind of address for which objects were made for a pod, if it is one.
pub fn made_for(pod: &Pod) -> Option<SessionAddressType> {
    let kind = pod.annotations().get(meta::SESSION)?;
    serde_json::from_value(Value::String(kind.clone())).ok()
}

/// The name of all objects of a pod's session.
pub fn name(pod: &Pod) -> String {
    format!("session-{}", pod.uid().unwrap_or_default())
}

/// Which objects an address needs; the kinds of routes only where the cluster has them.
pub fn kinds(kind: SessionAddressType, route: Option<ApiResource>) -> Vec<ApiResource> {
    let service = ApiResource::erase::<Service>(&());
    match kind {
        SessionAddressType::Service => vec![service],
        SessionAddressType::Ingress => vec![service, ApiResource::erase::<Ingress>(&())],
        SessionAddressType::Gateway => [service].into_iter().chain(route).collect(),
        SessionAddressType::NodeExternalIp
        | SessionAddressType::NodeInternalIp
        | SessionAddressType::PodIp => Vec::new(),
    }
}

/// The kind of a session's route: a container's own TLS goes through the Gateway as it is.
pub fn route_kind(session: &Session) -> &'static str {
    match session.scheme.unwrap_or_default() {
        Scheme::Https => "TLSRoute",
        Scheme::Http => "HTTPRoute",
    }
}

/// Whether an environment lets a session of a namespace have objects of its kind, with this host name.
///
/// # Errors
/// A sentence that names the environment's member.
pub fn check_policy(
    environment: &str,
    spec: &ComputeEnvironmentSpec,
    session: &Session,
    namespace: &str,
    host: Option<&str>,
) -> Result<(), String> {
    let Some(kind) = session.made_for() else { return Ok(()) };
    let policy = spec.sessions.clone().unwrap_or_default();
    let address = session.address.clone().unwrap_or_default();
    let refuse = |member: &str, what: &str| {
        Err(format!("sessions.{member} of ComputeEnvironment {environment} does not allow {what}"))
    };
    if !policy.objects.iter().any(|object| object.as_str() == kind.as_str()) {
        return refuse("objects", kind.as_str());
    }
    if let Some(host) = host.filter(|host| !session::is_host_allowed(host, &policy.hosts, namespace)) {
        return refuse("hosts", host);
    }
    if let Some(key) = address.annotations.keys().find(|key| !policy.annotations.contains(key)) {
        return refuse("annotations", key);
    }
    match kind {
        SessionAddressType::Service => {
            let type_ = address.service_type.unwrap_or_default();
            let may = policy.service_types.is_empty() || policy.service_types.contains(&type_);
            if may { Ok(()) } else { refuse("serviceTypes", type_.as_str()) }
        }
        SessionAddressType::Ingress => {
            // Which class the cluster gives to an Ingress without one is not the environment's to know.
            let class = address.ingress_class_name.unwrap_or_default();
            let may = policy.ingress_class_names.is_empty() || policy.ingress_class_names.contains(&class);
            let class = if class.is_empty() { "an Ingress without a class" } else { &class };
            if may { Ok(()) } else { refuse("ingressClassNames", class) }
        }
        SessionAddressType::Gateway => {
            let gateway = address.gateway.unwrap_or_default();
            let gateway = format!("{}/{}", gateway.namespace.as_deref().unwrap_or(namespace), gateway.name);
            let may = policy.gateways.is_empty()
                || session::is_gateway_allowed(&gateway, &policy.gateways, namespace);
            if may { Ok(()) } else { refuse("gateways", &gateway) }
        }
        SessionAddressType::NodeExternalIp
        | SessionAddressType::NodeInternalIp
        | SessionAddressType::PodIp => Ok(()),
    }
}

/// What the objects of a session are made from.
pub struct Made<'a> {
    /// The pod that people connect to.
    pub pod: &'a Pod,
    /// Its session.
    pub session: &'a Session,
    /// The host name of an Ingress or route.
    pub host: &'a str,
}

impl Made<'_> {
    /// The object of one of the [`kinds`].
    pub fn object(&self, kind: &ApiResource) -> DynamicObject {
        let mut object = DynamicObject::new(&name(self.pod), kind);
        let spec = match kind.kind.as_str() {
            "Service" => self.service(),
            "Ingress" => self.ingress(),
            _ => self.route(),
        };
        object.data = json!({"spec": stated(spec)});
        let address = self.address();
        let of_service = address.type_ == Some(SessionAddressType::Service);
        let metadata = &mut object.metadata;
        metadata.namespace = self.pod.namespace();
        metadata.labels = Some(
            [
                (meta::MANAGED_BY, meta::OPERATOR.to_owned()),
                (meta::SESSION, self.pod.uid().unwrap_or_default()),
                (meta::JOB_NAME, self.pod.labels().get(meta::JOB_NAME).cloned().unwrap_or_default()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        );
        // What is annotated is what people reach, not the Service behind an Ingress.
        if !address.annotations.is_empty() && (kind.kind == "Service") == of_service {
            metadata.annotations = Some(address.annotations);
        }
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": self.pod.name_any(),
            "uid": self.pod.uid(), "controller": true}]);
        metadata.owner_references = serde_json::from_value(owner).ok();
        object
    }

    fn address(&self) -> SessionAddress {
        self.session.address.clone().unwrap_or_default()
    }

    /// The Service's port: of one that people reach themselves the port in the URL.
    fn port(&self) -> i32 {
        let address = self.address();
        let stated = address.port.filter(|_| address.type_ == Some(SessionAddressType::Service));
        stated.unwrap_or(self.session.port)
    }

    fn service(&self) -> Value {
        let address = self.address();
        let kind = match address.type_ {
            Some(SessionAddressType::Service) => address.service_type.unwrap_or_default(),
            _ => ServiceType::ClusterIp,
        };
        let label = |key: &str| self.pod.labels().get(key).cloned().unwrap_or_default();
        let protocol = self.session.scheme.unwrap_or_default().as_str();
        json!({
            "type": kind.as_str(),
            "selector": {meta::JOB_ID: label(meta::JOB_ID), meta::ATTEMPT: label(meta::ATTEMPT)},
            // With an idle probe a pod is ready while somebody is connected, and nobody could be the first.
            "publishNotReadyAddresses": self.session.idle_limit().is_some(),
            // Controllers of Ingresses and meshes tell a container with TLS by either.
            "ports": [{"name": format!("{protocol}-{PORT}"), "appProtocol": protocol, "protocol": "TCP",
                "port": self.port(), "targetPort": self.session.port}],
        })
    }

    fn ingress(&self) -> Value {
        let address = self.address();
        let service = json!({"name": name(self.pod), "port": {"number": self.port()}});
        let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": service}});
        let tls = address.tls_secret.map(|secret| json!([{"hosts": [self.host], "secretName": secret}]));
        json!({
            "ingressClassName": address.ingress_class_name,
            "tls": tls,
            "rules": [{"host": self.host, "http": {"paths": [path]}}],
        })
    }

    fn route(&self) -> Value {
        let gateway = self.address().gateway.unwrap_or_default();
        json!({
            "parentRefs": [{
                "group": GATEWAY_API,
                "kind": "Gateway",
                "name": gateway.name,
                "namespace": gateway.namespace,
                "sectionName": gateway.section_name,
            }],
            "hostnames": [self.host],
            "rules": [{"backendRefs": [{"name": name(self.pod), "port": self.port()}]}],
        })
    }
}

/// Without members that are not stated.
fn stated(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(name, value)| (name, stated(value))).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(stated).collect()),
        other => other,
    }
}

/// What a session's URL is made from.
pub struct Place<'a> {
    /// Its pod.
    pub pod: &'a Pod,
    /// The session.
    pub session: &'a Session,
    /// The pod's node.
    pub node: Option<&'a Node>,
    /// The host name of an Ingress or route.
    pub host: &'a str,
    /// The objects that were made, in the order of [`kinds`].
    pub made: &'a [DynamicObject],
}

impl Place<'_> {
    /// The session's URL.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn url(&self) -> Result<String, String> {
        use SessionAddressType::{Gateway, Ingress, NodeExternalIp, NodeInternalIp, PodIp, Service};
        let address = self.session.address.clone().unwrap_or_default();
        let own_port = Some(self.session.port);
        let (host, port) = match address.type_ {
            None => (self.node_address(&["ExternalIP", "InternalIP"])?, own_port),
            Some(NodeExternalIp) => (self.node_address(&["ExternalIP"])?, own_port),
            Some(NodeInternalIp) => (self.node_address(&["InternalIP"])?, own_port),
            Some(PodIp) => {
                let ip = self.pod.status.as_ref().and_then(|status| status.pod_ip.clone());
                (ip.ok_or("The session's pod has no address yet")?, own_port)
            }
            Some(Service) => self.service_address(address.service_type.unwrap_or_default())?,
            Some(Ingress) => (self.host.to_owned(), None),
            Some(Gateway) => {
                self.check_route()?;
                (self.host.to_owned(), None)
            }
        };
        let scheme = address.scheme.or(self.session.scheme).unwrap_or_default();
        // A Service tells its port itself: with a node port the stated one is but its own, within the cluster.
        let stated = address.port.filter(|_| address.type_ != Some(Service));
        let port = stated.or(port).and_then(|port| u16::try_from(port).ok());
        Ok(session::url(scheme.as_str(), &host, port, self.session.path.as_deref().unwrap_or("/")))
    }

    fn node_address(&self, kinds: &[&str]) -> Result<String, String> {
        let node = self.node.ok_or("The session's node is not known")?;
        let addresses =
            node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let found = kinds.iter().find_map(|kind| addresses.iter().find(|address| address.type_ == *kind));
        let missing = || format!("Node {} has no {}", node.name_any(), kinds.join(" and no "));
        found.map(|address| address.address.clone()).ok_or_else(missing)
    }

    fn service_address(&self, kind: ServiceType) -> Result<(String, Option<i32>), String> {
        let service = self.made.first().ok_or("The session's Service is not made yet")?;
        let at = |pointer: &str| service.data.pointer(pointer);
        let number = |pointer: &str| at(pointer).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
        match kind {
            ServiceType::ClusterIp => {
                let namespace = self.pod.namespace().unwrap_or_default();
                Ok((format!("{}.{namespace}.svc", service.name_any()), number("/spec/ports/0/port")))
            }
            ServiceType::NodePort => {
                let port =
                    number("/spec/ports/0/nodePort").ok_or("The session's Service has no node port yet")?;
                Ok((self.node_address(&["ExternalIP", "InternalIP"])?, Some(port)))
            }
            ServiceType::LoadBalancer => {
                let text = |name: &str| {
                    let value = at(&format!("/status/loadBalancer/ingress/0/{name}"))?.as_str()?;
                    (!value.is_empty()).then(|| value.to_owned())
                };
                let host = text("hostname").or_else(|| text("ip"));
                let host = host.ok_or("The load balancer of the session's Service has no address yet")?;
                Ok((host, number("/spec/ports/0/port")))
            }
        }
    }

    /// A route that no Gateway took leads nowhere.
    fn check_route(&self) -> Result<(), String> {
        let route = self.made.get(1).ok_or("The session's route is not made yet")?;
        let parents = route.data.pointer("/status/parents").and_then(Value::as_array);
        let conditions = parents.into_iter().flatten().filter_map(|parent| parent["conditions"].as_array());
        let accepted: Vec<_> =
            conditions.flatten().filter(|condition| condition["type"] == "Accepted").collect();
        if accepted.iter().any(|condition| condition["status"] == "True") {
            return Ok(());
        }
        let why = accepted.first().and_then(|condition| condition["message"].as_str());
        Err(match why {
            Some(why) => format!("No Gateway has accepted the session's route: {why}"),
            None => "No Gateway has accepted the session's route yet".to_owned(),
        })
    }
}
