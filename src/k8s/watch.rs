//! One watch per kind, feeding one cache and whoever listens.
//!
//! A listener hears of exact changes, also across a relist: what appeared or changed, and what is
//! gone. It is called after the cache has taken the change, so that what it wakes finds the new
//! state. An object that cannot be decoded is logged and left out; it never stops the others
//! (<https://github.com/kube-rs/kube/issues/774>).

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::warn;

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
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    trim: fn(&mut K),
    writer: Writer<K>,
    reader: Store<K>,
    listeners: Vec<Listener<K>>,
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// A watch over all objects that the label selector (empty: all) chooses. `trim` takes off
    /// what the cache need not hold.
    pub fn new(api: Api<DeserializeGuard<K>>, labels: &str, trim: fn(&mut K)) -> Self {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        if !labels.is_empty() {
            config = config.labels(labels);
        }
        let (reader, writer) = reflector::store();
        Self { api, config, trim, writer, reader, listeners: Vec::new() }
    }

    /// The cache; empty until the first list is complete.
    pub fn store(&self) -> Store<K> {
        self.reader.clone()
    }

    /// Adds a listener.
    pub fn listen(&mut self, listener: impl FnMut(&Change<K>) + Send + 'static) {
        self.listeners.push(Box::new(listener));
    }

    /// Watches until the task is dropped.
    pub async fn run(self) {
        let Self { api, config, trim, mut writer, reader, mut listeners } = self;
        let events = watch(api, config).default_backoff();
        let mut events = events.try_filter_map(|event| std::future::ready(Ok(decoded(event, trim)))).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    for change in take(&mut writer, &reader, event) {
                        listeners.iter_mut().for_each(|listener| listener(&change));
                    }
                }
                Err(error) => warn!(kind = %K::kind(&()), %error, "watch interrupted; it will be resumed"),
            }
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

/// The event without its guard, and without what no cache needs; `None` for an object that
/// cannot be decoded, which stays in the cache as it was before.
fn decoded<K: Resource<DynamicType = ()>>(
    event: Event<DeserializeGuard<K>>,
    trim: fn(&mut K),
) -> Option<Event<K>> {
    let open = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            trim(&mut object);
            Some(object)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            warn!(kind = %K::kind(&()), name, error = invalid.error, "object skipped: it cannot be decoded");
            None
        }
    };
    Some(match event {
        Event::Apply(object) => Event::Apply(open(object)?),
        Event::Delete(object) => Event::Delete(open(object)?),
        Event::InitApply(object) => Event::InitApply(open(object)?),
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

    fn object(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.namespace = Some("ns".into());
        object.metadata.uid = Some(format!("uid-{name}"));
        object
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
            let mut changes: Vec<_> = take(&mut writer, &reader, event)
                .iter()
                .map(|change| match change {
                    Change::Applied(object) => format!("+{}", object.name_any()),
                    Change::Deleted(object) => format!("-{}", object.name_any()),
                })
                .collect();
            changes.sort();
            told.push(changes.join(" "));
        }
        assert_eq!(told, ["+a", "+b", "", "", "", "+b +c -a", "-c"]);
    }
}
