//! What this process wrote and its caches may not show yet.
//!
//! A cache lags behind the API server. Whoever decides on a job must not see it as it was before
//! this process's own last write: it would make the same pod again. Whenever a status is written,
//! the answer is kept here until the cache is at least as new
//! (compare `StaleControllerConsistency` in `pkg/controller/util/consistency`, Kubernetes 1.36).
//!
//! Of an object that this process never wrote, as after a restart, nothing vouches for the cache:
//! a list may have been answered from the past. Who is about to do what cannot be undone reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::{Resource, ResourceExt};

/// What this process wrote, by uid.
#[derive(Debug)]
pub struct OwnWrites<K> {
    inner: Mutex<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    /// Versions that the cache does not show yet.
    newest: HashMap<String, Arc<K>>,
    /// The newest version of each object that the API server itself has told this process of.
    certain: HashMap<String, u64>,
    /// When each object was last written.
    last: HashMap<String, Instant>,
    /// Since when a write is due.
    noticed: HashMap<String, Instant>,
}

impl<K> Default for OwnWrites<K> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                newest: HashMap::new(),
                certain: HashMap::new(),
                last: HashMap::new(),
                noticed: HashMap::new(),
            }),
        }
    }
}

impl<K: Resource<DynamicType = ()>> OwnWrites<K> {
    /// Remembers the API server's answer to a write.
    pub fn wrote(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        if let Some(uid) = object.uid() {
            let mut inner = self.lock();
            inner.last.insert(uid.clone(), Instant::now());
            inner.noticed.remove(&uid);
            inner.learn(uid, object.clone());
        }
        object
    }

    /// Remembers the API server's answer to a live read.
    pub fn read(&self, object: K) {
        if let Some(uid) = object.uid() {
            self.lock().learn(uid, Arc::new(object));
        }
    }

    /// True if the API server itself has told this process of the object, and this is no older.
    pub fn vouches_for(&self, object: &K) -> bool {
        let certain = object.uid().and_then(|uid| self.lock().certain.get(&uid).copied());
        certain.is_some_and(|certain| version(object) >= certain)
    }

    /// The newer of what the cache shows and what this process wrote.
    pub fn newest(&self, cached: Arc<K>) -> Arc<K> {
        let Some(uid) = cached.uid() else { return cached };
        let mut inner = self.lock();
        match inner.newest.get(&uid) {
            Some(written) if version(written.as_ref()) > version(cached.as_ref()) => written.clone(),
            Some(_) => {
                inner.newest.remove(&uid);
                cached
            }
            None => cached,
        }
    }

    /// How long ago this process wrote the object.
    pub fn since(&self, uid: &str) -> Option<Duration> {
        self.lock().last.get(uid).map(Instant::elapsed)
    }

    /// How long ago it was first noticed, since its last write, that the object should be written.
    pub fn since_noticed(&self, uid: &str) -> Duration {
        self.lock().noticed.entry(uid.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        let mut inner = self.lock();
        inner.newest.remove(uid);
        inner.certain.remove(uid);
        inner.last.remove(uid);
        inner.noticed.remove(uid);
    }

    /// Keeps what is about objects that exist: the answer to a write may come after the news that
    /// the object is gone.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        let mut inner = self.lock();
        inner.newest.retain(|uid, _| exists(uid));
        inner.certain.retain(|uid, _| exists(uid));
        inner.last.retain(|uid, _| exists(uid));
        inner.noticed.retain(|uid, _| exists(uid));
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> Inner<K> {
    /// Answers may come in another order than they were given.
    fn learn(&mut self, uid: String, object: Arc<K>) {
        let known = self.certain.entry(uid.clone()).or_default();
        if version(object.as_ref()) >= *known {
            *known = version(object.as_ref());
            self.newest.insert(uid, object);
        }
    }
}

/// Resource versions of one kind are numbers that grow (KEP-5504).
pub(super) fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn at(version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.uid = Some("u".into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    #[test]
    fn hides_a_cache_that_is_older_than_the_own_write() {
        let own = OwnWrites::default();
        own.wrote(at("100"));
        let seen = |cached: &str| own.newest(Arc::new(at(cached))).resource_version().expect("set");
        assert_eq!(seen("99"), "100", "numbers, not texts, are compared");
        assert_eq!(seen("100"), "100");
        assert_eq!(seen("99"), "99", "caught up: nothing is kept any longer");
        own.since_noticed("u");
        own.wrote(at("101"));
        own.retain(|uid| uid == "u");
        assert!(own.since("u").is_some());
        own.retain(|_| false);
        let inner = own.lock();
        let forgotten = inner.newest.is_empty() && inner.certain.is_empty() && inner.last.is_empty();
        assert!(forgotten && inner.noticed.is_empty(), "gone is gone");
    }

    #[test]
    fn c6_vouches_for_nothing_that_only_a_list_has_told_of() {
        let own = OwnWrites::default();
        assert!(!own.vouches_for(&at("100")), "never heard of");
        own.read(at("100"));
        assert!(own.vouches_for(&at("100")) && own.vouches_for(&at("101")));
        own.wrote(at("102"));
        own.read(at("101"));
        assert!(own.newest(Arc::new(at("102"))).resource_version().is_some(), "the cache caught up");
        assert!(!own.vouches_for(&at("101")), "a list from the past");
    }
}
