//! A certificate that a process makes for itself when it begins.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with its key, which never leaves the process and goes with it. That is why it need not expire.
pub struct Identity {
    certificate: String,
    key: KeyPair,
}

impl Identity {
    /// One for a name.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key })
    }

    /// PEM: what others know it by.
    pub fn authority(&self) -> &str {
        &self.certificate
    }

    /// What a server shows and proves.
    ///
    /// # Errors
    /// Never, as far as is known: it was made just so.
    pub fn chain(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())?;
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok((vec![certificate], key))
    }
}

/// The cryptography of all that we serve.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
