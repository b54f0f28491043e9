//! Which namespaces a program works for: all of the cluster, or some.
//!
//! Whoever works for some watches these and no others. Environments belong to no namespace, and two who work on one
//! cluster must never write the same object: who works for some namespaces knows the environments that are named after
//! them, `<namespace>.<name>`, and no others.

use std::collections::BTreeSet;
use std::fmt::Debug;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::placeholder::is_placeholder;
use super::pods;
use super::watch::Feed;
use crate::crd::ComputeEnvironment;

/// The namespaces that a program works for.
#[derive(Args, Clone, Debug, Default)]
pub struct Scope {
    /// The namespaces to work for, separated by commas; default: all.
    #[arg(
        id = "watch-namespace",
        long = "watch-namespace",
        env = "BATCHYARD_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE",
        value_parser = namespace
    )]
    namespaces: Vec<String>,
}

/// An empty name is none: whoever sets the variable to nothing does not mean all.
fn namespace(text: &str) -> Result<String, String> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    let is_name = !text.is_empty() && text.len() <= 63 && text.chars().all(allowed);
    is_name.then(|| text.to_owned()).ok_or_else(|| "not the name of a namespace".to_owned())
}

impl Scope {
    /// True if there are namespaces that it does not work for.
    pub fn is_limited(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// True for a namespace that it works for.
    pub fn serves(&self, namespace: &str) -> bool {
        !self.is_limited() || self.namespaces.iter().any(|served| served == namespace)
    }

    /// True for an environment that it works for.
    pub fn serves_environment(&self, name: &str) -> bool {
        let of = |(namespace, name): (&str, &str)| !name.is_empty() && self.serves(namespace);
        !self.is_limited() || name.split_once('.').is_some_and(of)
    }

    /// The same namespaces and one more.
    pub fn with(&self, namespace: &str) -> Self {
        let more = self.is_limited().then(|| namespace.to_owned());
        Self { namespaces: self.namespaces.iter().cloned().chain(more).collect() }
    }

    /// A watch over the objects of its namespaces that the label selector (empty: all) chooses.
    pub fn feed<K>(
        &self,
        client: &Client,
        labels: &str,
        trim: impl Fn(&mut K) + Send + Sync + 'static,
    ) -> Feed<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        if !self.is_limited() {
            return Feed::new(Api::all(client.clone()), labels, trim);
        }
        let namespaces: BTreeSet<_> = self.namespaces.iter().collect();
        let apis = namespaces.into_iter().map(|namespace| Api::namespaced(client.clone(), namespace));
        Feed::joined(apis.collect(), labels, trim)
    }

    /// A watch over the environments that it works for.
    pub fn environments(&self, client: &Client) -> Feed<ComputeEnvironment> {
        let feed = Feed::new(Api::all(client.clone()), "", |_| {});
        if !self.is_limited() {
            return feed;
        }
        let scope = self.clone();
        let named = |environment: &ComputeEnvironment| environment.metadata.name.clone().unwrap_or_default();
        feed.only(move |environment| scope.serves_environment(&named(environment)))
    }
}

/// What the operator watches.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The namespaces that it works for.
    pub scope: Scope,
    /// Its own, where it makes placeholders.
    pub own_namespace: String,
    /// Whether it sees the pods of all namespaces, for the room that they take on nodes.
    pub pods_elsewhere: bool,
}

impl Reach {
    /// The watch over the pods that it sees.
    pub fn pods(&self, client: &Client) -> Feed<Pod> {
        match self.pods_elsewhere || !self.scope.is_limited() {
            true => Feed::new(Api::all(client.clone()), "", self.trim()),
            false => self.scope.with(&self.own_namespace).feed(client, "", self.trim()),
        }
    }

    /// Takes off a pod what no decision looks at. Where it does not work only placeholders of its own are its: another
    /// operator's pod is none of an attempt.
    fn trim(&self) -> impl Fn(&mut Pod) + Send + Sync + 'static {
        let Self { scope, own_namespace, .. } = self.clone();
        move |pod| {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let is_its = scope.serves(namespace) || (namespace == own_namespace && is_placeholder(pod));
            if !is_its {
                pods::disown(pod);
            }
            pods::trim(pod);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use kube::ResourceExt as _;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        scope: Scope,
    }

    /// What is said on a command line.
    fn scope(namespaces: &str) -> Result<Scope, clap::Error> {
        Line::try_parse_from(["program", "--watch-namespace", namespaces]).map(|line| line.scope)
    }

    fn environment(name: &str) -> ComputeEnvironment {
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": name, "uid": name}, "spec": {"type": "MANAGED"}}))
        .expect("an environment")
    }

    #[test]
    fn who_is_told_nothing_works_for_all_and_nobody_is_told_an_empty_name() {
        let all = Scope::default();
        assert!(!all.is_limited() && all.serves("any") && all.serves_environment("shared"));
        assert!(!all.with("own").is_limited(), "all and one more are all");
        for wrong in ["", "a,", ",a", "A", "a.b", "a b", "a/b", &"a".repeat(64)] {
            assert!(scope(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn environments_go_with_the_namespace_that_they_are_named_after() {
        let scope = scope("team-a,b").expect("namespaces");
        assert!(scope.is_limited() && scope.serves("team-a") && scope.serves("b") && !scope.serves("team"));
        let with = scope.with("own");
        assert!(with.serves("own") && with.serves("b") && !scope.serves("own"));
        for (name, served) in [
            ("team-a.x", true),
            ("team-a.x.y", true),
            ("b.x", true),
            ("team-a", false),
            ("team-a.", false),
            (".x", false),
            ("team.x", false),
            ("shared", false),
            ("c.team-a.x", false),
        ] {
            assert_eq!(scope.serves_environment(name), served, "{name}");
        }
    }

    /// The room that they take counts everywhere; whose they are, where the operator works.
    #[test]
    fn pods_elsewhere_are_nobodys() {
        let reach = Reach {
            scope: scope("a").expect("a namespace"),
            own_namespace: "own".into(),
            ..Reach::default()
        };
        let all = Reach { own_namespace: "own".into(), ..Reach::default() };
        let (placeholder, attempt) = ("batchyard.io/placeholder", "batchyard.io/attempt");
        for (namespace, label, limited) in [
            ("a", attempt, true),
            ("a", placeholder, true),
            ("own", placeholder, true),
            ("own", attempt, false),
            ("b", attempt, false),
            ("b", placeholder, false),
        ] {
            for (reach, is_its) in [(&reach, limited), (&all, true)] {
                let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": "j", "uid": "u",
                    "controller": true});
                let owners = if label == attempt { json!([job]) } else { json!([]) };
                let mut pod: Pod = serde_json::from_value(json!({
                    "metadata": {"name": "p", "namespace": namespace, "ownerReferences": owners,
                        "finalizers": ["batchyard.io/attempt"],
                        "labels": {label: "1", "app.kubernetes.io/managed-by": "batchyard"}},
                    "spec": {"nodeName": "n", "containers": [{"name": "c",
                        "resources": {"requests": {"cpu": "1"}}}]}}))
                .expect("a pod");
                reach.trim()(&mut pod);
                let is_known = pods::owner(&pod).is_some() || pods::is_orphan(&pod) || is_placeholder(&pod);
                assert_eq!(is_known, is_its, "{label} in {namespace} by {reach:?}");
                let spec = pod.spec.expect("a spec");
                assert!(spec.node_name.is_some() && spec.containers[0].resources.is_some());
            }
        }
    }

    #[tokio::test]
    async fn of_the_others_no_cache_and_no_listener_hears() {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = Client::try_from(nowhere).expect("a client");
        let mut feed = scope("a").expect("a namespace").environments(&client);
        let (store, heard) = (feed.store(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
        let tell = heard.clone();
        feed.listen(move |change| tell.lock().expect("a lock").push(change.object().name_any()));
        let [ours, shared, others] = ["a.x", "x", "b.x"].map(environment);
        feed.deliver([
            Event::Init,
            Event::InitApply(shared.clone()),
            Event::InitApply(ours),
            Event::InitDone,
            Event::Apply(others.clone()),
            Event::Delete(shared),
            Event::Delete(others),
        ]);
        assert_eq!(*heard.lock().expect("a lock"), ["a.x"]);
        assert_eq!(store.state().len(), 1);
    }
}
