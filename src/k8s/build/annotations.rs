//! What a job says that has no member in a pod and is told by its metadata: limits of processes, and tags.

use std::collections::BTreeMap;

use batchyard_core::definition::container::Ulimit;
use batchyard_core::name;
use serde_json::json;

/// What the NRI plugin `ulimit-adjuster` reads
/// (<https://github.com/containerd/nri/tree/main/plugins/ulimit-adjuster>). Kubernetes has no member for limits of
/// processes, and a container cannot raise its own.
const ULIMITS: &str = "ulimits.nri.containerd.io/container.";
/// What stands before a tag's key.
const TAGS: &str = "tags.batchyard.io/";
/// Longest name behind the prefix of a key of metadata, and longest label value.
const NAME: usize = 63;

/// The annotation that tells the runtime a container's `ulimits`, if it has any. JSON is YAML, which the plugin wants.
pub(super) fn ulimits(container: &str, ulimits: &[Ulimit]) -> Option<(String, String)> {
    // The kernel's word for "no limit".
    let number = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let entry = |ulimit: &Ulimit| {
        let kind = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase());
        json!({"type": kind, "hard": number(ulimit.hard), "soft": number(ulimit.soft)})
    };
    let list: Vec<_> = ulimits.iter().map(entry).collect();
    (!list.is_empty()).then(|| (format!("{ULIMITS}{container}"), json!(list).to_string()))
}

/// The labels and annotations of a pod that bears tags. Each tag is an annotation, since a label cannot say
/// all that a tag can; where its value could be a label's, it is a label as well, by which costs are told apart.
pub(super) fn tags(tags: &BTreeMap<String, String>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let annotations: BTreeMap<_, _> = tags.iter().map(|(key, value)| (tag(key), value.clone())).collect();
    let labels = annotations.iter().filter(|(_, value)| value.is_empty() || is_qualified(value));
    (labels.map(|(key, value)| (key.clone(), value.clone())).collect(), annotations)
}

/// The key of a tag: as it is where Kubernetes takes it, else its slug.
fn tag(key: &str) -> String {
    let name = if is_qualified(key) { key.to_owned() } else { name::slug(key) };
    format!("{TAGS}{name}")
}

/// True for what may stand behind a key's prefix or in a label: letters, digits, `-`, `_` and `.`, with a letter or
/// digit at both ends.
fn is_qualified(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= NAME && text.chars().all(inside) && end(text.chars().next()) && end(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_annotations_and_labels_where_they_can() {
        let given = [
            ("team", "render"),
            ("Cost_Centre", "a.b-c"),
            ("empty", ""),
            ("with space", "x"),
            ("owner", "me@example.org"),
            ("-edge", "v"),
        ];
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (labels, annotations) = tags(&given);
        let key = |name: &str| format!("{TAGS}{name}");
        assert_eq!(annotations.len(), given.len());
        assert_eq!(annotations[&key("owner")], "me@example.org");
        assert_eq!(annotations[&key(&name::slug("with space"))], "x");
        assert_eq!(annotations[&key(&name::slug("-edge"))], "v");
        assert_eq!(labels[&key("Cost_Centre")], "a.b-c");
        assert_eq!(labels[&key("empty")], "");
        assert!(!labels.contains_key(&key("owner")), "{labels:?}");
        assert!(labels.values().all(|value| value.is_empty() || is_qualified(value)));
    }

    #[test]
    fn limits_as_the_plugin_reads_them() {
        let limit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
        assert_eq!(ulimits("default", &[]), None);
        let (key, value) =
            ulimits("default", &[limit("nofile", 1024, 4096), limit("memlock", -1, -1)]).expect("one");
        assert_eq!(key, "ulimits.nri.containerd.io/container.default");
        let read: serde_json::Value = serde_json::from_str(&value).expect("JSON");
        assert_eq!(
            read,
            json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096},
                   {"type": "RLIMIT_MEMLOCK", "soft": u64::MAX, "hard": u64::MAX}])
        );
    }
}
