//! What the gateway knows of the cluster: a cache for each kind that its callers can name.
//!
//! Reads come from here. What this process wrote is seen here before it answers; of what another replica wrote a
//! moment ago a job is looked up by its id (`Jobs`) and anything else by its name, live, before it counts as missing.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use batchyard_core::name;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::catalog::Catalog;
use super::failure::Failure;
use super::limits::Turns;
use crate::crd::{
    BatchJob, ComputeEnvironment, ConsumableResource, JobDefinition, JobQueue, SchedulingPolicy,
};
use crate::k8s::access_key::{AccessKey, object_name};
use crate::k8s::meta;
use crate::k8s::read::read;
use crate::k8s::scope::Scope;
use crate::k8s::watch::{Change, Feed};

/// How long an answer is held back until the cache shows what was written.
const SETTLE: Duration = Duration::from_secs(2);
/// So many lists of jobs by id may be under way at a time, and of one key.
const LOOKUPS: usize = 8;
const LOOKUPS_OF_A_KEY: usize = 2;

/// A cache and the news of it.
pub(super) struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub(super) store: Store<K>,
    changed: Receiver<u64>,
}

impl<K> Clone for Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changed: self.changed.clone() }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    pub(super) fn of(feed: &mut Feed<K>) -> Self {
        let news = Sender::new(0);
        let changed = news.subscribe();
        feed.listen(move |_| news.send_modify(|count| *count += 1));
        Self { store: feed.store(), changed }
    }

    /// Waits until the cache shows an object as it was written, or newer, or without it.
    pub(super) async fn settle(&self, written: &K) {
        let reference = ObjectRef::from_obj(written);
        let wanted = version(written);
        let mut changed = self.changed.clone();
        let shows = |_: &u64| {
            self.store.get(&reference).is_some_and(|cached| {
                cached.meta().uid != written.meta().uid || version(cached.as_ref()) >= wanted
            })
        };
        // A cache that lags behind holds up nobody for long.
        let _ = timeout(SETTLE, changed.wait_for(shows)).await;
    }

    /// Waits until the cache shows that an object is going or gone.
    pub(super) async fn settle_deletion(&self, object: &K) {
        let reference = ObjectRef::from_obj(object);
        let mut changed = self.changed.clone();
        let gone = |_: &u64| {
            self.store.get(&reference).is_none_or(|cached| {
                cached.meta().uid != object.meta().uid || cached.meta().deletion_timestamp.is_some()
            })
        };
        let _ = timeout(SETTLE, changed.wait_for(gone)).await;
    }
}

/// Since Kubernetes 1.35 resourceVersions may be compared as numbers.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Jobs by namespace and id.
type Ids = HashMap<(String, String), Vec<ObjectRef<BatchJob>>>;

/// Which jobs there are, by the id that AWS's clients know them by.
#[derive(Clone)]
pub(super) struct Jobs {
    pub(super) cache: Cache<BatchJob>,
    ids: Arc<RwLock<Ids>>,
    lookups: Arc<Turns>,
}

/// All caches, cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    pub(super) client: Client,
    pub(super) jobs: Jobs,
    pub(super) queues: Cache<JobQueue>,
    pub(super) environments: Cache<ComputeEnvironment>,
    pub(super) policies: Cache<SchedulingPolicy>,
    pub(super) resources: Cache<ConsumableResource>,
    pub(super) definitions: Cache<JobDefinition>,
    pub(super) revisions: Catalog,
    pub(super) namespaces: Store<Namespace>,
    keys: Keys,
    complete: Vec<Receiver<bool>>,
    watches: Arc<Mutex<Option<JoinSet<()>>>>,
}

/// Access keys by the names of their Secrets: whatever becomes of its labels, what was read from a Secret goes with it.
type Keys = Arc<RwLock<HashMap<String, Arc<AccessKey>>>>;

impl World {
    /// Prepares the caches and begins to watch; the keys are those of one namespace.
    pub(super) fn watch(client: &Client, own_namespace: &str, scope: &Scope) -> Self {
        let ours = format!("{}={}", meta::MANAGED_BY, meta::OPERATOR);
        let mut jobs = scope.feed(client, "", |_| {});
        let mut queues = scope.feed(client, "", |_| {});
        let mut environments = scope.environments(client);
        let mut policies = scope.feed(client, "", |_| {});
        let mut resources = scope.feed(client, "", |_| {});
        let mut definitions = scope.feed(client, "", |_| {});
        let mut revisions = scope.feed(client, &ours, |_| {});
        let namespaces = Feed::new(Api::all(client.clone()), "", |_: &mut Namespace| {});
        let secrets = Api::namespaced(client.clone(), own_namespace);
        let mut secrets: Feed<Secret> = Feed::new(secrets, meta::ACCESS_KEY, |_| {});
        let world = Self {
            client: client.clone(),
            jobs: Jobs::of(&mut jobs),
            queues: Cache::of(&mut queues),
            environments: Cache::of(&mut environments),
            policies: Cache::of(&mut policies),
            resources: Cache::of(&mut resources),
            definitions: Cache::of(&mut definitions),
            revisions: Catalog::of(&mut revisions),
            namespaces: namespaces.store(),
            keys: keys_of(&mut secrets),
            complete: vec![
                jobs.complete(),
                queues.complete(),
                environments.complete(),
                policies.complete(),
                resources.complete(),
                definitions.complete(),
                revisions.complete(),
                namespaces.complete(),
                secrets.complete(),
            ],
            watches: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(jobs.run());
        tasks.spawn(queues.run());
        tasks.spawn(environments.run());
        tasks.spawn(policies.run());
        tasks.spawn(resources.run());
        tasks.spawn(definitions.run());
        tasks.spawn(revisions.run());
        tasks.spawn(namespaces.run());
        tasks.spawn(secrets.run());
        Self { watches: Arc::new(Mutex::new(Some(tasks))), ..world }
    }

    /// Waits until every cache holds its first complete list.
    pub(super) async fn ready(&self) {
        for mut complete in self.complete.clone() {
            if complete.wait_for(|complete| *complete).await.is_err() {
                // The watches ended, and then nothing is ever ready.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for a watch to end, which none does by itself.
    pub(super) async fn ended(&self) {
        if let Some(tasks) = self.watches.lock().await.as_mut() {
            tasks.join_next().await;
        }
    }

    /// The access key of this id, if the namespace is there that it is for.
    pub(super) fn key(&self, id: &str) -> Option<Arc<AccessKey>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&object_name(id)).filter(|key| key.id == id).cloned()?;
        let namespace = self.namespaces.get(&ObjectRef::new(&key.binding.namespace))?;
        (namespace.metadata.uid.as_ref() == Some(&key.binding.namespace_uid)).then_some(key)
    }

    /// The labels and annotations of a namespace.
    pub(super) fn namespace(&self, namespace: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let found = self.namespaces.get(&ObjectRef::new(namespace));
        found.map(|found| (found.labels().clone(), found.annotations().clone())).unwrap_or_default()
    }

    /// The object that an AWS name means in a namespace: from the cache, else live.
    pub(super) async fn named<K>(
        &self,
        cache: &Cache<K>,
        namespace: &str,
        reference: &str,
    ) -> Result<Option<Arc<K>>, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let names = name::candidates(reference);
        let cached = names.iter().find_map(|name| cache.store.get(&ObjectRef::new(name).within(namespace)));
        match cached {
            Some(found) => Ok(Some(found)),
            None => Ok(self.live::<K>(namespace, reference).await?.map(Arc::new)),
        }
    }

    /// The same, as it is now: for whoever is about to change it.
    pub(super) async fn live<K>(&self, namespace: &str, reference: &str) -> Result<Option<K>, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        for name in name::candidates(reference).iter().filter(|name| name::is_object_name(name)) {
            let what = format!("get {} {namespace}/{name}", K::kind(&()));
            if let Some(found) = read(what, || api.get_opt(name)).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Jobs {
    fn of(feed: &mut Feed<BatchJob>) -> Self {
        let lookups = Arc::new(Turns::new(LOOKUPS, LOOKUPS_OF_A_KEY));
        let jobs = Self { cache: Cache::of(feed), ids: Arc::default(), lookups };
        let ids = jobs.ids.clone();
        feed.listen(move |change| {
            let job = change.object();
            let key = (job.namespace().unwrap_or_default(), id(job));
            let reference = ObjectRef::from_obj(job.as_ref());
            let mut ids = ids.write().unwrap_or_else(PoisonError::into_inner);
            let known = ids.entry(key.clone()).or_default();
            known.retain(|other| *other != reference);
            match change {
                Change::Applied(_) => known.push(reference),
                Change::Deleted(_) if known.is_empty() => drop(ids.remove(&key)),
                Change::Deleted(_) => {}
            }
        });
        jobs
    }

    /// The jobs of a namespace that a filter lets through.
    pub(super) fn all(&self, namespace: &str, filter: impl Fn(&BatchJob) -> bool) -> Vec<Arc<BatchJob>> {
        let is_here = |job: &BatchJob| job.metadata.namespace.as_deref() == Some(namespace);
        self.cache.store.state_filter(|job| is_here(job) && filter(job))
    }

    /// A job by its id, as the cache shows it.
    pub(super) fn cached(&self, namespace: &str, id: &str) -> Option<Arc<BatchJob>> {
        let key = (namespace.to_owned(), id.to_owned());
        let known = self.ids.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let found = known.unwrap_or_default();
        let found = found.iter().filter_map(|reference| self.cache.store.get(reference));
        // Of two jobs that state one id the older has it.
        found.min_by_key(|job| (job.creation_timestamp().map(|time| time.0), job.uid()))
    }

    /// A job by its id: from the cache, else by one consistent list. Few of those run at a time, fewer for one key, and
    /// none for what cannot be an id.
    pub(super) async fn find(
        &self,
        client: &Client,
        key: &AccessKey,
        id: &str,
    ) -> Result<Option<Arc<BatchJob>>, Failure> {
        let namespace = key.binding.namespace.as_str();
        if let Some(found) = self.cached(namespace, id) {
            return Ok(Some(found));
        }
        if !is_id(id) {
            return Ok(None);
        }
        let _turn = self.lookups.take(&key.id).await;
        // Another may have waited for the same, and the watch may have caught up.
        if let Some(found) = self.cached(namespace, id) {
            return Ok(Some(found));
        }
        let api: Api<BatchJob> = Api::namespaced(client.clone(), namespace);
        let params = ListParams::default().fields(&format!("spec.jobId={id}"));
        let what = format!("list BatchJobs of {namespace} with jobId {id}");
        let list = read(what, || api.list(&params)).await?;
        let oldest =
            list.items.into_iter().min_by_key(|job| (job.creation_timestamp().map(|time| time.0), job.uid()));
        Ok(oldest.map(Arc::new))
    }
}

/// The id of a job: what it states, else its object's uid.
pub(super) fn id(job: &BatchJob) -> String {
    job.spec.job_id.clone().or_else(|| job.uid()).unwrap_or_default()
}

/// True for what can be an id: a UUID as the schema has it.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn keys_of(feed: &mut Feed<Secret>) -> Keys {
    let keys = Keys::default();
    let index = keys.clone();
    feed.listen(move |change| {
        let secret = change.object();
        let name = secret.name_any();
        let mut keys = index.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Applied(_) => match AccessKey::read(secret) {
                Ok(key) => drop(keys.insert(name, Arc::new(key))),
                Err(why) => {
                    warn!(secret = name, why, "an access key cannot be read, and so is none");
                    keys.remove(&name);
                }
            },
            Change::Deleted(_) => drop(keys.remove(&name)),
        }
    });
    keys
}
