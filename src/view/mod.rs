//! What the leader alone knows, for people who ask: an API of its own, read-only.
//!
//! The API server knows who asks, checks that they may, and passes the question on (an
//! [aggregated API](https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/)).
//! `front` reads from its word who that is, `tls` lets nobody in but the API server, `routes` checks
//! again that they may and answers with `rows`, and `announce` says where the leader is.
//!
//! Nothing else depends on it: if it fails, jobs run on, and `kubectl batch` says what objects tell.

mod announce;
mod front;
mod routes;
mod rows;
mod table;
mod tls;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::certificate::Identity;
use crate::controllers::Context;
use crate::settings::ViewSettings;
use announce::Announcement;
use front::FrontProxy;

/// How often it is checked that what was announced still stands, and that the API server is known by the
/// same authority.
const REFRESH: Duration = Duration::from_secs(300);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// How long answers under way may take when it ends.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// Serves until it is told to stop, if it is to be served at all.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let settings = context.settings.view.clone();
    let Some(service) = settings.service.clone() else { return stop.cancelled().await };
    while !stop.is_cancelled() {
        let served = tokio::select! {
            served = serve(&context, &settings, &service, &stop) => served,
            () = stop.cancelled() => return,
        };
        if let Err(error) = served {
            warn!("the view is not served: {error:#}");
            tokio::select! {
                () = sleep(RETRY) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Serves until it is told to stop, or the API server is to be known by another authority.
async fn serve(
    context: &Arc<Context>,
    settings: &ViewSettings,
    service: &str,
    stop: &CancellationToken,
) -> Result<()> {
    let client = context.writer.client().clone();
    let front = FrontProxy::read(&client).await?;
    let identity = Identity::new(&format!("{service}.{}.svc", context.settings.namespace))?;
    let config = RustlsConfig::from_config(Arc::new(tls::server(&identity, &front)?));
    let listener = TcpListener::bind(settings.address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("{} cannot be listened on", settings.address))?;
    let port = listener.local_addr()?.port();
    let Some(address) = settings.advertise.or_else(|| specified(settings)) else {
        bail!("the address at which the API server finds it is not known: set POD_IP");
    };
    let announcement = Announcement {
        service: service.to_owned(),
        namespace: context.settings.namespace.clone(),
        address,
        port,
        authority: identity.authority().to_owned(),
    };
    let handle = Handle::new();
    let app = routes::router(context.clone(), Arc::new(front.clone()));
    let server =
        axum_server::from_tcp_rustls(listener, config)?.handle(handle.clone()).serve(app.into_make_service());
    let upkeep = async {
        loop {
            announcement.keep(&context.writer).await?;
            info!(%address, port, "the view is served");
            sleep(REFRESH).await;
            if FrontProxy::read(&client).await? != front {
                info!("the API server has a new authority");
                return Ok(());
            }
        }
    };
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => bail!("the server ended: {ended:?}"),
        ended = upkeep => ended,
        () = stop.cancelled() => {
            handle.graceful_shutdown(Some(WIND_DOWN));
            server.await.context("the server ended")
        }
    }
}

/// The address that is listened on, if it is one.
fn specified(settings: &ViewSettings) -> Option<std::net::IpAddr> {
    Some(settings.address.ip()).filter(|address| !address.is_unspecified())
}
