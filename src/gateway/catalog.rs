//! Which revisions of definitions there are, by definition and number: one is found by its name, and those of one
//! definition without a look at any other's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::world::Cache;
use crate::k8s::revisions::definition_name;
use crate::k8s::watch::{Change, Feed};

/// Numbers by namespace and by the definition's object.
type Numbers = HashMap<String, BTreeMap<String, BTreeSet<u32>>>;

/// The revisions of all namespaces.
#[derive(Clone)]
pub(super) struct Catalog {
    pub(super) cache: Cache<ControllerRevision>,
    numbers: Arc<RwLock<Numbers>>,
}

impl Catalog {
    pub(super) fn of(feed: &mut Feed<ControllerRevision>) -> Self {
        let index: Arc<RwLock<Numbers>> = Arc::default();
        let numbers = index.clone();
        feed.listen(move |change| {
            let revision = change.object();
            let (Some(definition), Ok(number)) =
                (definition_name(revision), u32::try_from(revision.revision))
            else {
                return;
            };
            let mut numbers = numbers.write().unwrap_or_else(PoisonError::into_inner);
            let namespace = revision.namespace().unwrap_or_default();
            match change {
                Change::Applied(_) => {
                    let known = numbers.entry(namespace).or_default();
                    known.entry(definition.to_owned()).or_default().insert(number);
                }
                Change::Deleted(_) => forget(&mut numbers, &namespace, definition, number),
            }
        });
        // Whoever waits for news of the cache finds the index as new.
        Self { cache: Cache::of(feed), numbers: index }
    }

    /// One revision, by the name that its object has.
    pub(super) fn one(
        &self,
        namespace: &str,
        definition: &str,
        number: u32,
    ) -> Option<Arc<ControllerRevision>> {
        let reference = ObjectRef::new(&format!("{definition}-{number}")).within(namespace);
        let found = self.cache.store.get(&reference)?;
        (found.revision == i64::from(number)).then_some(found)
    }

    /// The revisions of a definition, the newest first; each is fetched as it is asked for.
    pub(super) fn newest_first(
        &self,
        namespace: &str,
        definition: &str,
    ) -> impl Iterator<Item = Arc<ControllerRevision>> {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
        let of = numbers.get(namespace).and_then(|known| known.get(definition));
        let numbers: Vec<u32> = of.into_iter().flatten().rev().copied().collect();
        numbers.into_iter().filter_map(move |number| self.one(namespace, definition, number))
    }

    /// All revisions of a namespace.
    pub(super) fn all(&self, namespace: &str) -> Vec<Arc<ControllerRevision>> {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
        let known = numbers.get(namespace).into_iter().flatten();
        let each = known.flat_map(|(definition, numbers)| numbers.iter().map(move |n| (definition, *n)));
        each.filter_map(|(definition, number)| self.one(namespace, definition, number)).collect()
    }
}

fn forget(numbers: &mut Numbers, namespace: &str, definition: &str, number: u32) {
    let Some(known) = numbers.get_mut(namespace) else { return };
    if let Some(of) = known.get_mut(definition) {
        of.remove(&number);
        if of.is_empty() {
            known.remove(definition);
        }
    }
    if known.is_empty() {
        numbers.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::ObjectMeta;
    use kube::runtime::watcher::Event;
    use kube::{Api, Client};

    fn revision(namespace: &str, definition: &str, number: u32) -> ControllerRevision {
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{definition}-{number}")),
                namespace: Some(namespace.to_owned()),
                uid: Some(format!("{namespace}/{definition}-{number}")),
                ..ObjectMeta::default()
            },
            revision: i64::from(number),
            ..ControllerRevision::default()
        }
    }

    fn feed() -> Feed<ControllerRevision> {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        Feed::new(Api::all(Client::try_from(nowhere).expect("a client")), "", |_| {})
    }

    #[tokio::test]
    async fn revisions_are_found_by_definition_and_number() {
        let mut feed = feed();
        let catalog = Catalog::of(&mut feed);
        let all = [("a", "d", 1), ("a", "d", 2), ("a", "d", 10), ("a", "d-1", 1), ("b", "d", 2)];
        feed.deliver(all.map(|(namespace, name, number)| Event::Apply(revision(namespace, name, number))));
        let newest = |namespace: &str, name: &str| -> Vec<i64> {
            catalog.newest_first(namespace, name).map(|found| found.revision).collect()
        };
        assert_eq!(
            (newest("a", "d"), newest("a", "d-1"), newest("b", "d")),
            (vec![10, 2, 1], vec![1], vec![2])
        );
        assert!(catalog.one("a", "d", 10).is_some() && catalog.one("a", "d", 3).is_none());
        assert!(catalog.one("b", "d", 1).is_none(), "that is another namespace's");
        assert_eq!((catalog.all("a").len(), catalog.all("b").len(), catalog.all("c").len()), (4, 1, 0));
        feed.deliver([Event::Delete(revision("a", "d", 10)), Event::Delete(revision("b", "d", 2))]);
        assert_eq!((newest("a", "d"), newest("b", "d")), (vec![2, 1], vec![]));
        let numbers = catalog.numbers.read().expect("nobody panicked");
        assert!(!numbers.contains_key("b"), "nothing is left of what is gone");
    }
}
