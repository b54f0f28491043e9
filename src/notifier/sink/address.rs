//! Connections to addresses that may be spoken to, and to no others.

use std::net::SocketAddr;

use batchyard_core::notification::address::{Policy, check};
use batchyard_core::notification::text;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Failure;
use crate::settings::NotifierSettings;

/// How long a connection to one of several addresses may take to come about.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(4);
/// How many addresses of a name are tried.
const TRIED: usize = 3;

/// Knows which addresses may be spoken to.
#[derive(Clone, Debug)]
pub struct Guard(Policy);

impl Guard {
    /// As the administrator decided.
    pub fn new(settings: &NotifierSettings) -> Self {
        Self(Policy {
            private: settings.allow_private,
            allowed: settings.allowed_cidrs.clone(),
            denied: settings.denied_cidrs.clone(),
        })
    }

    /// The addresses of a host that may be spoken to.
    ///
    /// # Errors
    /// When there are none.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let found = lookup_host((name, port)).await.map_err(|_| Failure::later(text::unresolved(host)))?;
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in found {
            match check(address.ip(), &self.0) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = Some(text::address_refused(host, address.ip(), why)),
            }
        }
        allowed.truncate(TRIED);
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, refused) => Err(Failure::later(refused.unwrap_or_else(|| text::unresolved(host)))),
        }
    }

    /// A connection to one of these addresses: to the very one that was looked at.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        for address in self.resolve(host, port).await? {
            if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(Failure::later(text::unreachable(host)))
    }
}
