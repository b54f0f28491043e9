//! A gateway on this machine, in front of the cluster with nodes, with the rights that the chart gives it and no others.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};
use batchyard::k8s::access_key::{AccessKey, Binding};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use xtask::install::NAMESPACE;

use crate::cluster::answer;
use crate::scenario::PATIENCE;
use crate::support::client::kubeconfig;
use crate::support::program::{Program, free_address, get};

/// It ends with this value.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    _program: Program,
}

impl Door {
    /// Starts one; its name is that of its log, too.
    pub(crate) async fn open(name: &str) -> Result<Self> {
        let (address, probes) = (free_address(), free_address());
        let mut config = Kubeconfig::read_from(kubeconfig())?;
        for named in &mut config.auth_infos {
            let info = named.auth_info.get_or_insert_default();
            info.impersonate = Some(format!("system:serviceaccount:{NAMESPACE}:batchyard-gateway"));
            info.impersonate_groups = Some(vec!["system:authenticated".to_owned()]);
        }
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.kubeconfig"));
        fs::write(&path, serde_json::to_string(&config)?)?;
        let program = Program::start(name.to_owned(), &path, |command| {
            command.args([
                "gateway",
                "--address",
                &address.to_string(),
                "--metrics-address",
                &probes.to_string(),
            ]);
            command.env("POD_NAMESPACE", NAMESPACE);
        });
        answer("a gateway that is ready", PATIENCE, || async {
            Ok(get(probes, "/readyz").is_some_and(|(status, _)| status == 200).then_some(()))
        })
        .await?;
        Ok(Self { address, _program: program })
    }

    /// A program that finds the door as users have it found.
    pub(crate) fn with(&self, program: impl AsRef<Path>, key: &AccessKey) -> Command {
        let mut command = Command::new(program.as_ref());
        let endpoint = format!("http://{}", self.address);
        command.env("AWS_ENDPOINT_URL_BATCH", &endpoint).env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", endpoint);
        command.env("AWS_ACCESS_KEY_ID", &key.id).env("AWS_SECRET_ACCESS_KEY", key.secret.reveal());
        command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_PAGER", "").env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }
}

/// A key for a ServiceAccount.
pub(crate) async fn key(client: &Client, namespace: &str, service_account: &str) -> Result<AccessKey> {
    let found = Api::<Namespace>::all(client.clone()).get(namespace).await?;
    let key = AccessKey::generate(Binding {
        namespace: namespace.to_owned(),
        namespace_uid: found.metadata.uid.context("a uid")?,
        service_account: service_account.to_owned(),
        ..Binding::default()
    });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.create(&PostParams::default(), &key.object(NAMESPACE)).await?;
    Ok(key)
}

/// Runs a command to its end.
pub(crate) async fn end(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
