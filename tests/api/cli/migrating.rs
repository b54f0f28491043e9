//! `import-aws` and `export-aws`: the commands that the report tells are run as they stand there.

use std::path::Path;
use std::process::Command;

use batchyard::crd::JobDefinition;
use kube::Api;
use serde_json::{Value, json};

use super::program::batch;
use crate::operator::world::World;
use crate::support::client::{TEST_LABEL, kubeconfig};

const OWNER: &str = "arn:aws:batch:eu-west-1:123456789012";

async fn shell(line: String) {
    let ran = tokio::task::spawn_blocking(move || {
        let ran = Command::new("sh").args(["-c", &line]).env("KUBECONFIG", kubeconfig()).output();
        (line, ran.expect("there is a shell"))
    });
    let (line, ran) = ran.await.expect("nothing panics there");
    assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// What `aws batch describe-…` would print.
fn account() -> Value {
    let revision = |number: u32, status: &str, image: &str| {
        json!({"jobDefinitionName": "Some_JD", "jobDefinitionArn": format!("{OWNER}:job-definition/Some_JD:{number}"),
            "revision": number, "status": status, "type": "container", "containerOrchestrationType": "ECS",
            "containerProperties": {"image": image, "vcpus": 1, "memory": 64, "volumes": []}})
    };
    json!({
        "computeEnvironments": [{"computeEnvironmentName": "Some_EC", "type": "MANAGED", "state": "DISABLED", "status": "VALID",
            "computeEnvironmentArn": format!("{OWNER}:compute-environment/Some_EC"),
            "computeResources": {"type": "SPOT", "maxvCpus": 4, "minvCpus": 0, "desiredvCpus": 0, "subnets": ["s"],
                "instanceRole": "r", "instanceTypes": ["optimal"]}}],
        "schedulingPolicies": [{"name": "fair", "arn": format!("{OWNER}:scheduling-policy/fair"), "fairsharePolicy": {}}],
        "consumableResources": [{"consumableResourceName": "license", "totalQuantity": 3, "inUseQuantity": 1,
            "consumableResourceArn": format!("{OWNER}:consumable-resource/license"), "resourceType": "REPLENISHABLE"}],
        "jobQueues": [{"jobQueueName": "Some_Queue", "jobQueueArn": format!("{OWNER}:job-queue/Some_Queue"), "state": "ENABLED",
            "priority": 1, "schedulingPolicyArn": format!("{OWNER}:scheduling-policy/fair"),
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": format!("{OWNER}:compute-environment/Some_EC")}]}],
        "jobDefinitions": [revision(3, "ACTIVE", "a"), revision(4, "INACTIVE", "x"), revision(5, "ACTIVE", "b")],
    })
}

#[tokio::test]
async fn an_account_comes_over_with_its_revisions_and_goes_back() {
    let world = World::empty("cli-migrate").await;
    let n = world.namespace.as_str();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(n);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::write(at("account.json"), account().to_string()).expect("it can be written");
    batch(
        n,
        &["import-aws", &at(""), "-o", &at("out"), "--report", &at("report"), "--report-format", "json"],
    )
    .await
    .ok();
    let report = std::fs::read(at("report")).expect("the report is there");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let lines: Vec<&str> =
        report["next"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(
        lines.len(),
        6,
        "three steps, a number to wait for after two, and the account's id: {lines:#?}"
    );
    for line in lines {
        shell(line.to_owned()).await;
    }
    let environment = "computeenvironment -o name | grep /";
    shell(format!("kubectl label $(kubectl get {environment}{n}[.]) {TEST_LABEL}=true")).await;
    let definitions: Api<JobDefinition> = world.api();
    let object = batchyard_core::name::slug("Some_JD");
    let of = |definition: &JobDefinition| {
        let status = definition.status.clone().unwrap_or_default();
        let each = status
            .revisions
            .iter()
            .map(|told| (told.revision, serde_json::to_value(told.status).expect("plain data")))
            .collect::<Vec<_>>();
        (status.latest_active, each)
    };
    crate::support::wait::until(&definitions, &object, "its fifth revision", |definition| {
        let (active, inactive) = (json!("ACTIVE"), json!("INACTIVE"));
        of(definition)
            == (Some(5), vec![(5, active.clone()), (4, inactive.clone()), (3, active), (2, inactive)])
    })
    .await;
    goes_back(n, &at).await;
}

async fn goes_back(n: &str, at: &impl Fn(&str) -> String) {
    let refused = batch(n, &["export-aws"]).await.fails(2);
    assert!(refused.contains("Give --account and --region."), "{refused}");
    let account = ["--account", "123456789012", "--region", "eu-west-1"];
    batch(n, &[&["export-aws", "-o", &at("back")][..], &account].concat()).await.ok();
    let mut files: Vec<_> =
        std::fs::read_dir(at("back")).expect("a folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert_eq!(
        names,
        [
            "0001-create-compute-environment-Some_EC.json",
            "0002-create-scheduling-policy-fair.json",
            "0003-create-consumable-resource-license.json",
            "0004-create-job-queue-Some_Queue.json",
            "0005-register-job-definition-Some_JD.json",
            "0006-register-job-definition-Some_JD.json",
        ]
    );
    let read = |file: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(file).expect("it is there")).expect("JSON")
    };
    assert_eq!(
        read(&files[3]),
        json!({"jobQueueName": "Some_Queue", "state": "ENABLED", "priority": 1,
            "schedulingPolicyArn": format!("{OWNER}:scheduling-policy/fair"),
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "Some_EC"}]})
    );
    assert_eq!(
        read(&files[5]),
        json!({"jobDefinitionName": "Some_JD", "type": "container", "containerProperties": {"image": "b", "vcpus": 1, "memory": 64}})
    );
    let full = batch(n, &[&["export-aws", "-o", &at("back")][..], &account].concat()).await.fails(2);
    assert!(full.contains("is not empty"), "{full}");
}
