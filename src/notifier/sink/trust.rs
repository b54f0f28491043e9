//! Whose certificates are believed: the public authorities', or those that a rule names instead.

use std::sync::{Arc, OnceLock};

use batchyard_core::notification::text;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Failure;
use super::address::Host;

/// What is wrong with a bundle of certificates, if anything.
pub fn problem(bundle: Option<&str>) -> Option<String> {
    let bundle = bundle.filter(|bundle| !bundle.is_empty())?;
    certificates(bundle).and_then(|list| roots(&list)).err()
}

/// The certificates of a bundle in PEM.
pub(super) fn certificates(bundle: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle.as_bytes()).collect();
    match list {
        Ok(list) if list.is_empty() => Err("it holds no certificate in PEM".to_owned()),
        Ok(list) => Ok(list),
        Err(_) => Err("it is no PEM".to_owned()),
    }
}

fn roots(list: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in list {
        roots.add(certificate.clone()).map_err(|_| "a certificate of it cannot be used".to_owned())?;
    }
    Ok(roots)
}

/// The authorities of the machine, or of the image; read once.
fn public() -> Arc<RootCertStore> {
    static PUBLIC: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    PUBLIC
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
        .clone()
}

/// How TLS is spoken with a server that is believed for these certificates, else for the public ones.
pub(super) fn client(bundle: Option<&str>) -> Result<ClientConfig, String> {
    let roots = match bundle.filter(|bundle| !bundle.is_empty()) {
        Some(bundle) => Arc::new(roots(&certificates(bundle)?)?),
        None => public(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Speaks TLS by a connection, with a server that must prove to be this host.
pub(super) async fn connect<S>(
    config: ClientConfig,
    host: &Host<'_>,
    stream: S,
) -> Result<TlsStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = || Failure::later(text::tls_failed(host.called()));
    let name = host.name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_| failed())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|_| failed())
}
