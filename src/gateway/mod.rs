//! The AWS door: the API of AWS Batch, unchanged, over the same objects that kubectl shows
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/Welcome.html>).
//!
//! A request goes through `server` (limits, `sigv4`, `limits`) to `routes`, which names the operation, and to a file for
//! each family of operations; those of CloudWatch Logs are in `logs`, and `service` says how the two differ. A namespace is an account (`account`); what the caller may do in it is what the
//! ServiceAccount of its access key may do (`call`). Reads come from caches (`world`), writes are objects; nothing is kept
//! here, so that any number of replicas can serve.

mod account;
mod call;
mod catalog;
mod container;
mod definitions;
mod describe;
mod end;
mod environments;
mod failure;
#[cfg(test)]
#[path = "../../fuzz/door.rs"]
mod fuzz;
mod jobs;
mod limits;
mod list;
mod logs;
mod names;
mod page;
mod policies;
mod queues;
mod resources;
mod routes;
mod server;
mod service;
pub mod settings;
mod sigv4;
mod submit;
mod tags;
mod tls;
mod world;

use std::sync::Arc;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::call::Gateway;
use self::settings::Settings;
use self::world::World;
use crate::k8s::apply::Writer;
use crate::k8s::lease::Leadership;
use crate::metrics::Metrics;
use crate::program::{connect, signalled};
use crate::serve::{Health, Probed, Readiness, serve};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part of it ended.
pub async fn run(settings: Settings) -> Result<()> {
    settings.check()?;
    let metrics = Metrics::default();
    let ready = Readiness::default();
    let probed = Probed { metrics: metrics.clone(), ready: ready.clone(), health: Health::default() };
    let stop = CancellationToken::new();
    let client = connect().await?;
    let probes = serve(settings.probes.clone(), client.clone(), probed, CancellationToken::new());
    let probes = tokio::spawn(probes);
    let world = World::watch(&client, &settings.namespace, &settings.scope);
    // Never ends: what it stops does.
    let asked = signalled(stop.clone());
    tokio::pin!(asked);
    tokio::select! {
        () = world.ready() => info!("caches complete"),
        () = stop.cancelled() => return Ok(()),
        () = &mut asked => return Ok(()),
        answer = probes => bail!("the metrics server ended: {answer:?}"),
    }
    // Only a leader makes pods, and this is none.
    let writer = Writer::new(client, Leadership::never(), metrics.clone());
    let gateway = Arc::new(Gateway::new(settings, world.clone(), writer));
    tokio::select! {
        ended = server::serve(gateway, metrics, ready, stop.clone()) => ended,
        () = world.ended() => bail!("a watch ended"),
        () = asked => Ok(()),
    }
}
