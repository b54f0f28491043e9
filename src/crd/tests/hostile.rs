//! Specs that the schema would refuse, or that nobody thought of: whatever is stored is read without a panic.

use serde_json::{Value, json};

use super::super::{BatchJobSpec, convert};
use crate::crd::ignored::{self, Kind};
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

/// J6, as far as it goes: what a job depends on is not looked at yet, so that it is refused rather than run too early.
#[test]
fn j6_dependencies_are_refused() {
    for depends in [json!([{"jobId": "a"}]), json!(vec![json!({"jobId": "a"}); 21])] {
        let spec = json!({"jobQueue": "q", "jobDefinition": "d", "dependsOn": depends});
        assert_eq!(ignored::unsupported_fields(Kind::BatchJob, &spec), ["dependsOn"]);
    }
}
