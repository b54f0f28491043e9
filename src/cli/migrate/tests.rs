//! There and back: what an account has becomes manifests, and what a namespace has becomes inputs of the aws CLI.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::lint::Linter;
use super::export::{Exported, Found, export};
use super::family::{self, DEFINITION, Family};
use super::import::{Imported, import};
use super::yaml;

const OWNER: &str = "arn:aws:batch:eu-west-1:123456789012";

thread_local! {
    /// Compiling the rules takes a while; a test does it once.
    static LINTER: RefCell<Linter> = RefCell::default();
}

fn imported(texts: &[(&str, String)], newest_only: bool) -> Imported {
    let texts: Vec<_> = texts.iter().map(|(file, text)| ((*file).to_owned(), text.clone())).collect();
    LINTER.with_borrow_mut(|linter| import(&texts, "team", newest_only, linter)).expect("it can be read")
}

fn account() -> Imported {
    imported(&[("account.json", include_str!("golden/account.json").to_owned())], false)
}

/// What the cluster has once each step was applied and seen by the operator.
fn applied(imported: &Imported) -> Vec<Found> {
    let mut found = Vec::new();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for manifest in imported.steps.steps.iter().flatten() {
        let object = manifest["metadata"]["name"].as_str().expect("a name").to_owned();
        if manifest["kind"] == "ControllerRevision" {
            let definition = object.rsplit_once('-').expect("a number at the end").0;
            counts.insert(definition.to_owned(), manifest["revision"].as_u64().expect("a number") as u32);
            continue;
        }
        let family = family::ALL.into_iter().find(|family| family.kind == manifest["kind"]).expect("a kind");
        let spec: Map<String, Value> = manifest["spec"].as_object().expect("a spec").clone();
        let revision = (family.kind == DEFINITION.kind).then(|| {
            let count = counts.entry(object.clone()).or_default();
            *count += 1;
            (*count, true)
        });
        found.push(Found { family, object, spec, revision });
    }
    found
}

fn exported(imported: &Imported) -> Exported {
    export(applied(imported), "team", Some(OWNER)).expect("it can be exported")
}

/// Compares with a file beside this one; `BATCHYARD_GOLDEN=write` writes it.
#[track_caller]
fn is_golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/migrate/golden").join(file);
    if std::env::var("BATCHYARD_GOLDEN").is_ok_and(|what| what == "write") {
        std::fs::write(&path, text).expect("the file can be written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the file is there"), text, "{file}");
}

#[test]
fn an_account_becomes_manifests_and_a_report() {
    let imported = account();
    let mut text = String::new();
    for (index, manifests) in imported.steps.steps.iter().enumerate() {
        for manifest in manifests {
            text += &format!("--- # step {}\n{}", index + 1, yaml(manifest).expect("it can be printed"));
        }
    }
    is_golden("manifests.yaml", &text);
    is_golden("report.txt", &imported.report.text());
}

#[test]
fn a_namespace_becomes_inputs_and_a_report() {
    let mut there = applied(&account());
    let queue = there.iter_mut().find(|found| found.family.kind == "JobQueue").expect("a queue");
    queue.spec.insert("maxRunning".to_owned(), json!(3));
    queue.spec.remove("priority");
    let exported = export(there, "team", Some(OWNER)).expect("it can be exported");
    let inputs: Vec<&Value> = exported.inputs.iter().map(|input| &input.body).collect();
    is_golden("inputs.json", &(serde_json::to_string_pretty(&inputs).expect("plain data") + "\n"));
    is_golden("export.txt", &exported.report.text());
}

#[test]
fn a_policy_needs_an_account() {
    let error = export(applied(&account()), "team", None).expect_err("no account").to_string();
    assert!(
        error.starts_with("JobQueue Queue_A: AWS takes schedulingPolicyArn fair as an ARN only"),
        "{error}"
    );
}

/// Also with what the steps of revisions add to a spec.
#[test]
fn schemas_and_rules_take_all_manifests() {
    let imported = account();
    let mut linter = Linter::default();
    let mut looked_at = 0;
    for manifest in imported.steps.steps.iter().flatten() {
        let kind =
            family::ALL.into_iter().find(|family| family.kind == manifest["kind"]).map(|family| family.kind);
        let Some(kind) = kind else { continue };
        assert_eq!(linter.look(kind, &manifest["spec"]).errors, [""; 0], "{manifest:#}");
        looked_at += 1;
    }
    assert_eq!(looked_at, 4);
}

#[test]
fn revisions_keep_their_numbers() {
    let revision = |number: u32, status: &str, image: &str| {
        json!({"jobDefinitionName": "d", "jobDefinitionArn": format!("{OWNER}:job-definition/d:{number}"), "revision": number,
            "status": status, "type": "container", "containerProperties": {"image": image, "vcpus": 1, "memory": 64}})
    };
    let list = [
        revision(3, "ACTIVE", "a"),
        revision(6, "ACTIVE", "b"),
        revision(4, "ACTIVE", "a"),
        revision(5, "INACTIVE", "x"),
    ];
    let text = json!({"jobDefinitions": list}).to_string();
    let all = imported(&[("f", text.clone())], false);
    // One before the first of them is held, then one after the other.
    assert_eq!(all.steps.steps[0][0]["metadata"]["name"], "d-2");
    let specs: Vec<&Value> = all.steps.steps.iter().map(|step| &step[step.len() - 1]["spec"]).collect();
    let image = |spec: &Value| spec["containerProperties"]["image"].as_str().map(str::to_owned);
    let images: Vec<_> = specs.iter().filter_map(|spec| image(spec)).collect();
    assert_eq!(images, ["a", "a", "x", "b"]);
    assert_eq!(
        specs[1]["registration"], "revision 4",
        "what is the same as the one before is registered all the same"
    );
    assert_eq!((&specs[2]["deregistered"], &specs[3]["deregistered"]), (&json!([5]), &json!([5])));
    assert_eq!(
        all.steps.waits,
        [vec![("d".to_owned(), 3)], vec![("d".to_owned(), 4)], vec![("d".to_owned(), 5)], vec![]]
    );
    let newest = imported(&[("f", text)], true);
    assert_eq!(newest.steps.steps.len(), 1, "{:?}", newest.steps);
    assert_eq!(newest.steps.steps[0][0]["metadata"]["name"], "d-5");
    assert!(newest.report.text().contains("what names d:3 must name d:6"), "{}", newest.report.text());
}

#[test]
fn the_order_of_files_changes_nothing() {
    let whole: Value = serde_json::from_str(include_str!("golden/account.json")).expect("JSON");
    let parts = whole.as_object().expect("an object").iter();
    let mut texts: Vec<_> =
        parts.map(|(member, list)| ("account.json", json!({member: list}).to_string())).collect();
    texts.reverse();
    let (one, other) = (account(), imported(&texts, false));
    assert_eq!(one.steps.steps, other.steps.steps);
    assert_eq!(one.report, other.report);
}

fn optional(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Map<String, Value>> {
    let members =
        members.into_iter().map(|(name, value)| prop::option::of(value).prop_map(move |value| (name, value)));
    let members: Vec<_> = members.collect();
    members
        .prop_map(|members| {
            members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
        })
        .boxed()
}

fn with(base: Value, more: BoxedStrategy<Map<String, Value>>) -> BoxedStrategy<Value> {
    more.prop_map(move |more| {
        let mut whole = base.clone();
        whole.as_object_mut().expect("an object").extend(more);
        whole
    })
    .boxed()
}

fn tags() -> BoxedStrategy<Value> {
    prop::collection::btree_map("[a-z]{1,4}", "[a-z0-9]{0,4}", 1..3).prop_map(|tags| json!(tags)).boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    prop::sample::select(values.to_vec()).boxed()
}

/// A revision of a definition.
fn definition() -> impl Strategy<Value = Value> {
    let container = with(
        json!({"image": "busybox", "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]}),
        optional(vec![
            ("command", one_of(&[json!(["a", "Ref::b"]), json!(["c"])])),
            ("environment", one_of(&[json!([{"name": "A", "value": "b"}])])),
            ("privileged", one_of(&[json!(true), json!(false)])),
            ("logConfiguration", one_of(&[json!({"logDriver": "awslogs"})])),
            ("ulimits", one_of(&[json!([{"name": "nofile", "softLimit": 1, "hardLimit": 2}])])),
        ]),
    );
    (container, optional(vec![
        ("parameters", one_of(&[json!({"b": "x"})])),
        ("retryStrategy", one_of(&[json!({"attempts": 2}), json!({"attempts": 3, "evaluateOnExit": [{"onExitCode": "1*", "action": "RETRY"}]})])),
        ("timeout", one_of(&[json!({"attemptDurationSeconds": 60})])),
        ("propagateTags", one_of(&[json!(true), json!(false)])),
        ("schedulingPriority", one_of(&[json!(5)])),
        ("tags", tags()),
        ("consumableResourceProperties", one_of(&[json!({"consumableResourceList": [{"consumableResource": "license", "quantity": 1}]})])),
    ]))
        .prop_map(|(container, more)| {
            let mut whole = json!({"jobDefinitionName": "Some_JD", "type": "container", "containerProperties": container});
            whole.as_object_mut().expect("an object").extend(more);
            whole
        })
}

/// What the commands of the aws CLI that make things take; names are those of AWS.
fn inputs() -> impl Strategy<Value = Vec<(&'static Family, Value)>> {
    let state = || one_of(&[json!("ENABLED"), json!("DISABLED")]);
    let resources = with(
        json!({"type": "EC2", "maxvCpus": 16, "subnets": ["s"], "instanceRole": "r", "instanceTypes": ["optimal"]}),
        optional(vec![
            ("minvCpus", (0..4).prop_map(|n| json!(n)).boxed()),
            ("desiredvCpus", (4..8).prop_map(|n| json!(n)).boxed()),
            ("securityGroupIds", one_of(&[json!(["g"]), json!(["g", "h"])])),
            ("ec2KeyPair", one_of(&[json!("k")])),
            ("launchTemplate", one_of(&[json!({"launchTemplateName": "t", "version": "$Latest"})])),
            ("tags", tags()),
        ]),
    );
    let environment = with(
        json!({"computeEnvironmentName": "Some_EC", "type": "MANAGED"}),
        (
            resources,
            optional(vec![("state", state()), ("tags", tags()), ("serviceRole", one_of(&[json!("role")]))]),
        )
            .prop_map(|(resources, mut more)| {
                more.insert("computeResources".to_owned(), resources);
                more
            })
            .boxed(),
    );
    let policy = with(
        json!({"name": "Fair"}),
        optional(vec![
            ("tags", tags()),
            (
                "fairsharePolicy",
                (0..100).prop_map(|n| json!({"shareDecaySeconds": n, "computeReservation": n / 2})).boxed(),
            ),
        ]),
    );
    let resource = with(
        json!({"consumableResourceName": "license"}),
        optional(vec![
            ("tags", tags()),
            ("totalQuantity", (1..9).prop_map(|n| json!(n)).boxed()),
            ("resourceType", one_of(&[json!("REPLENISHABLE"), json!("NON_REPLENISHABLE")])),
        ]),
    );
    let queue = with(
        json!({"jobQueueName": "Queue_1", "priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "Some_EC"}]}),
        optional(vec![
            ("state", state()),
            ("tags", tags()),
            ("schedulingPolicyArn", one_of(&[json!(format!("{OWNER}:scheduling-policy/Fair"))])),
        ]),
    );
    let definitions = prop::collection::vec(definition(), 1..4);
    (environment, policy, resource, queue, definitions).prop_map(
        |(environment, policy, resource, queue, definitions)| {
            let [environments, policies, resources, queues, revisions] = family::ALL;
            let mut all =
                vec![(environments, environment), (policies, policy), (resources, resource), (queues, queue)];
            all.extend(definitions.into_iter().map(|definition| (revisions, definition)));
            all
        },
    )
}

proptest! {
    #![proptest_config(crate::cases::config(64))]

    /// What AWS is told to make is what it would be told again after a stay here; and what was exported is imported
    /// as the same manifests.
    #[test]
    fn there_and_back_nothing_is_lost(inputs in inputs()) {
        let text: String = inputs.iter().map(|(_, input)| format!("{input}\n")).collect();
        let first = imported(&[("f", text)], false);
        prop_assert_eq!(first.report.refused(), 0, "{}", first.report.text());
        let back = exported(&first);
        let bodies: Vec<Value> = back.inputs.iter().map(|input| input.body.clone()).collect();
        let wanted: Vec<Value> = inputs.iter().map(|(_, input)| input.clone()).collect();
        prop_assert_eq!(&bodies, &wanted);
        let again: String = bodies.iter().map(|body| format!("{body}\n")).collect();
        prop_assert_eq!(&imported(&[("f", again)], false).steps.steps, &first.steps.steps);
    }
}

#[test]
fn objects_that_disagree_are_refused() {
    let queue = |region: &str, priority: u32| {
        json!({"jobQueues": [{"jobQueueName": "q", "jobQueueArn": format!("arn:aws:batch:{region}:1:job-queue/q"), "priority": priority}]})
            .to_string()
    };
    let same = imported(&[("a", queue("eu-west-1", 1)), ("b", queue("us-east-1", 1))], false);
    assert_eq!((same.report.refused(), same.report.objects.len()), (0, 1), "told twice in the same words");
    let twins = imported(&[("a", queue("eu-west-1", 1)), ("b", queue("us-east-1", 2))], false);
    assert_eq!(twins.report.refused(), 2);
    assert_eq!(twins.steps.steps.iter().flatten().count(), 0, "none of them is written");
    let text = twins.report.text();
    assert!(text.contains("JobQueue q of b is refused\n  the files tell of two that differ\n"), "{text}");
    assert!(text.contains("more than one account or region"), "{text}");
}

#[test]
fn what_is_elsewhere_is_kept_and_named() {
    let foreign = "arn:aws:batch:us-east-1:210987654321:compute-environment/far";
    let queue = json!({"jobQueues": [{"jobQueueName": "q", "jobQueueArn": format!("{OWNER}:job-queue/q"), "priority": 1,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": foreign}]}]});
    let imported = imported(&[("f", queue.to_string())], false);
    let entry = &imported.report.objects[0];
    let said = |told: &[super::report::Told]| {
        told.iter().map(|told| format!("{}: {}", told.about, told.text)).collect::<String>()
    };
    assert!(
        said(&entry.changes).contains(&format!("{foreign} is not of this account and region")),
        "{entry:?}"
    );
    assert_eq!(
        said(&entry.needs),
        "ComputeEnvironment far: for computeEnvironmentOrder.0.computeEnvironment; the files do not tell of it"
    );
    assert_eq!(
        imported.steps.steps[0][0]["spec"]["computeEnvironmentOrder"][0]["computeEnvironment"],
        foreign
    );
}

#[test]
fn zeros_that_aws_writes_for_fargate_are_left_out() {
    let environment = json!({"computeEnvironments": [{"computeEnvironmentName": "f", "type": "MANAGED",
        "computeEnvironmentArn": format!("{OWNER}:compute-environment/f"),
        "computeResources": {"type": "FARGATE", "maxvCpus": 4, "minvCpus": 0, "desiredvCpus": 0, "bidPercentage": 0,
            "subnets": ["s"], "securityGroupIds": ["g"], "instanceTypes": []}}]});
    let imported = imported(&[("f", environment.to_string())], false);
    assert_eq!(imported.report.refused(), 0, "{}", imported.report.text());
    assert_eq!(
        imported.steps.steps[0][0]["spec"]["computeResources"],
        json!({"type": "FARGATE", "maxvCpus": 4, "subnets": ["s"], "securityGroupIds": ["g"]})
    );
}
