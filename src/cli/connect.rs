//! Which cluster, which namespace, as whom: as kubectl has it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::client::ClientBuilder;
use kube::client::retry::RetryPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

use super::error::{Error, Kind, Result};

/// The options that every command has.
#[derive(Args, Clone, Debug, Default)]
pub struct Connection {
    /// The kubeconfig file; default: $KUBECONFIG, else ~/.kube/config, else the pod's own account.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; default: the current one.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    context: Option<String>,
    /// The namespace; default: the context's.
    #[arg(short, long, global = true, value_name = "NAMESPACE", help_heading = "Connection")]
    namespace: Option<String>,
    /// The user to act as.
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Connection")]
    impersonate: Option<String>,
    /// A group to act as; can be given more than once.
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        help_heading = "Connection",
        requires = "impersonate"
    )]
    impersonate_groups: Vec<String>,
}

/// A namespace of a cluster, with the user's own rights.
#[derive(Clone)]
pub(super) struct Cluster {
    /// Calls the API server.
    pub(super) client: Client,
    /// The namespace that commands are about.
    pub(super) namespace: String,
}

impl Connection {
    /// Reads the kubeconfig; the API server is not asked yet.
    ///
    /// # Errors
    /// When there is no way to an API server.
    pub(super) async fn open(&self) -> Result<Cluster> {
        let unusable = |why: String| {
            Error::new(Kind::Unreachable, format!("no cluster to talk to: {why}"))
                .with_hint("Give --kubeconfig or --context, or set KUBECONFIG.")
        };
        let mut config = self.config().await.map_err(unusable)?;
        if self.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&self.impersonate);
            config.auth_info.impersonate_groups = Some(self.impersonate_groups.clone());
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = patient(config).map_err(|error| unusable(error.to_string()))?;
        Ok(Cluster { client, namespace })
    }

    /// The namespace, also where there is no cluster.
    pub(super) async fn namespace(&self) -> String {
        match &self.namespace {
            Some(namespace) => namespace.clone(),
            None => {
                self.config().await.map_or_else(|_| "default".to_owned(), |config| config.default_namespace)
            }
        }
    }

    async fn config(&self) -> std::result::Result<Config, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(file) = &self.kubeconfig {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| error.to_string())?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            return config.map_err(|error| error.to_string());
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            Err(error) if self.context.is_some() => Err(error.to_string()),
            // In a pod there is no file, but an account.
            Err(error) => Config::incluster().map_err(|_| error.to_string()),
        }
    }
}

/// A client that asks again when the API server has too much to do, for some seconds; kube's own would
/// for many minutes.
fn patient(mut config: Config) -> kube::Result<Client> {
    const DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?;
    Ok(match RetryPolicy::new(DELAYS.0, DELAYS.1, 4, true) {
        // What is asked again must be kept, and whoever keeps it must be shared.
        Ok(policy) => builder.with_layer(&BufferLayer::new(64)).with_layer(&RetryLayer::new(policy)).build(),
        Err(_) => builder.build(),
    })
}

impl Cluster {
    /// Objects of the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of all namespaces, or of the cluster.
    pub(super) fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }
}
