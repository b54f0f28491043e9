//! Who may write a definition, and change one that may do more than its writer.

use serde_json::{Value, json};

use super::people::{accounts, definition, person, refused, right, tenancy};

const ROLE: &str = "arn:aws:iam::123456789012:role/reports";

#[tokio::test]
async fn no_definition_that_acts_as_a_role_without_the_right_to_use_it() {
    let world = tenancy("sec-def-role").await;
    let ann = person(&world, "ann", &["batch-editor"], json!([])).await;
    let spec = definition(json!({"jobRoleArn": ROLE}));
    let says = ["spec.containerProperties: jobRoleArn", &format!("resourceName \"{ROLE}\"")];
    refused(ann.makes("JobDefinition", "d", spec.clone()).await, "jobdefinitions", &says);
    let bob = person(&world, "bob", &["batch-editor"], json!([accounts(&[ROLE])])).await;
    bob.makes("JobDefinition", "d", spec).await.expect("what is granted works");
}

#[tokio::test]
async fn no_network_of_the_node_by_a_parameter_without_the_right() {
    let world = tenancy("sec-def-network").await;
    let ann = person(&world, "ann", &["batch-editor"], json!([])).await;
    let mut spec = definition(json!({}));
    spec["parameters"] = json!({"command": "--network=host --rm"});
    let says = ["resource \"containers\", resourceName \"host-network\""];
    refused(ann.makes("JobDefinition", "d", spec).await, "jobdefinitions", &says);
}

/// A privileged definition that somebody wrote who may.
async fn privileged(world: &crate::operator::world::World) {
    let rights = json!([right("privilege", "containers", &["privileged"])]);
    let admin = person(world, "admin", &["batch-admin"], rights).await;
    let spec = definition(json!({"privileged": true}));
    admin.makes("JobDefinition", "d", spec).await.expect("what is granted works");
}

#[tokio::test]
async fn no_other_image_in_a_privileged_definition_without_the_right() {
    let world = tenancy("sec-def-image").await;
    privileged(&world).await;
    let ann = person(&world, "ann", &["batch-editor"], json!([])).await;
    for change in [
        json!({"containerProperties": {"image": "mine"}}),
        json!({"containerProperties": {"command": ["sh"]}}),
        json!({"parameters": {"x": "y"}}),
    ] {
        let answer = ann.patches("JobDefinition", "d", json!({"spec": change})).await;
        refused(answer, "jobdefinitions", &["resourceName \"privileged\""]);
    }
    // Where the privilege goes, no right to it is needed.
    let without = json!({"spec": {"containerProperties": {"privileged": null, "image": "mine"}}});
    ann.patches("JobDefinition", "d", without).await.expect("a privilege may be given up");
}

#[tokio::test]
async fn no_privilege_added_to_a_definition_without_the_right() {
    let world = tenancy("sec-def-add").await;
    let ann = person(&world, "ann", &["batch-editor"], json!([])).await;
    ann.makes("JobDefinition", "d", definition(json!({}))).await.expect("what is granted works");
    let change = json!({"spec": {"containerProperties": {"privileged": true}}});
    refused(ann.patches("JobDefinition", "d", change).await, "jobdefinitions", &["\"privileged\""]);
}

#[tokio::test]
async fn labels_finalizers_and_deletion_of_a_privileged_definition_need_no_right_to_its_privileges() {
    let world = tenancy("sec-def-free").await;
    privileged(&world).await;
    let ann = person(&world, "ann", &["batch-editor"], json!([])).await;
    let patches: [Value; 2] = [
        json!({"metadata": {"labels": {"team": "a"}, "finalizers": ["example.org/hold"]}}),
        json!({"spec": {"tags": {"team": "a"}, "deregistered": [1]}}),
    ];
    for patch in patches {
        ann.patches("JobDefinition", "d", patch).await.expect("it makes no other revision");
    }
    ann.deletes("JobDefinition", "d").await.expect("it may be deleted");
    let free = json!({"metadata": {"finalizers": null}});
    ann.patches("JobDefinition", "d", free).await.expect("a finalizer may be taken off");
}
