//! The fixtures of the termination table, as jobs of the replay.

use std::collections::BTreeSet;
use std::path::Path;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The node of the fixtures and its instance, in their texts.
const NODE: &str = "ip-10-0-1-23.ec2.internal";
const INSTANCE: &str = "i-0123456789abcdef0";

/// Longer than it takes to compare all jobs.
const LEEWAY: SignedDuration = SignedDuration::from_mins(10);

/// Where a row's pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On no node.
    Unbound,
    /// On a node that never was an object.
    Nowhere,
    /// On a node of this name.
    On(String),
}

/// When somebody deletes the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Before its containers ended, if they did: they end because of it.
    BeforeTheEnd,
    /// When it had ended by itself.
    AfterTheEnd,
}

/// One look at one fixture.
pub(super) struct Row {
    /// The job's name.
    pub(super) name: String,
    pub(super) place: Place,
    /// The pod's deletion by somebody else than the operator.
    pub(super) deletion: Option<Order>,
    fixture: Value,
    /// When the look happens, in the fixture's time.
    now: Timestamp,
    want: Value,
}

impl Row {
    /// Every look at every fixture.
    pub(super) fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/tests/fixtures/termination");
        let mut rows = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the fixtures' folder") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let fixture: Value = serde_json::from_str(&text).expect("JSON");
            let name = path.file_stem().expect("a name").to_string_lossy().to_lowercase();
            rows.push(Self::of(name.clone(), &fixture, &fixture));
            for (at, look) in fixture["then"].as_array().into_iter().flatten().enumerate() {
                rows.push(Self::of(format!("{name}.{at}").replace('.', "-later-"), &fixture, look));
            }
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn of(name: String, fixture: &Value, look: &Value) -> Self {
        let node = &fixture["node"];
        let was_bound = fixture["spec"]["nodeName"].is_string() || fixture["vanished"]["wasBound"] == true;
        let place = match (was_bound, node.is_object(), fixture["instance"].is_string()) {
            (false, _, _) => Place::Unbound,
            (true, false, false) => Place::Nowhere,
            (true, false, true) => Place::On("gone".to_owned()),
            (true, true, _) if is_plain(fixture) => Place::On("plain".to_owned()),
            (true, true, _) => Place::On(name.clone()),
        };
        let (fixture, want) = (fixture.clone(), look["want"].clone());
        Self {
            name,
            place,
            deletion: deletion(&fixture),
            now: time(&look["now"]).expect("now"),
            want,
            fixture,
        }
    }

    /// The replay's jobs have no log sidecar, and roles are read from the pod's spec.
    pub(super) fn can_be_a_job(&self) -> bool {
        let mut inits = self.fixture["spec"]["initContainers"].as_array().into_iter().flatten();
        !inits.any(|init| init["restartPolicy"] == "Always")
    }

    pub(super) fn node_lost_seconds(&self) -> Option<i64> {
        self.fixture["tolerances"]["nodeLost"].as_i64()
    }

    /// The names of containers that are not essential.
    pub(super) fn auxiliary(&self) -> String {
        let names = self.fixture["auxiliary"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(",")
    }

    pub(super) fn node(&self) -> Option<&str> {
        match &self.place {
            Place::On(node) => Some(node),
            Place::Unbound | Place::Nowhere => None,
        }
    }

    pub(super) fn vanishes(&self) -> bool {
        self.fixture["vanished"].is_object()
    }

    /// Whether the operator has seen the container run before all else.
    pub(super) fn started_before(&self) -> bool {
        self.fixture["vanished"]["startedAt"].is_string()
    }

    /// The deletion's grace in seconds.
    pub(super) fn grace(&self) -> u32 {
        let grace = self.fixture["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
        u32::try_from(grace).expect("seconds")
    }

    /// How much later than in the fixture everything happens. If the pod was deleted first, its
    /// `deletionTimestamp` says so, else the fixture's `now` is now; but what is tolerated for a
    /// while is tolerated until the replay is over.
    pub(super) fn shift(&self, deleted: Option<Timestamp>) -> SignedDuration {
        let told = time(&self.fixture["metadata"]["deletionTimestamp"]);
        match (deleted, told) {
            // The kubelet's last deletion is not replayed; what it moved is counted from the end.
            (Some(at), Some(_)) if self.grace() == 0 => {
                let end = first_end(&self.fixture).unwrap_or(self.now);
                at.duration_since(end) + SignedDuration::from_secs(1)
            }
            (Some(at), Some(told)) => at.duration_since(told),
            _ => {
                let now = Timestamp::from_second(Timestamp::now().as_second()).expect("now");
                let ends = time(&self.want["until"]).map(|until| (now + LEEWAY).duration_since(until));
                ends.into_iter().fold(now.duration_since(self.now), SignedDuration::max)
            }
        }
    }

    /// The pod's status as of then; nothing if the pod is gone.
    pub(super) fn status(&self, shift: SignedDuration) -> Option<Value> {
        let there = self.place != Place::Nowhere;
        let mut status = self.fixture["status"].as_object().filter(|_| there)?.clone();
        // The API server computes it and takes no other.
        status.remove("qosClass");
        Some(shifted(&Value::Object(status), shift))
    }

    /// Members of spec and status by which its node differs from others; nothing if it is gone.
    pub(super) fn node_as_told(&self, shift: SignedDuration) -> Option<(Value, Value)> {
        let node = self.fixture["node"].as_object()?;
        // A key may be there with several effects; one is enough, and this one evicts nothing.
        let keys: BTreeSet<&str> =
            node["taints"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let taints: Vec<Value> = keys.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
        let spec = json!({"unschedulable": node["unschedulable"], "taints": taints});
        let status = if node["ready"] == true { "True" } else { "Unknown" };
        let since = shifted(&node["readySince"], shift);
        let ready = json!({"type": "Ready", "status": status, "lastTransitionTime": since});
        Some((spec, json!({"conditions": [ready]})))
    }

    /// How a job's record differs from what is wanted; nothing if it does not.
    pub(super) fn contradicts(&self, record: &Record, node: &str) -> Option<String> {
        let here = |text: &Value| {
            // A node that is no object has no instance.
            let instance = if self.place == Place::Nowhere { node.to_owned() } else { format!("i-{node}") };
            text.as_str().map(|text| text.replace(INSTANCE, &instance).replace(NODE, node))
        };
        let seen = json!({
            "phase": record.phase().as_str(),
            "attempts": record.attempts.iter().map(|a| json!({
                "statusReason": a.status_reason, "exitCode": a.container.exit_code, "reason": a.container.reason,
            })).collect::<Vec<_>>(),
            "placements": record.placements.iter().map(|p| json!({"rejected": p.rejected})).collect::<Vec<_>>(),
        });
        let want = &self.want;
        let phase = |phase: Phase| json!({"phase": phase.as_str(), "attempts": [], "placements": []});
        let wanted = match (want["sight"].as_str(), want["class"].as_str()) {
            (Some("Unbound"), _) => phase(Phase::Runnable),
            (Some("Starting"), _) => phase(Phase::Starting),
            (Some("Running"), _) => phase(Phase::Running),
            // Nothing was known of this pod but that it should be.
            (_, Some("Unplaced")) if self.vanishes() => phase(Phase::Runnable),
            (_, Some(class @ ("Rejected" | "Unplaced"))) => json!({
                "phase": Phase::Runnable.as_str(), "attempts": [],
                "placements": [{"rejected": class == "Rejected"}],
            }),
            (_, class) => json!({
                "phase": if class == Some("Succeeded") { Phase::Succeeded } else { Phase::Failed }.as_str(),
                "attempts": [{
                    "statusReason": here(&want["statusReason"]),
                    "exitCode": want["exitCode"],
                    "reason": here(&want["reason"]),
                }],
                "placements": [],
            }),
        };
        (seen != wanted).then(|| format!("wanted {wanted}\n  got    {seen}"))
    }
}

/// A node about which there is nothing to tell: Ready since before the pod was made.
fn is_plain(fixture: &Value) -> bool {
    let node = &fixture["node"];
    let (since, created) = (time(&node["readySince"]), time(&fixture["metadata"]["creationTimestamp"]));
    node["ready"] == true
        && node["unschedulable"] != true
        && node["deletionTimestamp"].is_null()
        && node["taints"].as_array().is_none_or(Vec::is_empty)
        && (since < created || created.is_none())
}

/// Whether somebody deletes the pod, and when: what the kubelet knew when it reported the end tells,
/// or else the times.
fn deletion(fixture: &Value) -> Option<Order> {
    let metadata = &fixture["metadata"];
    let at = time(&metadata["deletionTimestamp"])?;
    let grace = SignedDuration::from_secs(metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0));
    let told = fixture["status"]["observedGeneration"].as_i64().zip(metadata["generation"].as_i64());
    let knew = match told {
        Some((observed, generation)) => observed >= generation,
        None => first_end(fixture).is_none_or(|end| end >= at - grace),
    };
    Some(if knew { Order::BeforeTheEnd } else { Order::AfterTheEnd })
}

/// When the first container ended.
fn first_end(fixture: &Value) -> Option<Timestamp> {
    let statuses = fixture["status"]["containerStatuses"].as_array()?;
    statuses.iter().filter_map(|status| time(&status["state"]["terminated"]["finishedAt"])).min()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// All times later by this much, but for 1970, which stands for "never".
fn shifted(value: &Value, by: SignedDuration) -> Value {
    match value {
        Value::String(_) => match time(value).filter(|time| *time > Timestamp::UNIX_EPOCH) {
            Some(time) => json!((time + by).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| shifted(item, by)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), shifted(value, by))).collect()
        }
        _ => value.clone(),
    }
}

/// Whether all of `part` is in `whole`; members of lists belong together by their type or name.
pub(super) fn holds(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(members) => members.iter().all(|(key, part)| holds(&whole[key], part)),
        Value::Array(items) => items.iter().all(|item| {
            let is_it = |other: &&Value| other["type"] == item["type"] && other["name"] == item["name"];
            whole.as_array().into_iter().flatten().find(is_it).is_some_and(|other| holds(other, item))
        }),
        Value::Null => true,
        // The API server leaves out what is empty.
        Value::String(text) if text.is_empty() => whole.is_null() || whole == part,
        _ => whole == part,
    }
}
