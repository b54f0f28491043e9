//! The certificate that callers see.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::door::Door;
use crate::support::receiver::certificate;
use crate::support::wait;

/// What somebody who trusts this certificate alone is answered; nothing if the gateway shows another one.
async fn answer(door: &Door, trusted: &str) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = TcpStream::connect(door.address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = TlsConnector::from(Arc::new(config)).connect(name, connection).await.ok()?;
    let request =
        b"POST /v1/listjobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    connection.write_all(request).await.expect("it reads");
    let mut said = String::new();
    connection.read_to_string(&mut said).await.expect("it answers");
    Some(said)
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gateway-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let write = |(certificate, secret): &(String, String)| {
        fs::write(&key, secret).expect("a file");
        fs::write(&cert, certificate).expect("a file");
    };
    let (first, second) = (certificate(), certificate());
    write(&first);
    let (cert_at, key_at) = (cert.display().to_string(), key.display().to_string());
    let door = Door::open(&["--tls-cert", &cert_at, "--tls-key", &key_at]).await;
    let told = answer(&door, &first.0).await.expect("its certificate");
    assert!(told.starts_with("HTTP/1.1 403") && told.contains("MissingAuthenticationToken"), "{told}");
    assert_eq!(answer(&door, &second.0).await, None);
    assert_eq!(door.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 0, "plain HTTP is not spoken");
    // What makes no sense leaves what is served.
    fs::write(&cert, "no certificate").expect("a file");
    wait::answer("a word of it", "", || {
        let told = door.said().contains("the certificate cannot be read again");
        std::future::ready(told.then_some(()))
    })
    .await;
    assert!(answer(&door, &first.0).await.is_some());
    write(&second);
    wait::answer("the new certificate", "", || answer(&door, &second.0)).await;
    assert_eq!(answer(&door, &first.0).await, None, "the old one is not served any more");
    let _ = fs::remove_dir_all(&folder);
}
