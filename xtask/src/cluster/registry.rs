//! The local registry that every image name resolves to.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::control_plane::{await_component, ensure};
use super::local::Local;
use super::state::write_atomically;

/// The name of its process.
pub(crate) const NAME: &str = "registry";

/// How to start it.
pub(crate) fn command(local: &Local) -> Result<Command> {
    let config = json!({
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": local.folder.join("registry")},
            "delete": {"enabled": true},
        },
        "http": {"addr": local.state.net.registry()},
    });
    let file = local.folder.join("registry.json");
    write_atomically(&file, &config.to_string())?;
    let mut command = Command::new(local.tools.program("registry")?);
    // Without this it looks for a collector of traces all the time.
    command.arg("serve").arg(file).env("OTEL_TRACES_EXPORTER", "none");
    Ok(command)
}

/// Starts it unless it runs, and waits until it answers.
pub(crate) fn start(local: &mut Local) -> Result<()> {
    ensure(local, NAME)?;
    let address = local.state.net.registry().parse().context("the registry's address")?;
    await_component(local, NAME, || {
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    })
}

/// Stops it: pulls now fail as they do when a registry is down. Its images stay.
pub(crate) fn stop(local: &mut Local) -> Result<()> {
    local.stop_process(NAME)
}
