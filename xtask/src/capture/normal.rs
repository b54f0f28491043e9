//! What differs from run to run, put into the words of one story: its times are counted from
//! 2026-03-01T10:00:00Z, when the pod was made; names, uids, addresses and ids are always the same.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// When the pod of every story is made.
const BASE: &str = "2026-03-01T10:00:00Z";
/// Since when its node is Ready, unless that changed after the pod was made.
const BEFORE: &str = "2026-03-01T09:00:00Z";
const POD: &str = "job-1a2b3c4d-1";
const UID: &str = "8c5f1f0e-53c4-4a0e-9b6f-0c4f3a1d2e01";
const NODE: &str = "ip-10-0-1-23.ec2.internal";
const INSTANCE: &str = "i-0123456789abcdef0";
const ID: &str = "6f3a9c";

/// Members of a status that say nothing about how a pod ends.
const LEFT_OUT: [&str; 6] = ["allocatedResources", "resources", "user", "volumeMounts", "hostIPs", "podIPs"];

/// A pod at its moment, and its node, as the cluster shows them.
pub(super) struct Raw<'a> {
    pub(super) pod: &'a Value,
    /// `None`: there is no such Node object, or the pod is not bound.
    pub(super) node: Option<&'a Value>,
    pub(super) at: Timestamp,
    /// The first two numbers of the cluster's addresses and a dot, such as `10.213.`.
    pub(super) network: &'a str,
}

/// The members of a fixture that are captured.
pub(super) fn fixture(raw: &Raw<'_>) -> Map<String, Value> {
    let words = Words::of(raw);
    let metadata = &raw.pod["metadata"];
    let keep = [
        "name",
        "uid",
        "creationTimestamp",
        "generation",
        "finalizers",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    let metadata: Map<String, Value> = keep
        .into_iter()
        .filter(|key| !metadata[key].is_null())
        .map(|key| (key.to_owned(), words.told("", &metadata[key])))
        .collect();
    let mut fixture = Map::new();
    fixture.insert("metadata".to_owned(), metadata.into());
    fixture.insert("spec".to_owned(), spec(&raw.pod["spec"]));
    fixture.insert("status".to_owned(), words.told("status", &raw.pod["status"]));
    // The picture was taken after everything in it, whatever fractions of a second say.
    let now = words.shift(raw.at).round(jiff::Unit::Second).unwrap_or(raw.at) + SignedDuration::from_secs(1);
    fixture.insert("now".to_owned(), json!(now));
    if raw.pod["spec"]["nodeName"].is_string() {
        fixture.insert("instance".to_owned(), INSTANCE.into());
    }
    if let Some(node) = raw.node {
        fixture.insert("node".to_owned(), words.node(node));
    }
    fixture
}

/// A fixture without what may differ between two captures of the same thing: times, amounts and
/// the order of conditions.
pub(super) fn shape(fixture: &Map<String, Value>) -> Value {
    let captured = ["metadata", "spec", "status", "node"];
    let kept = captured.into_iter().filter_map(|key| Some((key.to_owned(), masked(key, fixture.get(key)?))));
    Value::Object(kept.collect())
}

fn masked(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) => match (time(text), key) {
            (Some(time), _) if time > Timestamp::UNIX_EPOCH => "a time".into(),
            (None, "message") => without_amounts(without_other_nodes(text)).into(),
            _ => value.clone(),
        },
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| masked("", item)).collect();
            if key == "conditions" {
                items.sort_by_key(|condition| condition["type"].to_string());
            }
            items.into()
        }
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), masked(key, value))).collect()
        }
        _ => value.clone(),
    }
}

/// What the scheduler says of a pod that it cannot bind, without how each node is just then.
fn without_other_nodes(text: &str) -> &str {
    let available = "nodes are available";
    text.find(available).map_or(text, |at| &text[at..at + available.len()])
}

/// The text with `#` for each amount: a number before a unit of time or memory, or after the name
/// of an amount.
fn without_amounts(text: &str) -> String {
    let mut told = String::new();
    let mut before = "";
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let unit = word[digits..].trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let has_unit = ["Ki", "Mi", "Gi", "ms", "s", "m", "h"].contains(&unit);
        let has_name = unit.is_empty() && ["used", "capacity", "quantity", "available"].contains(&before);
        let is_amount = digits > 0 && (has_unit || has_name);
        told.push_str(if is_amount { "#" } else { &word[..digits] });
        told.push_str(&word[digits..]);
        before = if digits == 0 && unit.is_empty() { before } else { unit };
    }
    told
}

/// Of the spec what the table looks at.
fn spec(spec: &Value) -> Value {
    let mut told = json!({"restartPolicy": spec["restartPolicy"]});
    if spec["nodeName"].is_string() {
        told["nodeName"] = NODE.into();
    }
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec[list].as_array() else { continue };
        let told_container = |container: &Value| {
            let keep = ["name", "restartPolicy"].into_iter().filter(|key| !container[key].is_null());
            keep.map(|key| (key.to_owned(), container[key].clone())).collect::<Value>()
        };
        told[list] = containers.iter().map(told_container).collect();
    }
    told
}

/// How this run's times and names are told in the story.
struct Words {
    shift: SignedDuration,
    created: Timestamp,
    names: Vec<(String, String)>,
}

impl Words {
    fn of(raw: &Raw<'_>) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &raw.pod["metadata"];
        let created = time(&text(&metadata["creationTimestamp"])).unwrap_or(raw.at);
        let base = time(BASE).unwrap_or(created);
        let names = [
            (text(&metadata["uid"]), UID),
            (text(&raw.pod["spec"]["nodeName"]), NODE),
            (text(&metadata["name"]), POD),
            (text(&metadata["namespace"]), "default"),
            (raw.network.to_owned(), "10.0."),
        ];
        let names = names.into_iter().filter(|(from, _)| !from.is_empty());
        let names = names.map(|(from, to)| (from, to.to_owned())).collect();
        Self { shift: base.duration_since(created), created, names }
    }

    fn shift(&self, at: Timestamp) -> Timestamp {
        at.checked_add(self.shift).unwrap_or(at)
    }

    fn told(&self, key: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(key, text).into(),
            Value::Array(items) => items.iter().map(|item| self.told(key, item)).collect(),
            Value::Object(members) => members
                .iter()
                .filter(|(key, _)| !LEFT_OUT.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), self.told(key, value)))
                .collect(),
            _ => value.clone(),
        }
    }

    fn text(&self, key: &str, text: &str) -> String {
        if let Some(at) = time(text) {
            let at = if at > Timestamp::UNIX_EPOCH { self.shift(at) } else { at };
            return at.to_string();
        }
        match key {
            "hostIP" => "10.0.1.23".to_owned(),
            "podIP" => "10.0.65.7".to_owned(),
            _ => without_ids(
                &self.names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)),
            ),
        }
    }

    fn node(&self, node: &Value) -> Value {
        let ready =
            node["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
        let since = ready.and_then(|c| time(c["lastTransitionTime"].as_str()?));
        let since = since.filter(|since| *since >= self.created).map(|since| self.shift(since).to_string());
        let taints: Vec<&Value> =
            node["spec"]["taints"].as_array().into_iter().flatten().map(|taint| &taint["key"]).collect();
        json!({
            "name": NODE,
            "providerID": format!("aws:///eu-west-1a/{INSTANCE}"),
            "unschedulable": node["spec"]["unschedulable"] == true,
            "taints": taints,
            "ready": ready.is_some_and(|c| c["status"] == "True"),
            "readySince": since.as_deref().unwrap_or(BEFORE),
        })
    }
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The text with one id for all ids of containers, sandboxes and images.
fn without_ids(text: &str) -> String {
    let mut told = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let id = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        told.push_str(if is_id { ID } else { id });
        told.push_str(&word[id.len()..]);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_captures_of_the_same_thing_have_the_same_shape() {
        let pod = |seconds: &str, uid: &str, amount: &str| {
            json!({
                "metadata": {
                    "name": "t2-exit-3", "namespace": "capture", "uid": uid, "creationTimestamp": format!("2026-11-22T12:00:{seconds}Z"),
                    "managedFields": [seconds],
                },
                "spec": {"restartPolicy": "Never", "nodeName": "batchyard-1", "containers": [{"name": "main", "image": "i"}]},
                "status": {"phase": "Failed", "hostIP": "10.213.0.12", "conditions": [
                    {"type": "Ready", "lastTransitionTime": format!("2026-11-22T12:00:{seconds}Z")},
                ], "message": format!("pod {uid} in capture on batchyard-1 at 10.213.0.1:5000 used {amount}Ki, exit 404"),
                "containerStatuses": [{"containerID": format!("containerd://{amount:0>64}"), "user": {}}]},
            })
        };
        let told =
            |pod: &Value| fixture(&Raw { pod, node: None, at: Timestamp::UNIX_EPOCH, network: "10.213." });
        let (one, other) = (told(&pod("07", "aaaabbbb", "12")), told(&pod("31", "ccccdddd", "3456")));
        assert_eq!(shape(&one), shape(&other));
        assert_eq!(one["metadata"], other["metadata"]);
        assert_eq!(one["metadata"]["creationTimestamp"], BASE);
        assert_eq!(
            one["status"]["message"],
            format!("pod {UID} in default on {NODE} at 10.0.0.1:5000 used 12Ki, exit 404")
        );
        assert_eq!(
            one["status"]["containerStatuses"][0],
            json!({"containerID": format!("containerd://{ID}")})
        );
        let elsewhere = told(&json!({"metadata": {"uid": "x"}, "spec": {}, "status": {"phase": "Running"}}));
        assert_ne!(shape(&one), shape(&elsewhere));
    }

    #[test]
    fn amounts_are_numbers_with_a_unit() {
        let told =
            without_amounts("404 Not Found after 10s: 80Mi of 100Gi, requested: 1, used: 150, exit 137");
        assert_eq!(told, "404 Not Found after #s: #Mi of #Gi, requested: 1, used: #, exit 137");
    }
}
