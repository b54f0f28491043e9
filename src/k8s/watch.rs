//! One watch per kind, feeding one cache and whoever listens.
//!
//! A listener hears of exact changes, also across a relist: what appeared or changed, and what is
//! gone. It is called after the cache has taken the change, so that what it wakes finds the new
//! state; a list is complete when all listeners were told of it.
//!
//! An object that cannot be decoded is logged and stays as it was last understood, until it is
//! deleted; one that never was is left out. It never stops the others
//! (<https://github.com/kube-rs/kube/issues/774>).
//!
//! Where a program works for some namespaces only, a cache has a watch for each of them (`joined`).

mod joined;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::select_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, ObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch::{Receiver, Sender};
use tracing::warn;

use self::joined::Joined;
use super::error::{chain, status};
use super::guard::Guarded;
use super::read::read;

/// A watch is renewed this often, in seconds: a connection that died silently is noticed within
/// five seconds more.
pub const WATCH_SECONDS: u32 = 60;

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It appeared or changed.
    Applied(Arc<K>),
    /// It is gone; its last known state.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The object, as it is or last was.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied(object) | Self::Deleted(object) => object,
        }
    }
}

/// Called with every change.
pub type Listener<K> = Box<dyn FnMut(&Change<K>) + Send>;

/// A watch that has not begun.
pub struct Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    apis: Vec<Api<Guarded<K>>>,
    joined: Option<Joined<K>>,
    config: watcher::Config,
    trim: Trim<K>,
    only: Option<Filter<K>>,
    writer: Writer<K>,
    reader: Store<K>,
    listeners: Vec<Listener<K>>,
    complete: Sender<bool>,
}

type Trim<K> = Arc<dyn Fn(&mut K) + Send + Sync>;
type Filter<K> = Box<dyn Fn(&K) -> bool + Send>;

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// A watch over all objects that the label selector (empty: all) chooses. `trim` takes off
    /// what the cache need not hold.
    pub fn new(api: Api<Guarded<K>>, labels: &str, trim: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        Self::joined(vec![api], labels, trim)
    }

    /// The same over several namespaces, each of which has its own right to be watched.
    pub fn joined(
        apis: Vec<Api<Guarded<K>>>,
        labels: &str,
        trim: impl Fn(&mut K) + Send + Sync + 'static,
    ) -> Self {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        if !labels.is_empty() {
            config = config.labels(labels);
        }
        let (reader, writer) = reflector::store();
        let complete = Sender::new(false);
        let namespaces = || apis.iter().map(|api| api.namespace().unwrap_or_default().to_owned());
        // One watch needs nobody to join it.
        let joined = (apis.len() > 1).then(|| Joined::new(namespaces()));
        let (trim, listeners) = (Arc::new(trim), Vec::new());
        Self { apis, joined, config, trim, only: None, writer, reader, listeners, complete }
    }

    /// The same for the objects alone that a filter lets through; whether it does must not change with the object.
    pub fn only(mut self, filter: impl Fn(&K) -> bool + Send + 'static) -> Self {
        self.only = Some(Box::new(filter));
        self
    }

    /// The cache; empty until the first list is complete.
    pub fn store(&self) -> Store<K> {
        self.reader.clone()
    }

    /// Adds a listener.
    pub fn listen(&mut self, listener: impl FnMut(&Change<K>) + Send + 'static) {
        self.listeners.push(Box::new(listener));
    }

    /// Says when the first list is complete. The cache itself says so before the listeners have heard
    /// of what is in it, and an index that a listener keeps would look emptier than the world is.
    pub fn complete(&self) -> Receiver<bool> {
        self.complete.subscribe()
    }

    /// Takes events as if they came from the API server.
    #[cfg(test)]
    pub(crate) fn deliver(&mut self, events: impl IntoIterator<Item = Event<K>>) {
        events.into_iter().for_each(|event| self.hear(event));
    }

    /// Watches until the task is dropped.
    pub async fn run(mut self) {
        let apis = self.apis.clone();
        let watches = apis.iter().enumerate().map(|(place, api)| {
            let events = watch(api.clone(), self.config.clone()).default_backoff();
            let (known, trim) = (self.reader.clone(), self.trim.clone());
            let decode = move |event| std::future::ready(Ok(decoded(event, trim.as_ref(), &known)));
            events.try_filter_map(decode).map(move |event| (place, event)).boxed()
        });
        let mut events = select_all(watches.collect::<Vec<_>>());
        while let Some((place, event)) = events.next().await {
            match event {
                Ok(event) => self.hear_from(place, event),
                // The right to watch a namespace may go with it. Nothing in it can be looked after then, and the others
                // must not wait for it.
                Err(error) if is_forbidden(&error) && is_leaving(&apis[place]).await => {
                    [Event::Init, Event::InitDone].into_iter().for_each(|event| self.hear_from(place, event));
                }
                Err(error) => {
                    let namespace = apis[place].namespace();
                    warn!(kind = %K::kind(&()), namespace, %error, "watch interrupted; it will be resumed");
                }
            }
        }
    }

    /// Takes an event of one of the watches.
    fn hear_from(&mut self, place: usize, event: Event<K>) {
        match &mut self.joined {
            None => self.hear(event),
            Some(joined) => {
                let events = joined.take(place, event, &self.reader);
                events.into_iter().for_each(|event| self.hear(event));
            }
        }
    }

    fn hear(&mut self, event: Event<K>) {
        if let (Some(only), Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) =
            (&self.only, &event)
            && !only(object)
        {
            return;
        }
        let ends_list = matches!(event, Event::InitDone);
        for change in take(&mut self.writer, &self.reader, event) {
            self.listeners.iter_mut().for_each(|listener| listener(&change));
        }
        if ends_list {
            self.complete.send_replace(true);
        }
    }
}

/// True for the answer that this process may not list or watch there.
fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            status(error).is_some_and(|status| status.code == 403)
        }
        _ => false,
    }
}

/// True if the namespace is being deleted or gone. Without an answer it is not.
async fn is_leaving<K: Resource + Clone>(watched: &Api<K>) -> bool {
    let Some(namespace) = watched.namespace() else { return false };
    let namespaces: Api<Namespace> = Api::all(watched.clone().into_client());
    let params = ListParams::default().fields(&format!("metadata.name={namespace}"));
    let found = read(format!("list Namespace {namespace}"), || namespaces.list_metadata(&params)).await;
    match found {
        Ok(found) => found.items.iter().all(|found| found.metadata.deletion_timestamp.is_some()),
        Err(error) => {
            warn!("{}", chain(&error));
            false
        }
    }
}

/// Gives an event to the cache and says what it changed.
fn take<K>(writer: &mut Writer<K>, reader: &Store<K>, event: Event<K>) -> Vec<Change<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let cached = |object: &K| reader.get(&ObjectRef::from_obj(object));
    match &event {
        Event::Apply(object) => {
            writer.apply_watcher_event(&event);
            cached(object).map(Change::Applied).into_iter().collect()
        }
        Event::Delete(object) => {
            let last = Change::Deleted(Arc::new(object.clone()));
            writer.apply_watcher_event(&event);
            vec![last]
        }
        Event::Init | Event::InitApply(_) => {
            writer.apply_watcher_event(&event);
            Vec::new()
        }
        Event::InitDone => {
            let before = reader.state();
            writer.apply_watcher_event(&event);
            let now = reader.state();
            let uids: HashSet<_> = now.iter().map(|object| object.uid()).collect();
            let gone = before.into_iter().filter(|object| !uids.contains(&object.uid())).map(Change::Deleted);
            gone.chain(now.into_iter().map(Change::Applied)).collect()
        }
    }
}

/// The event without its guard, and without what no cache needs. In place of an object that cannot
/// be decoded stands what is known of it; `None` if nothing is, or if that is as good as no change.
fn decoded<K>(event: Event<Guarded<K>>, trim: &dyn Fn(&mut K), known: &Store<K>) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let last_known = |metadata: &ObjectMeta| {
        let name = metadata.name.as_deref().unwrap_or_default();
        let reference = ObjectRef::new(name);
        let reference = match metadata.namespace.as_deref() {
            Some(namespace) => reference.within(namespace),
            None => reference,
        };
        let object = known.get(&reference)?;
        (object.meta().uid == metadata.uid).then(|| K::clone(&object))
    };
    let open = |guard: Guarded<K>| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            trim(&mut object);
            Ok(object)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.clone().unwrap_or_default();
            warn!(kind = %K::kind(&()), name, error = invalid.error, "object skipped: it cannot be decoded");
            Err(last_known(&invalid.metadata))
        }
    };
    Some(match event {
        Event::Apply(object) => Event::Apply(open(object).ok()?),
        Event::Delete(object) => Event::Delete(open(object).or_else(|known| known.ok_or(())).ok()?),
        Event::InitApply(object) => Event::InitApply(open(object).or_else(|known| known.ok_or(())).ok()?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// `namespace/name`, or the name of a cluster-scoped object.
pub fn key<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.namespace = Some("ns".into());
        object.metadata.uid = Some(format!("uid-{name}"));
        object
    }

    fn words(changes: &[Change<ConfigMap>]) -> String {
        let mut words: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Applied(object) => format!("+{}", object.name_any()),
                Change::Deleted(object) => format!("-{}", object.name_any()),
            })
            .collect();
        words.sort();
        words.join(" ")
    }

    #[test]
    fn a_relist_tells_of_what_is_gone() {
        let (reader, mut writer) = reflector::store();
        let mut told = Vec::new();
        for event in [
            Event::Apply(object("a")),
            Event::Apply(object("b")),
            Event::Init,
            Event::InitApply(object("b")),
            Event::InitApply(object("c")),
            Event::InitDone,
            Event::Delete(object("c")),
        ] {
            told.push(words(&take(&mut writer, &reader, event)));
        }
        assert_eq!(told, ["+a", "+b", "", "", "", "+b +c -a", "-c"]);
    }

    /// D10: what cannot be decoded stays as it was last understood, goes when it is deleted, and
    /// stops nobody else.
    #[test]
    fn d10_an_object_that_cannot_be_decoded_leaves_no_ghost() {
        let (reader, mut writer) = reflector::store();
        let good = |name: &str| Guarded(Ok(object(name)));
        let bad = |name: &str, uid: &str| {
            let metadata = ObjectMeta { uid: Some(uid.into()), ..object(name).metadata };
            let object = json!({"metadata": metadata, "data": "cut off"});
            let guard: Guarded<ConfigMap> = serde_json::from_value(object).expect("a guard");
            assert!(guard.0.is_err());
            guard
        };
        let mut told = Vec::new();
        for event in [
            Event::Apply(good("a")),
            Event::Apply(bad("a", "uid-a")),
            Event::Apply(bad("b", "uid-b")),
            Event::Apply(good("c")),
            Event::Init,
            Event::InitApply(bad("a", "uid-a")),
            Event::InitApply(bad("b", "uid-b")),
            Event::InitApply(good("c")),
            Event::InitDone,
            Event::Delete(bad("c", "another c")),
            Event::Delete(bad("b", "uid-b")),
            Event::Delete(bad("a", "uid-a")),
        ] {
            let event = decoded(event, &|_| {}, &reader);
            let changes = event.map(|event| take(&mut writer, &reader, event)).unwrap_or_default();
            told.push(words(&changes));
        }
        assert_eq!(told, ["+a", "", "", "+c", "", "", "", "", "+a +c", "", "", "-a"]);
        assert_eq!(reader.state().iter().map(|object| object.name_any()).collect::<Vec<_>>(), ["c"]);
    }
}
