//! What the jobs of the tests run.

use serde_json::{Value, json};

/// A shell program as a job of the post's definition `spot`, which is retried only if its host goes
/// away. It asks for one vCPU, so that many fit the nodes.
pub(crate) fn shell(program: &str) -> Value {
    json!({
        "jobDefinition": "spot",
        "containerOverrides": {
            "command": ["sh", "-c", program],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}],
        },
    })
}

/// Runs until SIGTERM and then ends well.
pub(crate) fn polite() -> Value {
    until_asked(0)
}

/// Runs until SIGTERM and then ends with this code.
pub(crate) fn until_asked(code: i32) -> Value {
    shell(&format!("trap 'exit {code}' TERM; sleep 600 & wait"))
}

/// The first attempt runs until SIGTERM and then ends with 143, as programs do; the second ends
/// well at once.
pub(crate) fn well_the_second_time() -> Value {
    shell("[ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] && exit 0; trap 'exit 143' TERM; sleep 600 & wait")
}

/// More vCPUs than any node has, so that the job waits for ever.
pub(crate) fn too_large() -> Value {
    json!({
        "jobDefinition": "spot",
        "containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "20"}]},
    })
}

/// An image of a job's own, with one attempt, which ends well if it starts.
pub(crate) fn image(image: &str) -> Value {
    json!({"containerProperties": {"image": image, "vcpus": 1, "memory": 64, "command": ["true"]}})
}

/// A job in another queue than the post's.
pub(crate) fn in_queue(queue: &str, mut job: Value) -> Value {
    job["jobQueue"] = json!(queue);
    job
}
