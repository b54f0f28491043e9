//! The certificate that callers see, read again when its files change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::sleep;
use tracing::{info, warn};

/// How often the files are looked at; a Secret that is mounted takes about a minute to arrive.
const LOOK: Duration = Duration::from_secs(15);

/// Reads certificate and key.
///
/// # Errors
/// When a file cannot be read, or both do not belong together.
pub(super) fn read(cert: &Path, key: &Path) -> Result<(Vec<u8>, Arc<ServerConfig>)> {
    let certificate = std::fs::read(cert).with_context(|| format!("{} cannot be read", cert.display()))?;
    let secret = std::fs::read(key).with_context(|| format!("{} cannot be read", key.display()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    let chain = chain.with_context(|| format!("{} is no PEM", cert.display()))?;
    let secret =
        PrivateKeyDer::from_pem_slice(&secret).with_context(|| format!("{} is no PEM", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((certificate, Arc::new(config)))
}

/// Looks at the files for ever. What cannot be read leaves what is served.
pub(super) async fn refresh(served: RustlsConfig, mut known: Vec<u8>, cert: &Path, key: &Path) {
    loop {
        sleep(LOOK).await;
        match read(cert, key) {
            Ok((certificate, config)) if certificate != known => {
                served.reload_from_config(config);
                known = certificate;
                info!("a new certificate is served");
            }
            Ok(_) => {}
            Err(error) => warn!("the certificate cannot be read again: {error:#}"),
        }
    }
}
