//! What the gateway is started with; the chart's values end here.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::k8s::scope::Scope;
use crate::serve::ProbeSettings;

/// Settings of the gateway. Each can be given as an argument or in the environment.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Where the AWS API is served.
    #[arg(long, env = "BATCHYARD_GATEWAY_ADDRESS", default_value = "127.0.0.1:8000")]
    pub address: SocketAddr,
    /// The certificate that it is served with, PEM; read again when it changes.
    #[arg(long, env = "BATCHYARD_GATEWAY_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long, env = "BATCHYARD_GATEWAY_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve without TLS on an address that others can reach: only behind something that ends TLS.
    #[arg(long, env = "BATCHYARD_GATEWAY_PLAIN_HTTP", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub plain_http: bool,
    /// Where metrics and probes are served, and to whom.
    #[command(flatten)]
    pub probes: ProbeSettings,
    /// The gateway's own namespace, where access keys are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "batchyard-system")]
    pub namespace: String,
    /// Whose callers it serves.
    #[command(flatten)]
    pub scope: Scope,
    /// The region that clients have to name, and that ARNs show.
    #[arg(long, env = "BATCHYARD_GATEWAY_REGION", default_value = "us-east-1")]
    pub region: String,
    /// The first part of ARNs.
    #[arg(long, env = "BATCHYARD_GATEWAY_PARTITION", default_value = "aws")]
    pub partition: String,
    /// The account id of namespaces without the annotation batchyard.io/account-id; default: one that is computed from
    /// the namespace's name.
    #[arg(long, env = "BATCHYARD_GATEWAY_ACCOUNT_ID", value_parser = account_id)]
    pub account_id: Option<String>,
    /// How many requests a second an access key may make, on average; 0: any number.
    #[arg(long, env = "BATCHYARD_GATEWAY_REQUESTS_PER_SECOND", default_value_t = 500)]
    pub requests_per_second: u32,
    /// How many requests may be under way at a time.
    #[arg(long, env = "BATCHYARD_GATEWAY_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// Serve what jobs wrote as CloudWatch Logs does; the gateway then needs the right to read logs of pods.
    #[arg(long, env = "BATCHYARD_GATEWAY_LOGS", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub logs: bool,
}

impl Settings {
    /// Refuses to serve signatures and answers in plain text to others than this machine.
    ///
    /// # Errors
    /// When the address is no loopback address and there is no TLS.
    pub fn check(&self) -> Result<()> {
        if self.tls_cert.is_none() && !self.plain_http && !self.address.ip().is_loopback() {
            bail!(
                "{} can be reached by others: give --tls-cert and --tls-key, or --plain-http if something else ends TLS",
                self.address
            );
        }
        Ok(())
    }
}

fn account_id(text: &str) -> Result<String, String> {
    is_account_id(text).then(|| text.to_owned()).ok_or_else(|| "an account id has 12 digits".to_owned())
}

/// True for 12 digits.
pub(super) fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}
