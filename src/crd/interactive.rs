//! What a definition and a job say of the network and of people who connect: the host's network and sessions.
//!
//! The host's network comes from the definition alone. A job may make itself a session, but it never takes a port of a
//! node that its definition does not have: ports of nodes are everybody's.

use std::sync::Arc;

use batchyard_core::definition::docker_options::{self, DockerOptions};
use serde_json::Value;

use super::session::{Session, SessionAddressType};
use super::{BatchJobSpec, JobDefinitionSpec};

/// What the parameter `command` of a definition says as options of `docker run`, if it is meant so.
pub fn options_of(definition: &JobDefinitionSpec) -> Option<DockerOptions> {
    // Most definitions have no such parameter, and need not be taken apart.
    definition.parameters.get("command").filter(|text| text.trim_start().starts_with("--"))?;
    docker_options(&serde_json::to_value(definition).unwrap_or_default())
}

/// The same, of a definition as it is written.
pub fn docker_options(definition: &Value) -> Option<DockerOptions> {
    let parameter = definition.pointer("/parameters/command")?.as_str()?;
    let mut commands = Vec::new();
    collect_commands(definition, &mut commands);
    let mut options = docker_options::read(parameter, commands.into_iter())?;
    if options.host_network && wants_own_network(definition) {
        options.without_effect.insert(0, docker_options::HOST_NETWORK.to_owned());
    }
    Some(options)
}

/// True if the pod, of a multi-node job one of them, says that it has a network of its own: see `Work::network`.
fn wants_own_network(definition: &Value) -> bool {
    let own = |parent: &Value| {
        parent.pointer("/eksProperties/podProperties/hostNetwork") == Some(&Value::Bool(false))
    };
    let ranges = definition.pointer("/nodeProperties/nodeRangeProperties").and_then(Value::as_array);
    own(definition) || ranges.into_iter().flatten().any(own)
}

/// The elements of all lists of words that a container is started with, wherever they stand.
fn collect_commands<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::Array(words) if name == "command" || name == "args" => {
                        found.extend(words.iter().filter_map(Value::as_str));
                    }
                    _ => collect_commands(value, found),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect_commands(element, found)),
        _ => {}
    }
}

/// The session that a job is, if it is one: its own, else its definition's.
///
/// # Errors
/// A sentence that names the member, if the job cannot be that session.
pub fn session(
    job: &BatchJobSpec,
    definition: &JobDefinitionSpec,
    host_network: bool,
) -> Result<Option<Arc<Session>>, String> {
    let Some(session) = job.session.as_ref().or(definition.session.as_ref()) else { return Ok(None) };
    if job.array_properties.is_some() {
        return Err("session: an array job cannot be an interactive session".to_owned());
    }
    if definition.node_properties.is_some() {
        return Err("session: a multi-node job cannot be an interactive session".to_owned());
    }
    let is_inline = job.job_definition.is_none();
    let has_port = |of: &Session| of.is_at_node() && of.port == session.port;
    let may_have_port = host_network || is_inline || definition.session.as_deref().is_some_and(has_port);
    if session.is_at_node() && !may_have_port {
        return Err(format!(
            "session.address: the job definition gives the job no port {} of its node; say PodIP, Service, Ingress or \
             Gateway, or let the definition have the session or the host's network",
            session.port
        ));
    }
    Ok(Some(Arc::new(session.as_ref().clone())))
}

/// Members of a session that say nothing for what it is.
pub fn without_effect(spec: &Value) -> Vec<String> {
    let Some(session) = spec.get("session").filter(|session| session.is_object()) else { return Vec::new() };
    let is_there = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let mut found = Vec::new();
    if is_there(session.get("idleTimeoutSeconds")) {
        // The readiness probe is the pod's startup probe then: see `k8s::build::session`.
        for member in ["successThreshold", "failureThreshold"] {
            if is_there(session.pointer(&format!("/readinessProbe/{member}"))) {
                found.push(format!("session.readinessProbe.{member}"));
            }
        }
    }
    let Some(address) = session.get("address").and_then(Value::as_object) else { return found };
    let kind: Option<SessionAddressType> =
        address.get("type").and_then(|kind| serde_json::from_value(kind.clone()).ok());
    let special: &[&str] = match kind {
        Some(SessionAddressType::Service) => &["serviceType", "annotations"],
        Some(SessionAddressType::Ingress) => &["host", "ingressClassName", "tlsSecret", "annotations"],
        Some(SessionAddressType::Gateway) => &["host", "gateway", "annotations"],
        _ => &[],
    };
    let has_effect = |name: &String| {
        ["type", "port", "scheme"].contains(&name.as_str()) || special.contains(&name.as_str())
    };
    let says_something =
        |value: &Value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty());
    let idle = address.iter().filter(|(name, value)| !has_effect(name) && says_something(value));
    found.extend(idle.map(|(name, _)| format!("session.address.{name}")));
    found
}
