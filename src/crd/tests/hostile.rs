//! Specs that the schema would refuse, or that nobody thought of: whatever is stored is read without a panic.

use serde_json::{Value, json};

use super::super::{BatchJobSpec, convert};
use crate::crd::ignored::{self, Kind};
use batchyard_core::dependency::{Dependency, How, Reference};
use batchyard_core::name::{self, DefinitionRef};

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!("x"), |inner, _| json!([inner]))
}

/// Each of these in each of the places that take a text or a number.
fn hostile() -> Vec<Value> {
    let texts = [
        "",
        "\u{0}",
        "\u{202e}",
        "*",
        "**",
        ":",
        "::",
        "a:b:c",
        "a:99999999999999999999",
        "arn:",
        "arn:aws:batch:::x/",
        "-",
        "$(X)",
    ];
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    values.push(json!("é".repeat(1 << 19)));
    values.extend([
        json!(-1),
        json!(0),
        json!(i32::MAX),
        json!(i32::MIN),
        json!(i64::MAX),
        json!(1e300),
        json!(null),
    ]);
    values.extend([json!([]), json!({}), deep(100), json!(true)]);
    values
}

#[test]
fn j1_a_hostile_spec_is_an_error_or_a_refusal() {
    let (mut read, mut refused) = (0, 0);
    for value in hostile() {
        let entry =
            json!({"onReason": value, "onExitCode": value, "onStatusReason": value, "action": "RETRY"});
        let places = [
            json!({"jobQueue": value, "jobDefinition": value}),
            json!({"jobQueue": "q", "containerProperties": {"image": value, "command": [value], "vcpus": value, "memory": value}}),
            json!({"jobQueue": "q", "containerProperties": {"image": "i", "user": value, "jobRoleArn": value,
                "resourceRequirements": [{"type": "VCPU", "value": value}, {"type": "MEMORY", "value": value}, {"type": "GPU", "value": value}]}}),
            json!({"jobQueue": "q", "containerProperties": {"image": "i", "environment": [{"name": value, "value": value}],
                "mountPoints": [{"sourceVolume": value, "containerPath": value}],
                "volumes": [{"name": value, "host": {"sourcePath": value}}],
                "linuxParameters": {"sharedMemorySize": value, "tmpfs": [{"containerPath": value, "size": value}]}}}),
            json!({"jobQueue": "q", "retryStrategy": {"attempts": value, "evaluateOnExit": [entry, entry, entry, entry, entry, entry]}}),
            json!({"jobQueue": "q", "timeout": {"attemptDurationSeconds": value}, "ttlSecondsAfterFinished": value}),
            json!({"jobQueue": "q", "dependsOn": [{"jobId": value}], "arrayProperties": {"size": value}}),
        ];
        for place in places {
            let Ok(spec) = serde_json::from_value::<BatchJobSpec>(place) else {
                refused += 1;
                continue;
            };
            read += 1;
            assert_eq!(convert::dependencies(&spec).len(), spec.depends_on.len());
            let inline = convert::inline_definition(&spec);
            let plan = convert::plan(&spec, &inline.unwrap_or_default());
            assert!((1..=10).contains(&plan.strategy.attempts), "{:?}", plan.strategy);
            batchyard_core::job::retry::decide(&plan.strategy, 1, "Host EC2", Some("x"), Some(1));
            let told = serde_json::to_value(&spec).expect("plain data");
            ignored::ignored_fields(Kind::BatchJob, &told);
            ignored::unsupported_fields(Kind::BatchJob, &told);
            DefinitionRef::parse(spec.job_definition.as_deref().unwrap_or_default()).ok();
            name::candidates(&spec.job_queue);
            name::environments("ns", &spec.job_queue);
            let pod =
                name::pod(&spec.job_queue, "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e", Some(9999), 10, 9999);
            assert!(pod.chars().count() <= 63, "{pod}");
        }
    }
    assert!(read > 30 && refused > 100, "{read} read, {refused} refused");
}

/// J6: what a job depends on is what it says, whatever that is.
#[test]
fn j6_references_to_jobs_are_read_as_they_are() {
    let id = |text: &str| Reference::Id(text.to_owned());
    let child = |index| Reference::Child { id: "a".into(), index };
    for (wire, on, how) in [
        (json!({"jobId": "a"}), Some(id("a")), How::Plain),
        (json!({"jobId": "a:0"}), Some(child(0)), How::Plain),
        (json!({"jobId": "a:9999", "type": "N_TO_N"}), Some(child(9999)), How::NToN),
        (json!({"jobId": "a:-1"}), Some(id("a:-1")), How::Plain),
        (json!({"jobId": "a:99999999999"}), Some(id("a:99999999999")), How::Plain),
        (json!({"jobId": ":"}), Some(id(":")), How::Plain),
        (json!({"jobId": ""}), Some(id("")), How::Plain),
        (json!({"job": "a:0"}), Some(Reference::Name("a:0".into())), How::Plain),
        (json!({"type": "SEQUENTIAL"}), None, How::Sequential),
        (json!({}), None, How::Plain),
    ] {
        let spec = json!({"jobQueue": "q", "jobDefinition": "d", "dependsOn": [wire]});
        let spec: BatchJobSpec = serde_json::from_value(spec).expect("a job");
        assert_eq!(convert::dependencies(&spec), [Dependency { on, how }], "{wire}");
    }
}
