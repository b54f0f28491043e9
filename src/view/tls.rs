//! Both sides prove who they are: the leader by a certificate that it made when it began to lead, the API
//! server by the one that it has as a front proxy.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::front::FrontProxy;
use crate::certificate::{Identity, provider};

/// Serves with this certificate, for the API server alone.
pub(super) fn server(identity: &Identity, front: &FrontProxy) -> Result<ServerConfig> {
    let provider = provider();
    let verifier = Arc::new(OfFrontProxy::new(front, provider.clone())?);
    let (chain, key) = identity.chain()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts certificates of the front proxy's authority that have one of its names.
#[derive(Debug)]
struct OfFrontProxy {
    signed: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl OfFrontProxy {
    fn new(front: &FrontProxy, provider: Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(front.authority.as_bytes()) {
            roots.add(certificate.context("the front proxy's authority is no PEM")?)?;
        }
        if roots.is_empty() {
            bail!("the front proxy's authority has no certificate");
        }
        let signed = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { signed, names: front.names.clone() })
    }
}

impl ClientCertVerifier for OfFrontProxy {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.signed.verify_client_cert(end_entity, intermediates, now)?;
        let is_named =
            self.names.is_empty() || common_name(end_entity).is_some_and(|n| self.names.contains(&n));
        match is_named {
            true => Ok(verified),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
