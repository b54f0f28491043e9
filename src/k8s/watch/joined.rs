//! The watches of several namespaces as one. Pure.
//!
//! Until each of them has listed once nothing is told, and then all of it as one list: a cache is complete when all of
//! its namespaces are. When one of them lists anew later, that becomes what changed in its namespace.

use std::collections::BTreeMap;

use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

/// What each watch told so far, as far as it must be kept.
pub(super) struct Joined<K> {
    watches: Vec<Watch<K>>,
    /// Each has listed once.
    complete: bool,
}

struct Watch<K> {
    namespace: String,
    /// A list that has not ended yet, by name.
    listing: BTreeMap<String, K>,
    /// What there is, by name, until all have listed; from then on the cache has it.
    held: Option<BTreeMap<String, K>>,
}

impl<K> Joined<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Those of these namespaces, by their places.
    pub(super) fn new(namespaces: impl IntoIterator<Item = String>) -> Self {
        let watch = |namespace| Watch { namespace, listing: BTreeMap::new(), held: None };
        Self { watches: namespaces.into_iter().map(watch).collect(), complete: false }
    }

    /// What an event of one of them means for the cache.
    pub(super) fn take(&mut self, place: usize, event: Event<K>, cache: &Store<K>) -> Vec<Event<K>> {
        let watch = &mut self.watches[place];
        match event {
            // One that broke off begins anew.
            Event::Init => watch.listing.clear(),
            Event::InitApply(object) => drop(watch.listing.insert(object.name_any(), object)),
            Event::InitDone => {
                let listed = std::mem::take(&mut watch.listing);
                if self.complete {
                    return changes(&watch.namespace, listed, cache);
                }
                watch.held = Some(listed);
                return self.first_list();
            }
            Event::Apply(_) | Event::Delete(_) if self.complete => return vec![event],
            Event::Apply(object) => {
                watch.held.get_or_insert_default().insert(object.name_any(), object);
            }
            Event::Delete(object) => {
                watch.held.iter_mut().for_each(|held| drop(held.remove(&object.name_any())));
            }
        }
        Vec::new()
    }

    /// All that there is, once each has listed.
    fn first_list(&mut self) -> Vec<Event<K>> {
        if self.watches.iter().any(|watch| watch.held.is_none()) {
            return Vec::new();
        }
        self.complete = true;
        let held = self.watches.iter_mut().filter_map(|watch| watch.held.take());
        let objects: Vec<_> = held.flat_map(BTreeMap::into_values).map(Event::InitApply).collect();
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    }
}

/// What changed in a namespace that was listed anew. An object that took the place of another of its name is one that
/// went and one that came.
fn changes<K>(namespace: &str, listed: BTreeMap<String, K>, cache: &Store<K>) -> Vec<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let is_gone = |object: &K| {
        object.meta().namespace.as_deref() == Some(namespace)
            && listed.get(&object.name_any()).is_none_or(|there| there.uid() != object.uid())
    };
    let gone = cache.state_filter(is_gone);
    let gone: Vec<_> = gone.into_iter().map(|object| Event::Delete(K::clone(&object))).collect();
    gone.into_iter().chain(listed.into_values().map(Event::Apply)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector;

    /// What a line of a table says of a watch: `a init`, `a list x`, `a done`, `a add x`, `a del x`; `x2` is another
    /// object of the name `x`.
    fn event(words: &str) -> (usize, Event<ConfigMap>) {
        let mut words = words.split(' ');
        let namespace = words.next().expect("a namespace");
        let (verb, what) = (words.next().expect("a verb"), words.next().unwrap_or_default());
        let mut object = ConfigMap::default();
        object.metadata.name = Some(what.trim_end_matches('2').to_owned());
        object.metadata.namespace = Some(namespace.to_owned());
        object.metadata.uid = Some(format!("{namespace}-{what}"));
        let event = match verb {
            "init" => Event::Init,
            "list" => Event::InitApply(object),
            "done" => Event::InitDone,
            "add" => Event::Apply(object),
            _ => Event::Delete(object),
        };
        (usize::from(namespace == "b"), event)
    }

    fn told(events: &[Event<ConfigMap>]) -> String {
        let uid = |object: &ConfigMap| object.uid().unwrap_or_default();
        let word = |event: &Event<ConfigMap>| match event {
            Event::Init => "[".to_owned(),
            Event::InitApply(object) => uid(object),
            Event::InitDone => "]".to_owned(),
            Event::Apply(object) => format!("+{}", uid(object)),
            Event::Delete(object) => format!("-{}", uid(object)),
        };
        events.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// Each event of namespaces `a` and `b`, and what it means for one cache of both.
    fn run(table: &[(&str, &str)]) -> String {
        let mut joined = Joined::new(["a".to_owned(), "b".to_owned()]);
        let (cache, mut writer) = reflector::store();
        for (words, wanted) in table {
            let (place, event) = event(words);
            let events = joined.take(place, event, &cache);
            assert_eq!(told(&events), *wanted, "{words}");
            events.iter().for_each(|event| writer.apply_watcher_event(event));
        }
        let mut uids: Vec<_> = cache.state().iter().filter_map(|object| object.uid()).collect();
        uids.sort();
        uids.join(" ")
    }

    /// Both have listed one object, `a-x` and `b-x`.
    const LISTED: [(&str, &str); 6] = [
        ("a init", ""),
        ("b init", ""),
        ("b list x", ""),
        ("a list x", ""),
        ("b done", ""),
        ("a done", "[ a-x b-x ]"),
    ];

    fn after_that(more: &[(&'static str, &'static str)]) -> String {
        run(&[LISTED.as_slice(), more].concat())
    }

    #[test]
    fn the_first_list_is_that_of_all() {
        assert_eq!(run(&LISTED), "a-x b-x");
        let apart = [
            ("a init", ""),
            ("a list x", ""),
            ("a done", ""),
            ("a add y", ""),
            ("a del x", ""),
            ("b init", ""),
            ("b done", "[ a-y ]"),
        ];
        assert_eq!(run(&apart), "a-y", "what came and went meanwhile counts");
    }

    /// The API server answers with an empty list for a namespace that does not exist.
    #[test]
    fn a_namespace_without_anything_is_listed_too() {
        assert_eq!(run(&[("a init", ""), ("a done", ""), ("b init", ""), ("b done", "[ ]")]), "");
    }

    #[test]
    fn a_first_list_that_breaks_off_begins_anew() {
        let broken = [
            ("a init", ""),
            ("a list x", ""),
            ("a init", ""),
            ("a list y", ""),
            ("a done", ""),
            ("a init", ""),
            ("b init", ""),
            ("a list z", ""),
            ("b done", "[ a-y ]"),
            ("a done", "-a-y +a-z"),
        ];
        assert_eq!(run(&broken), "a-z");
    }

    #[test]
    fn a_namespace_that_is_listed_anew_tells_of_what_changed_in_it_alone() {
        let relisted = [
            ("a init", ""),
            ("a list y", ""),
            ("b add y", "+b-y"),
            ("b del x", "-b-x"),
            ("a done", "-a-x +a-y"),
            ("b init", ""),
            ("b done", "-b-y"),
        ];
        assert_eq!(after_that(&relisted), "a-y");
    }

    #[test]
    fn another_of_the_same_name_is_one_that_went_and_one_that_came() {
        let replaced = [("a init", ""), ("a list x2", ""), ("a done", "-a-x +a-x2")];
        assert_eq!(after_that(&replaced), "a-x2 b-x");
        assert_eq!(after_that(&[("a init", ""), ("a list x", ""), ("a done", "+a-x")]), "a-x b-x");
    }
}
