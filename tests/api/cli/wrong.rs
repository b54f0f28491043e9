//! Everything that can be wrong: each with its exit code, and a word on what to do.

use batchyard_core::job::phase::Phase;
use serde_json::json;

use super::program::batch;
use crate::operator::world::{World, job};

#[tokio::test]
async fn errors_say_what_to_do() {
    let world = World::with_queue("cli-wrong").await;
    let n = world.namespace.as_str();
    for name in ["twin-a", "twin-b"] {
        world.submit(name, job(json!({"jobQueue": "nowhere"}))).await.reaches(Phase::Submitted).await;
    }
    let cases: &[(&[&str], i32, &str)] = &[
        (&["describe", "nothing"], 3, "no job nothing in namespace"),
        (&["describe", "twin"], 3, "2 jobs begin with twin: twin-a, twin-b\nGive more of the name or id."),
        (&["cancel", "twin-a", "nothing"], 3, "no job nothing"),
        (
            &["logs", "twin-a"],
            3,
            "twin-a has not started: Waiting for JobQueue nowhere, which does not exist\nUse --follow",
        ),
        (&["list", "--status", "DONE"], 2, "expected one of SUBMITTED"),
        (&["list", "-o", "xml"], 2, "expected table, json, yaml"),
        (&["submit", "render"], 2, "--queue"),
        (&["submit", "render", "-q", "queue", "-p", "novalue"], 2, "expected NAME=VALUE"),
        (&["submit", "render", "-q", "queue", "--depends-on", "a:SOON"], 2, "expected N_TO_N or SEQUENTIAL"),
        (
            &["submit", "render", "-q", "queue", "--vcpus", "0"],
            5,
            "the value of VCPU must be a number greater than 0",
        ),
        (&["submit", "render", "-q", "queue", "--name", "twin-a"], 5, "already exists"),
        (&["run", "busy box", "-q", "queue"], 5, "image can have"),
        (&["watch"], 2, "required"),
        (&["move", "twin-a"], 2, "--queue"),
        (&["test-retry", "no-such-definition"], 3, "no file or job definition no-such-definition"),
        (&["--as", "nobody", "list"], 4, "nobody\" cannot list resource \"batchjobs\""),
        (&["--as", "nobody", "terminate", "twin-a"], 4, "The roles view and edit of a namespace"),
        (&["--context", "elsewhere", "list"], 6, "no cluster to talk to"),
        (&["--kubeconfig", "/nonexistent", "list"], 6, "Give --kubeconfig or --context"),
    ];
    for (line, code, words) in cases {
        let said = batch(n, line).await;
        assert_eq!(said.code, Some(*code), "{line:?}: {said:?}");
        assert!(said.err.contains(words), "{line:?}: {words:?} is not in {:?}", said.err);
        assert_eq!(said.out, "", "{line:?}");
    }
    assert!(
        world.job("twin-a").get().await.spec.cancel.is_none(),
        "all are found before the first is touched"
    );
}
