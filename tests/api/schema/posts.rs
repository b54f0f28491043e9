//! The JSON of the posts that the project began with, unchanged below `spec`.

use serde_json::Value;

use super::answers::Objects;
use crate::support::client::{Actor, connect, namespace};

/// Kind, a name for the object, and the JSON. Where a post left a brace or a comma out, it was put in; its variables
/// have values. The post about interactive sessions clicks in the console: that is what the console sends.
const POSTS: &[(&str, &str, &str)] = &[
    ("ComputeEnvironment", "compute-0", include_str!("../posts/compute-0.json")),
    ("JobQueue", "queue-0", include_str!("../posts/queue-0.json")),
    ("JobDefinition", "spot", include_str!("../posts/spot.json")),
    ("JobDefinition", "random-ec", include_str!("../posts/random-ec.json")),
    ("JobDefinition", "no-container", include_str!("../posts/no-container.json")),
    ("ComputeEnvironment", "od-ce", include_str!("../posts/od-ce.json")),
    ("JobQueue", "jq", include_str!("../posts/jq.json")),
    ("JobDefinition", "alpine-env", include_str!("../posts/alpine-env.json")),
    ("JobDefinition", "alpine-splunk", include_str!("../posts/alpine-splunk.json")),
    ("BatchJob", "test", include_str!("../posts/submit-alpine-env.json")),
    ("ComputeEnvironment", "dcv-gpu-ce", include_str!("../posts/dcv-gpu-ce.json")),
    ("JobQueue", "dcv-gpu-queue", include_str!("../posts/dcv-gpu-queue.json")),
    ("JobDefinition", "dcv-gpu-jd", include_str!("../posts/dcv-gpu-jd.json")),
];

#[tokio::test]
async fn each_document_is_stored_as_it_stands() {
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "posts").await;
    let objects = Objects { client: user, namespace };
    for (kind, name, text) in POSTS {
        let spec: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let object = format!("{}-{name}", objects.namespace);
        let stored = objects.try_create(kind, &object, &spec).await;
        let stored = stored.unwrap_or_else(|status| panic!("{kind} {name}: {}", status.message));
        assert_eq!(stored["spec"], spec, "{kind} {name}: a member was dropped or changed");
    }
    objects.remove_namespace().await;
}
