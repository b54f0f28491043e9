//! Edits of a job that has a status: what an edit may not change, and that a write of the status is none.

use batchyard::crd::BatchJob;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use serde_json::{Value, json};

use crate::support::client::{Actor, connect, namespace, object};

/// Field and message of each cause.
fn causes(error: kube::Error) -> Vec<(String, String)> {
    let kube::Error::Api(status) = error else { panic!("the API server did not answer: {error}") };
    let Status { details, .. } = *status;
    let causes = details.into_iter().flat_map(|details| details.causes);
    causes.map(|cause| (cause.field, cause.message)).collect()
}

#[tokio::test]
async fn what_stays_stays_in_every_phase() {
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "edits").await;
    let jobs: Api<BatchJob> = Api::namespaced(user, &namespace);
    let spec =
        json!({"jobQueue": "none", "jobDefinition": "none", "timeout": {"attemptDurationSeconds": 60}});
    let job = serde_json::from_value(object("BatchJob", "job", spec)).expect("a job");
    jobs.create(&PostParams::default(), &job).await.expect("the job is accepted");

    let params = PatchParams::default();
    for phase in [None, Some("RUNNABLE"), Some("RUNNING")] {
        if let Some(phase) = phase {
            // What a write of the status says about the spec is not listened to.
            let write =
                json!({"status": {"phase": phase}, "spec": {"timeout": null, "jobDefinition": "other"}});
            let written = jobs.patch_status("job", &params, &Patch::Merge(&write)).await;
            let written = written.unwrap_or_else(|error| panic!("{phase}: {error}"));
            assert!(written.spec.timeout.is_some(), "{phase}");
            assert_eq!(written.spec.job_definition.as_deref(), Some("none"), "{phase}");
        }
        let edit = async |edit: Value| {
            let said = jobs.patch("job", &params, &Patch::Merge(&json!({"spec": edit}))).await;
            causes(said.expect_err("the edit is refused"))
        };
        let says = |words: &str| format!("{words} cannot be changed after the job was submitted");
        let [(field, message)] = &edit(json!({"jobDefinition": "other"})).await[..] else {
            panic!("{phase:?}")
        };
        assert_eq!(field, "spec.jobDefinition", "{phase:?}");
        assert!(message.ends_with(&says("jobDefinition")), "{phase:?}: {message}");
        let swap = edit(json!({"timeout": null, "tags": {"a": "1"}, "parameters": {"a": "1"}})).await;
        let [(field, message)] = &swap[..] else { panic!("{phase:?}: {swap:?}") };
        assert_eq!(field, "spec", "{phase:?}");
        assert!(message.ends_with(&says("parameters, timeout, tags")), "{phase:?}: {message}");
    }
}
