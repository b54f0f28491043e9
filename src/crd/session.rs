//! Interactive sessions: a job that people connect to.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, rule};

const SESSION: &[Rule] = &[rule(
    "has(self.idleTimeoutSeconds) == has(self.idleProbe)",
    "idleTimeoutSeconds and idleProbe need each other",
)];

/// A job that people connect to while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(SESSION)))]
pub struct Session {
    /// The container's port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// https (default) or http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Path of the session's URL; default /.
    #[schemars(length(max = 2048))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// While it passes the session is ready and status.session.url is set; default: a TCP connection to the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<SessionProbe>,
    /// How people reach the session; default: the node's external address, else its internal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SessionAddress>,
    /// End the session after so many seconds without connections; default: never. Needs idleProbe.
    #[schemars(range(min = 60, max = 31_536_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<i32>,
    /// Passes while somebody is connected; the kubelet runs it in the container, or asks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_probe: Option<SessionProbe>,
    /// Name of the Secret with the session's credentials, for people to look up.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
}

/// The scheme of a session's URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// With TLS.
    #[default]
    Https,
    /// Without TLS.
    Http,
}

impl Session {
    /// The port that people connect to; the schema admits no other numbers.
    pub fn port(&self) -> u16 {
        u16::try_from(self.port).unwrap_or_default()
    }

    /// Whose address the URL has, if that is stated.
    pub fn address_type(&self) -> Option<SessionAddressType> {
        self.address.as_ref().and_then(|address| address.type_)
    }

    /// True if people connect to the node on which it runs: its port is the node's.
    pub fn is_at_node(&self) -> bool {
        use SessionAddressType::{NodeExternalIp, NodeInternalIp};
        matches!(self.address_type(), None | Some(NodeExternalIp | NodeInternalIp))
    }

    /// The kind of address for which objects are made, if it is one.
    pub fn made_for(&self) -> Option<SessionAddressType> {
        use SessionAddressType::{Gateway, Ingress, Service};
        self.address_type().filter(|kind| matches!(kind, Service | Ingress | Gateway))
    }

    /// After how long without connections it ends.
    pub fn idle_limit(&self) -> Option<SignedDuration> {
        self.idle_timeout_seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds)))
    }
}

impl SessionAddressType {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeExternalIp => "NodeExternalIP",
            Self::NodeInternalIp => "NodeInternalIP",
            Self::PodIp => "PodIP",
            Self::Service => "Service",
            Self::Ingress => "Ingress",
            Self::Gateway => "Gateway",
        }
    }
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

const ADDRESS: &[Rule] = &[
    rule(
        "!has(self.type) || !(self.type in ['Ingress', 'Gateway']) || has(self.host)",
        "an address of type Ingress or Gateway needs a host",
    ),
    rule(
        "!has(self.type) || self.type != 'Gateway' || has(self.gateway)",
        "an address of type Gateway needs a gateway",
    ),
];

/// How people reach a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(ADDRESS)))]
pub struct SessionAddress {
    /// NodeExternalIP, NodeInternalIP, PodIP, Service, Ingress or Gateway.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<SessionAddressType>,
    /// For Ingress and Gateway: the host name; {jobId}, {jobName} and {namespace} are filled in.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port in the URL, where it is not the container's (Ingress, Gateway: the scheme's); of a Service its own port.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// The scheme in the URL, where it is not the container's: a Gateway or an Ingress may end TLS or begin it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// For Service: ClusterIP, NodePort or LoadBalancer (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_type: Option<ServiceType>,
    /// For Ingress: the class.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_class_name: Option<String>,
    /// For Ingress: the Secret with the certificate.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<String>,
    /// For Gateway: the Gateway that routes to the session, by a TLSRoute if the container has TLS, else by an HTTPRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRef>,
    /// Annotations of the Service, Ingress or route.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The type of the Service of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable within the cluster.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// A port of every node.
    NodePort,
    /// A load balancer of the provider.
    #[default]
    LoadBalancer,
}

impl ServiceType {
    /// As Services have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Whose address a session's URL has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SessionAddressType {
    /// The node's external address.
    #[default]
    #[serde(rename = "NodeExternalIP")]
    NodeExternalIp,
    /// The node's internal address.
    #[serde(rename = "NodeInternalIP")]
    NodeInternalIp,
    /// The pod's address.
    #[serde(rename = "PodIP")]
    PodIp,
    /// A Service made for the attempt.
    Service,
    /// An Ingress made for the attempt.
    Ingress,
    /// A route made for the attempt.
    Gateway,
}

/// Names a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its namespace; default: the job's.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The listener.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

const PROBE: &[Rule] = &[rule(
    "[has(self.httpGet), has(self.tcpSocket), has(self.exec)].filter(x, x).size() == 1",
    "a probe needs exactly one of httpGet, tcpSocket and exec",
)];

/// A check of the session's container, as in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(PROBE)))]
pub struct SessionProbe {
    /// Passes on a 2xx or 3xx answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpProbe>,
    /// Passes when a connection is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpProbe>,
    /// Passes when the command exits with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecProbe>,
    /// Seconds after the start before the first check; default 0.
    #[schemars(range(min = 0, max = 86_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay_seconds: Option<i32>,
    /// Seconds between checks; default 10.
    #[schemars(range(min = 1, max = 86_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<i32>,
    /// Seconds that a check may take; default 1.
    #[schemars(range(min = 1, max = 86_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Checks in a row that must pass; default 1.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<i32>,
    /// Checks in a row that must fail; default 3.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
}

/// An HTTP request to the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// The path; default /.
    #[schemars(length(max = 2048))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The port; default: the session's.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// http or https; default: the session's. Certificates are not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

/// A TCP connection to the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// The port; default: the session's.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A command in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecProbe {
    /// The command and its arguments.
    #[schemars(length(min = 1, max = 128), inner(length(max = 4096)))]
    pub command: Vec<String>,
}
