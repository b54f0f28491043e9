//! A call whose caller is known: for which namespace it is, what it may do there, and what it says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::Api;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::account::{Account, derived_id};
use super::failure::Failure;
use super::jobs::LookedUp;
use super::limits::Turns;
use super::settings::{Settings, is_account_id};
use super::world::World;
use crate::crd::BatchJob;
use crate::crd::rights::Asked;
use crate::k8s::access;
use crate::k8s::access_key::AccessKey;
use crate::k8s::apply::Writer;
use crate::k8s::meta;

const GROUP: &str = "batchyard.io";
/// A right that was granted is believed for so long: as long as a token that is taken away would still be.
const BELIEVED: Duration = Duration::from_secs(5);
/// So many answers are kept.
const ANSWERS: usize = 10_000;

/// So many outputs of containers are read at a time, and of one key.
const LOG_READS: usize = 64;
const LOG_READS_OF_A_KEY: usize = 16;

/// What every call shares.
pub(super) struct Gateway {
    pub(super) settings: Settings,
    pub(super) world: World,
    pub(super) writer: Writer,
    pub(super) log_reads: Turns,
    /// Rights that were granted, and when.
    granted: Mutex<HashMap<Right, Instant>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Right {
    user: String,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
    name: Option<String>,
}

impl Gateway {
    pub(super) fn new(settings: Settings, world: World, writer: Writer) -> Self {
        let log_reads = Turns::new(LOG_READS, LOG_READS_OF_A_KEY);
        Self { settings, world, writer, log_reads, granted: Mutex::default() }
    }

    /// The account that a namespace is.
    pub(super) fn account(&self, namespace: &str) -> Account {
        let annotated = self.world.namespace(namespace).1.remove(meta::ACCOUNT_ID);
        let id = annotated.filter(|id| is_account_id(id)).or_else(|| self.settings.account_id.clone());
        Account {
            namespace: namespace.to_owned(),
            id: id.unwrap_or_else(|| derived_id(namespace)),
            region: self.settings.region.clone(),
            partition: self.settings.partition.clone(),
        }
    }
}

/// A call of one operation.
pub(super) struct Call {
    pub(super) gateway: Arc<Gateway>,
    pub(super) key: Arc<AccessKey>,
    pub(super) account: Account,
    /// The operation's name.
    pub(super) operation: &'static str,
    /// By which an SDK names all tries of one call.
    pub(super) invocation: Option<String>,
    pub(super) now: Timestamp,
    pub(super) looked_up: LookedUp,
}

impl Call {
    pub(super) fn world(&self) -> &World {
        &self.gateway.world
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.gateway.writer
    }

    /// The namespace that the caller works in.
    pub(super) fn namespace(&self) -> &str {
        &self.account.namespace
    }

    /// Objects of the caller's namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.world().client.clone(), self.namespace())
    }

    /// A job of the caller's namespace, by its id.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(super) async fn job(&self, id: &str) -> Result<Option<Arc<BatchJob>>, Failure> {
        self.world().jobs.find(&self.world().client, &self.key, id).await
    }

    /// Asks whether the caller's ServiceAccount may do something in its namespace. Environments belong to no
    /// namespace; the right to make those of this one is asked for as if they did, so that a RoleBinding can grant it.
    ///
    /// # Errors
    /// When it may not, or the API server does not answer.
    pub(super) async fn may(
        &self,
        verb: &'static str,
        resource: &'static str,
        name: Option<&str>,
    ) -> Result<(), Failure> {
        let name = name.map(str::to_owned);
        let user = self.key.person().user;
        let right = Right { user, verb, group: GROUP, resource, subresource: None, name };
        self.has(right, "batch", &format!("{resource}.{GROUP}")).await
    }

    /// The same for what a definition asks for: accounts to act as, log groups, and ways out of a container.
    ///
    /// # Errors
    /// When it may not, or the API server does not answer.
    pub(super) async fn may_ask_for(&self, asked: Asked) -> Result<(), Failure> {
        let (verb, resource) = ("use", "serviceaccounts");
        for account in asked.accounts {
            let user = self.key.person().user;
            let right = Right { user, verb, group: "", resource, subresource: None, name: Some(account) };
            self.has(right, "batch", resource).await?;
        }
        for group in &asked.log_groups {
            self.may("use", "loggroups", Some(group)).await?;
        }
        for privilege in asked.privileges {
            self.may("privilege", "containers", Some(privilege)).await?;
        }
        Ok(())
    }

    /// The same for what jobs of the namespace wrote.
    ///
    /// # Errors
    /// When it may not be read, or the API server does not answer.
    pub(super) async fn may_read_logs(&self) -> Result<(), Failure> {
        let user = self.key.person().user;
        let (group, resource, subresource) = ("", "pods", Some("log"));
        let right = Right { user, verb: "get", group, resource, subresource, name: None };
        self.has(right, "logs", "pods/log").await
    }

    async fn has(&self, right: Right, service: &str, shown: &str) -> Result<(), Failure> {
        let now = Instant::now();
        let is_known = |at: &Instant| now.duration_since(*at) < BELIEVED;
        if self.granted().get(&right).is_some_and(is_known) {
            return Ok(());
        }
        let what = ResourceAttributes {
            group: Some(right.group.to_owned()),
            resource: Some(right.resource.to_owned()),
            subresource: right.subresource.map(str::to_owned),
            verb: Some(right.verb.to_owned()),
            namespace: Some(self.namespace().to_owned()),
            name: right.name.clone(),
            ..ResourceAttributes::default()
        };
        if access::review(&self.world().client, &self.key.person(), what).await?.is_err() {
            let named = right.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            return Err(Failure::denied(format!(
                "User: {} is not authorized to perform: {service}:{} because no Kubernetes role allows it to {} \
                 {shown}{named} in namespace {}",
                right.user,
                self.operation,
                right.verb,
                self.namespace()
            )));
        }
        let mut granted = self.granted();
        if granted.len() >= ANSWERS {
            granted.retain(|_, at| is_known(at));
        }
        if granted.len() < ANSWERS {
            granted.insert(right, now);
        }
        Ok(())
    }

    fn granted(&self) -> std::sync::MutexGuard<'_, HashMap<Right, Instant>> {
        self.gateway.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what a call says. A member that the operation does not have is an error.
///
/// # Errors
/// When a member is missing, unknown, or of another type.
pub(super) fn input<T: DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body).map_err(|error| {
        let text = error.to_string();
        let missing = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        Failure::client(match missing {
            Some(member) => format!("'{member}' is a required field (cannot be an empty string)"),
            None => format!("Error executing request, Exception : {text}"),
        })
    })
}

/// Takes the members that are null out of a body: to AWS they are absent.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// A text that must not be empty.
///
/// # Errors
/// When it is.
pub(super) fn needed<'a>(member: &str, text: &'a str) -> Result<&'a str, Failure> {
    match text.is_empty() {
        true => Err(Failure::client(format!("'{member}' is a required field (cannot be an empty string)"))),
        false => Ok(text),
    }
}

/// A time as AWS Batch has them: milliseconds.
pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}
