//! Certificates and kubeconfigs: an authority for a cluster, and one for its front proxy, made anew with
//! each cluster.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::network::Net;
use super::state::write_atomically;

/// Who gets a certificate to call the API server with: file name, user, group.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "admin", "system:masters"),
    ("apiserver-to-kubelet", "kube-apiserver-to-kubelet", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("kwok", "kwok", "system:masters"),
    ("karpenter", "karpenter", "system:masters"),
];

/// Makes everything unless it is there already; the last file written is the sign that it is.
pub(crate) fn create(folder: &Path, net: Net, nodes: &[&str]) -> Result<()> {
    if folder.join("complete").exists() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let authority = Authority::create(folder, "ca", "batchyard-local-ca")?;
    authority.issue("apiserver", "kube-apiserver", "", &api_server_names(net))?;
    for (file, user, group) in USERS {
        authority.issue(file, user, group, &[])?;
        kubeconfig(folder, net, file)?;
    }
    for node in nodes {
        authority.issue(node, &format!("system:node:{node}"), "system:nodes", &[])?;
        kubeconfig(folder, net, node)?;
    }
    // An authority of its own: whoever it vouches for is believed when it says for whom it asks.
    let front = Authority::create(folder, "front-proxy-ca", "batchyard-local-front-proxy-ca")?;
    front.issue("front-proxy", "front-proxy", "", &[])?;
    let tokens = KeyPair::generate()?;
    fs::write(folder.join("service-accounts.key"), tokens.serialize_pem())?;
    fs::write(folder.join("service-accounts.pub"), tokens.public_key_pem())?;
    fs::write(folder.join("complete"), "")?;
    Ok(())
}

/// The kubeconfig of one of the certificates.
pub(crate) fn kubeconfig_path(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{user}.kubeconfig"))
}

fn api_server_names(net: Net) -> Vec<String> {
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let addresses = [net.host(), net.kubernetes_service(), net.loopback()];
    names.into_iter().map(str::to_owned).chain(addresses).collect()
}

struct Authority<'a> {
    folder: &'a Path,
    issuer: Issuer<'a, KeyPair>,
}

impl<'a> Authority<'a> {
    fn create(folder: &'a Path, file: &str, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        fs::write(folder.join(format!("{file}.crt")), params.self_signed(&key)?.pem())?;
        Ok(Self { folder, issuer: Issuer::new(params, key) })
    }

    /// A certificate for a client, or for a server if it has names.
    fn issue(&self, file: &str, user: &str, group: &str, names: &[String]) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![if names.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.folder.join(format!("{file}.crt")), certificate.pem())?;
        fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem())
            .with_context(|| format!("cannot write the certificate {file}"))
    }
}

/// The file names are relative to the kubeconfig, so that a node, which sees the folder mounted
/// elsewhere, can use the same files.
fn kubeconfig(folder: &Path, net: Net, user: &str) -> Result<()> {
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "batchyard",
        "clusters": [{
            "name": "batchyard",
            "cluster": {"server": net.api_server(), "certificate-authority": "ca.crt"},
        }],
        "users": [{
            "name": user,
            "user": {"client-certificate": format!("{user}.crt"), "client-key": format!("{user}.key")},
        }],
        "contexts": [{"name": "batchyard", "context": {"cluster": "batchyard", "user": user}}],
    });
    write_atomically(&kubeconfig_path(folder, user), &serde_json::to_string_pretty(&text)?)
}
