//! The name server of the pods: it knows the services and pods of the cluster and nothing else, so that no lookup
//! leaves the machine.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::control_plane::{await_component, ensure};
use super::local::Local;
use super::pki::kubeconfig_path;
use super::state::write_atomically;
use crate::process::output;

/// The name of its process.
pub(crate) const NAME: &str = "coredns";

/// How to start it. It listens on the bridge, where only the cluster's nodes and this machine are.
pub(crate) fn command(local: &Local) -> Result<Command> {
    let (net, kubeconfig) = (local.state.net, kubeconfig_path(&local.pki(), "admin"));
    let corefile = format!(
        "cluster.local in-addr.arpa {{\n  bind {host}\n  errors\n  \
         kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {kubeconfig}\n    pods insecure\n    ttl 1\n  }}\n}}\n\
         . {{\n  bind {host}\n  template ANY ANY . {{\n    rcode NXDOMAIN\n  }}\n}}\n",
        host = net.host(),
        kubeconfig = kubeconfig.display(),
    );
    let file = local.folder.join("Corefile");
    write_atomically(&file, &corefile)?;
    let mut command = Command::new(local.tools.program(NAME)?);
    command.arg("-conf").arg(file);
    Ok(command)
}

/// Starts it unless it runs, and makes the service that pods are told of.
pub(crate) fn start(local: &mut Local) -> Result<()> {
    ensure(local, NAME)?;
    make_service(local)?;
    let address = format!("{}:53", local.state.net.host()).parse().context("the name server's address")?;
    await_component(local, NAME, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// The service has no selector: behind it is no pod but a process of this machine.
fn make_service(local: &Local) -> Result<()> {
    let (net, protocols) = (local.state.net, ["UDP", "TCP"]);
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "port": 53, "protocol": protocol});
    let metadata = json!({
        "name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"},
    });
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": net.name_server(), "ports": protocols.map(port)},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": protocols.map(port), "endpoints": [{"addresses": [net.host()]}],
        },
    ]});
    let file = local.folder.join("name-server.json");
    fs::write(&file, objects.to_string())?;
    output(local.kubectl(["apply", "--server-side", "-f"])?.arg(&file))?;
    Ok(())
}
