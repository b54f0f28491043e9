//! Connections to addresses that may be spoken to, and to no others.

use std::net::SocketAddr;

use batchyard_core::notification::address::{Policy, Refusal, check};
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
    async fn resolve(&self, to: &Host<'_>, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let name = to.name.trim_start_matches('[').trim_end_matches(']');
        let unresolved = || Failure::later(text::unresolved(to.called()));
        let found = lookup_host((name, port)).await.map_err(|_| unresolved())?;
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in found {
            match check(address.ip(), &self.0) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = Some(to.refused(address, why)),
            }
        }
        allowed.truncate(TRIED);
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, refused) => Err(refused.unwrap_or_else(unresolved)),
        }
    }

    /// A connection to one of the addresses of a host: to the very one that was looked at.
    pub(super) async fn connect(&self, to: &Host<'_>, port: u16) -> Result<TcpStream, Failure> {
        for address in self.resolve(to, port).await? {
            if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(Failure::later(text::unreachable(to.called())))
    }
}

/// A host to speak to, and what may be said of it.
pub(super) struct Host<'a> {
    /// Its name or address.
    pub(super) name: &'a str,
    /// It stands in a Secret: neither its name nor what that resolves to is told.
    pub(super) is_secret: bool,
}

impl<'a> Host<'a> {
    /// What it is called before people.
    pub(super) fn called(&self) -> &'a str {
        if self.is_secret { text::SINK } else { self.name }
    }

    fn refused(&self, address: SocketAddr, why: Refusal) -> Failure {
        let address = (!self.is_secret).then(|| address.ip());
        Failure::later(text::address_refused(self.called(), address, why))
    }
}
