//! From what AWS tells of an object to its manifest.

use std::collections::BTreeSet;

use batchyard_core::name;
use serde_json::{Map, Value, json};

use super::super::lint::Linter;
use super::changes;
use super::family::{self, DEFINITION, ENVIRONMENT, Family, POLICY, QUEUE, RESOURCE};
use super::read::{Item, owner};
use super::report::{Entry, Outcome, Told, pattern};
use super::why::why;

/// An object on its way.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) family: &'static Family,
    pub(super) spec: Value,
    /// What AWS says of a revision: ACTIVE if it says nothing.
    pub(super) is_active: bool,
    pub(super) entry: Entry,
}

impl Built {
    /// The object with its spec, or another revision of it.
    pub(super) fn manifest(&self, namespace: &str, spec: &Value) -> Value {
        let mut metadata = json!({"name": self.object()});
        if !self.family.is_of_cluster() {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": "batchyard.io/v1alpha1", "kind": self.family.kind, "metadata": metadata, "spec": spec})
    }

    /// The object's name without its kind.
    pub(super) fn object(&self) -> &str {
        self.entry.object.split_once('/').map_or("", |(_, name)| name)
    }
}

/// What is known of all objects when one is looked at.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) namespace: String,
    /// The kinds and names that the files tell of.
    names: BTreeSet<(&'static str, String)>,
    /// What the ARNs of the accounts begin with.
    pub(super) owners: BTreeSet<String>,
}

impl Known {
    /// Looks at all of them.
    pub(super) fn of(namespace: &str, items: &[Item]) -> Self {
        Self {
            namespace: namespace.to_owned(),
            names: items.iter().map(|item| (item.family.kind, item.name().to_owned())).collect(),
            owners: items.iter().filter_map(Item::owner).map(str::to_owned).collect(),
        }
    }

    fn has(&self, family: &Family, name: &str) -> bool {
        self.names.contains(&(family.kind, name.to_owned()))
    }

    /// True for an ARN of the account that an object is of, as far as that is known.
    fn is_own(&self, item: &Item, arn: &str, family: &Family) -> bool {
        match item.owner() {
            Some(own) => owner(arn) == Some(own),
            // Somebody wrote it, who does not say for which account.
            None if self.owners.is_empty() => self.has(family, name::resource(arn)),
            None => owner(arn).is_some_and(|owner| self.owners.contains(owner)),
        }
    }
}

/// Makes a manifest's spec of an object, and tells what becomes of its members.
pub(super) fn build(item: &Item, known: &Known, linter: &mut Linter) -> Built {
    let family = item.family;
    let object = family.object(&known.namespace, item.name());
    let mut entry = Entry {
        kind: family.kind,
        name: item.name().to_owned(),
        revision: item.revision().filter(|_| family.kind == DEFINITION.kind),
        object: format!("{}/{object}", family.resource),
        file: item.file.clone(),
        ..Entry::default()
    };
    let mut stated = item.stated.clone();
    stated.retain(|member, _| !family.told.contains(&member.as_str()));
    if item.is_described() {
        told_by_aws_only(family, &mut stated, &mut entry);
    }
    let mut spec = Value::Object(stated);
    ours(item, &mut spec, &mut entry);
    prune(linter.schema(family.kind), &mut spec, "", &mut entry);
    references(item, known, &mut spec, &mut entry);
    without_meaning(family, &mut spec);
    entry.kept.extend(spec.as_object().into_iter().flat_map(|members| members.keys().cloned()));
    judge(family, &spec, linter, &mut entry);
    match family.kind {
        "ComputeEnvironment" => changes::environment(&spec, &mut entry),
        "JobDefinition" => changes::definition(&spec, &mut entry),
        _ => {}
    }
    let is_active = matches!(item.text("status"), "" | "ACTIVE") || family.kind != DEFINITION.kind;
    Built { family, spec, is_active, entry }
}

/// Numbers and states that AWS writes between the members that people state.
fn told_by_aws_only(family: &Family, stated: &mut Map<String, Value>, entry: &mut Entry) {
    if family.kind != ENVIRONMENT.kind {
        return;
    }
    let resources = stated.get_mut("computeResources").and_then(Value::as_object_mut);
    if let Some(desired) = resources.and_then(|resources| resources.remove("desiredvCpus"))
        && desired != 0
    {
        let text = format!("{desired} is what AWS had at that time; here the operator reckons it");
        entry.leave_out("computeResources.desiredvCpus", text);
    }
    for images in stated.get_mut("computeResources").and_then(|r| r.get_mut("ec2Configuration")).into_iter() {
        for image in images.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            image.remove("batchImageStatus");
        }
    }
    if let Some(access) = stated.get_mut("eksConfiguration").and_then(|eks| eks.get_mut("accessEntry"))
        && let Some(access) = access.as_object_mut()
    {
        access.remove("status");
    }
}

/// Members that a manifest may have and AWS has not: a file that has them was not written by AWS.
fn ours(item: &Item, spec: &mut Value, entry: &mut Entry) {
    let update = if item.family.kind == ENVIRONMENT.kind { &["updatePolicy"][..] } else { &[] };
    let Some(members) = spec.as_object_mut() else { return };
    let is_theirs = |member: &str| item.family.members.contains(&member) || update.contains(&member);
    let unknown: Vec<String> = members.keys().filter(|member| !is_theirs(member)).cloned().collect();
    for member in unknown {
        members.remove(&member);
        entry.leave_out(member, "not known to this version of Batchyard");
    }
}

/// Takes out what the schema does not know, by name, and what says nothing: null, and lists and maps with nothing in
/// them, with which AWS fills its answers.
fn prune(schema: &Value, value: &mut Value, path: &str, entry: &mut Entry) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                prune(&schema["items"], element, &format!("{path}[{index}]"), entry);
            }
        }
        Value::Object(members) => {
            let known = schema["properties"].as_object();
            let names: Vec<String> = members.keys().cloned().collect();
            for name in names {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                let Some(below) =
                    known.and_then(|known| known.get(&name)).or(schema.get("additionalProperties"))
                else {
                    members.remove(&name);
                    entry.leave_out(path, "not known to this version of Batchyard");
                    continue;
                };
                let Some(value) = members.get_mut(&name) else { continue };
                prune(below, value, &path, entry);
                let is_required =
                    schema["required"].as_array().is_some_and(|names| names.iter().any(|n| *n == name));
                if says_nothing(below, value) && !is_required {
                    members.remove(&name);
                }
            }
        }
        _ => {}
    }
}

fn says_nothing(schema: &Value, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty() && schema.get("additionalProperties").is_some(),
        _ => false,
    }
}

/// ARNs of the account become names; those of others stay, and are named.
fn references(item: &Item, known: &Known, spec: &mut Value, entry: &mut Entry) {
    let mut found: Vec<(String, &'static Family)> = Vec::new();
    for (index, _) in spec["computeEnvironmentOrder"].as_array().into_iter().flatten().enumerate() {
        found.push((format!("/computeEnvironmentOrder/{index}/computeEnvironment"), ENVIRONMENT));
    }
    if item.family.kind == QUEUE.kind {
        found.push(("/schedulingPolicyArn".to_owned(), POLICY));
    }
    let groups = spec["nodeProperties"]["nodeRangeProperties"].as_array().map_or(0, Vec::len);
    let groups = (0..groups).map(|index| format!("/nodeProperties/nodeRangeProperties/{index}"));
    for place in std::iter::once(String::new()).chain(groups) {
        let list = format!("{place}/consumableResourceProperties/consumableResourceList");
        let tokens = spec.pointer(&list).and_then(Value::as_array).map_or(0, Vec::len);
        found.extend((0..tokens).map(|index| (format!("{list}/{index}/consumableResource"), RESOURCE)));
    }
    for (place, family) in found {
        if let Some(value) = spec.pointer_mut(&place) {
            reference(item, known, family, &place[1..].replace('/', "."), value, entry);
        }
    }
}

fn reference(item: &Item, known: &Known, family: &Family, path: &str, value: &mut Value, entry: &mut Entry) {
    let Some(text) = value.as_str().map(str::to_owned) else { return };
    let named = name::resource(&text).to_owned();
    if text.starts_with("arn:") && !known.is_own(item, &text, family) {
        let text = format!(
            "{text} is not of this account and region; it is kept, and means the {} {named} of this namespace",
            family.kind
        );
        entry.change(path, text);
    } else {
        *value = json!(named);
    }
    if !known.has(family, &named) {
        entry.need(format!("{} {named}", family.kind), format!("for {path}; the files do not tell of it"));
    }
}

/// What AWS writes although it means nothing there, and our rules refuse.
fn without_meaning(family: &Family, spec: &mut Value) {
    let is_fargate =
        spec["computeResources"]["type"].as_str().is_some_and(|kind| kind.starts_with("FARGATE"));
    if let Some(resources) =
        spec.get_mut("computeResources").and_then(Value::as_object_mut).filter(|_| is_fargate)
    {
        for member in ["minvCpus", "desiredvCpus", "bidPercentage"] {
            if resources.get(member).is_some_and(|value| *value == 0) {
                resources.remove(member);
            }
        }
    }
    let is_eks = family.kind == DEFINITION.kind && spec.get("eksProperties").is_some();
    if let Some(members) = spec.as_object_mut().filter(|_| is_eks)
        && members.get("propagateTags") == Some(&Value::Bool(false))
    {
        members.remove("propagateTags");
    }
}

/// What our own checks say of a manifest.
fn judge(family: &Family, spec: &Value, linter: &mut Linter, entry: &mut Entry) {
    let findings = linter.look(family.kind, spec);
    entry.because = findings.errors;
    if family.kind == POLICY.kind && spec.get("quotaSharePolicy").is_some() {
        entry
            .because
            .push("spec.quotaSharePolicy is for SageMaker, which Batchyard does not have".to_owned());
    }
    if spec.get("serviceEnvironmentOrder").is_some() {
        entry
            .because
            .push("spec.serviceEnvironmentOrder is for SageMaker, which Batchyard does not have".to_owned());
    }
    if !entry.because.is_empty() {
        entry.outcome = Outcome::Refused;
        return;
    }
    let mut told: Vec<Told> = findings.ignored.iter().map(|path| why(path)).collect();
    told.dedup_by(|a, b| pattern(&a.about) == pattern(&b.about) && a.text == b.text && a.about == b.about);
    entry.not_honoured = told;
}

/// The place of a family in the order of application.
pub(super) fn place(family: &Family) -> usize {
    family::ALL.iter().position(|other| other.kind == family.kind).unwrap_or(0)
}
