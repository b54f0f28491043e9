//! What is different for an object that comes from AWS, and what it needs here. What merely has no effect is in `why`.

use batchyard_core::definition::container::claim;
use batchyard_core::definition::secrets;
use batchyard_core::name;
use serde_json::Value;

use super::report::Entry;

/// What a compute environment finds here.
pub(super) fn environment(spec: &Value, entry: &mut Entry) {
    let resources = &spec["computeResources"];
    let kind = resources["type"].as_str().unwrap_or_default();
    match kind {
        "EC2" | "SPOT" if spec.pointer("/provisioner/karpenter").is_none() => {
            let which = if kind == "SPOT" { "spot nodes" } else { "nodes that are no spot nodes" };
            entry.change(
                "nodes",
                format!(
                    "existing {which} are used until an administrator adds a provisioner; docs/capacity.md says which"
                ),
            );
        }
        "FARGATE" | "FARGATE_SPOT" => entry.change(
            "nodes",
            "the cluster's serverless nodes (virtual-kubelet, EKS Fargate); without any the environment is INVALID",
        ),
        "ECS_MANAGED_INSTANCES" => {
            entry.change("nodes", "there are no instances that ECS manages: the environment is INVALID");
        }
        "" => entry.change("nodes", "UNMANAGED: every node of the cluster, or those of provisioner.static.nodeSelector"),
        _ => {}
    }
    let network =
        "pods have the pod network, not the instance's and its security groups: use NetworkPolicies";
    if is_there(&resources["securityGroupIds"]) || is_there(&resources["subnets"]) {
        entry.change("network", format!("{network}; network: host on the environment gives the node's"));
    }
    entry.change(
        "privileges",
        "containers have no capabilities, and their programs gain none: podSecurity: aws on the environment gives what ECS does",
    );
    if let Some(role) = resources["instanceRole"].as_str() {
        entry.change(
            "instance role",
            format!("jobs without a jobRoleArn had the rights of {role}; here they have none: give them a jobRoleArn"),
        );
    }
    if is_there(&resources["launchTemplate"]) {
        entry.change(
            "launch template",
            "its user data, disks and networks are no part of the nodes here: put them into an EC2NodeClass, or the image",
        );
    }
    if let Some(cluster) = spec["eksConfiguration"]["eksClusterArn"].as_str() {
        let namespace = spec["eksConfiguration"]["kubernetesNamespace"].as_str().unwrap_or_default();
        entry.change(
            "namespace",
            format!("jobs ran in namespace {namespace} of {cluster}; here they run in that of their queue"),
        );
    }
}

/// What a definition finds here.
pub(super) fn definition(spec: &Value, entry: &mut Entry) {
    let is_fargate =
        spec["platformCapabilities"].as_array().is_some_and(|list| list.iter().any(|c| c == "FARGATE"));
    if is_fargate {
        entry.change(
            "Fargate",
            "for queues whose environments are FARGATE or FARGATE_SPOT; jobs run on the cluster's serverless nodes",
        );
    }
    for (path, container) in containers(spec) {
        container_of_ecs(&path, container, is_fargate, entry);
    }
    for (path, pod) in pods(spec) {
        pod_of_eks(&path, pod, entry);
    }
    entry.changes.dedup();
}

fn is_there(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn list<'v>(value: &'v Value, member: &str, path: &str) -> Vec<(String, &'v Value)> {
    let elements = value[member].as_array().into_iter().flatten().enumerate();
    elements.map(|(index, element)| (format!("{path}{member}[{index}]"), element)).collect()
}

/// Places that hold what a container, a task or a group of nodes is.
fn places(spec: &Value) -> Vec<(String, &Value)> {
    let mut found = vec![(String::new(), spec)];
    let groups = list(&spec["nodeProperties"], "nodeRangeProperties", "nodeProperties.");
    found.extend(groups.into_iter().map(|(path, group)| (format!("{path}."), group)));
    found
}

/// Containers, tasks and the containers of tasks, with their paths.
fn containers(spec: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, place) in places(spec) {
        for member in ["containerProperties", "container"] {
            found.extend(place.get(member).map(|container| (format!("{path}{member}"), container)));
        }
        for (path, task) in list(&place["ecsProperties"], "taskProperties", &format!("{path}ecsProperties."))
        {
            found.push((path.clone(), task));
            found.extend(list(task, "containers", &format!("{path}.")));
        }
    }
    found
}

fn pods(spec: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, place) in places(spec) {
        let pod = place.get("eksProperties").and_then(|eks| eks.get("podProperties"));
        found.extend(pod.map(|pod| (format!("{path}eksProperties.podProperties"), pod)));
    }
    found
}

fn container_of_ecs(path: &str, container: &Value, is_fargate: bool, entry: &mut Entry) {
    for member in ["jobRoleArn", "taskRoleArn"] {
        if let Some(role) = container[member].as_str().filter(|role| !role.is_empty()) {
            role_of(path, member, role, entry);
        }
    }
    for (at, secret) in list(container, "secrets", &format!("{path}.")) {
        let name = secret["name"].as_str().unwrap_or_default();
        secret_of(&format!("{at} ({name})"), secret["valueFrom"].as_str().unwrap_or_default(), entry);
    }
    if let Some(registry) = container["repositoryCredentials"]["credentialsParameter"].as_str() {
        match secrets::locate(registry) {
            Ok(found) => entry.need(
                format!("Secret {}", found.secret),
                format!("of type kubernetes.io/dockerconfigjson, for {path}.repositoryCredentials"),
            ),
            Err(why) => entry.change(format!("{path}.repositoryCredentials"), why),
        }
    }
    for (at, volume) in list(container, "volumes", &format!("{path}.")) {
        volume_of(&at, volume, entry);
    }
    output_of(path, &container["logConfiguration"], entry);
    if let Some(image) = container["image"].as_str() {
        image_of(image, entry);
        if !is_fargate
            && container.get("networkMode").is_none()
            && !entry.changes.iter().any(|told| told.about == "network")
        {
            entry.change(
                "network",
                "the pod network instead of the instance's; docs/containers.md says how to have the node's",
            );
        }
    }
}

fn output_of(path: &str, logs: &Value, entry: &mut Entry) {
    let Some(driver) = logs["logDriver"].as_str() else { return };
    let member = format!("{path}.logConfiguration");
    let group = logs["options"]["awslogs-group"].as_str().map(|group| format!(" (group {group})"));
    let driver = format!("{driver}{} of {member}", group.unwrap_or_default());
    entry.change(
        "log driver",
        format!("{driver}: a sidecar of the pod sends the output; what it is sent to must be reachable from the cluster"),
    );
    if logs["logDriver"] == "awslogs" && logs["options"]["awslogs-region"].is_null() {
        entry.need(
            "logging.awslogs.region".to_owned(),
            format!(
                "of the queue's environments, for {member}, which has no awslogs-region; jobs fail without"
            ),
        );
    }
    for (at, secret) in list(logs, "secretOptions", &format!("{member}.")) {
        let name = secret["name"].as_str().unwrap_or_default();
        secret_of(&format!("{at} ({name})"), secret["valueFrom"].as_str().unwrap_or_default(), entry);
    }
}

fn role_of(path: &str, member: &str, role: &str, entry: &mut Entry) {
    let account = name::slug(name::resource(role));
    entry.need(
        format!("ServiceAccount {account}"),
        format!("or any with the annotation eks.amazonaws.com/role-arn: {role}, for {path}.{member}"),
    );
}

fn secret_of(about: &str, value_from: &str, entry: &mut Entry) {
    match secrets::locate(value_from) {
        Ok(found) => entry.need(
            format!("Secret {}", found.secret),
            format!("key {} for {about}, from {value_from}", found.key),
        ),
        Err(why) => entry.change(about, why),
    }
}

fn volume_of(at: &str, volume: &Value, entry: &mut Entry) {
    let efs = &volume["efsVolumeConfiguration"];
    let s3 = &volume["s3filesVolumeConfiguration"];
    let found = match (efs["fileSystemId"].as_str(), s3["fileSystemArn"].as_str()) {
        (Some(id), _) => Some((id, efs["authorizationConfig"]["accessPointId"].as_str())),
        (None, Some(arn)) => Some((arn, s3["accessPointArn"].as_str())),
        (None, None) => None,
    };
    if let Some((file_system, point)) = found {
        let point_said = point.map(|point| format!(" by {point}")).unwrap_or_default();
        entry.need(
            format!("PersistentVolumeClaim {}", claim(file_system, point)),
            format!("for {at}, the file system {file_system}{point_said}"),
        );
    }
    if let Some(folder) = volume["host"]["sourcePath"].as_str().filter(|folder| !folder.is_empty()) {
        entry.change("host folder", format!("{at}: {folder} is that of whichever node the job gets"));
    }
}

/// A private registry of AWS.
fn image_of(image: &str, entry: &mut Entry) {
    let registry = image.split('/').next().unwrap_or_default();
    if registry.contains(".dkr.ecr.") {
        entry.change(
            "image",
            format!("{registry}: nodes outside of AWS need credentials for it, by podDefaults.imagePullSecrets of the environment"),
        );
    }
}

fn pod_of_eks(path: &str, pod: &Value, entry: &mut Entry) {
    if pod.get("hostNetwork").is_none() {
        entry.change("network", "the pod network: on AWS hostNetwork is true unless it is stated");
    }
    if let Some(namespace) = pod["metadata"]["namespace"].as_str() {
        entry.change(
            "namespace",
            format!("{path}.metadata.namespace: {namespace}; pods run in the job's own namespace"),
        );
    }
    if let Some(account) = pod["serviceAccountName"].as_str() {
        entry.need(format!("ServiceAccount {account}"), format!("for {path}.serviceAccountName"));
    }
    for (at, secret) in list(pod, "imagePullSecrets", &format!("{path}.")) {
        let secret = secret["name"].as_str().unwrap_or_default();
        entry.need(format!("Secret {secret}"), format!("of type kubernetes.io/dockerconfigjson, for {at}"));
    }
    for (at, volume) in list(pod, "volumes", &format!("{path}.")) {
        let is_optional = volume["secret"]["optional"] == true;
        if let Some(secret) = volume["secret"]["secretName"].as_str().filter(|_| !is_optional) {
            entry.need(format!("Secret {secret}"), format!("for {at}"));
        }
        if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            entry.need(format!("PersistentVolumeClaim {claim}"), format!("for {at}"));
        }
        if let Some(folder) = volume["hostPath"]["path"].as_str() {
            entry.change("host folder", format!("{at}: {folder} is that of whichever node the job gets"));
        }
    }
    for member in ["containers", "initContainers"] {
        for (_, container) in list(pod, member, &format!("{path}.")) {
            image_of(container["image"].as_str().unwrap_or_default(), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: Value) -> Vec<String> {
        let mut entry = Entry::default();
        match spec.get("computeResources").is_some() || spec["type"] == "UNMANAGED" {
            true => environment(&spec, &mut entry),
            false => definition(&spec, &mut entry),
        }
        entry
            .changes
            .iter()
            .chain(&entry.needs)
            .map(|told| format!("{}: {}", told.about, told.text))
            .collect()
    }

    #[track_caller]
    fn says(spec: Value, wanted: &[&str]) {
        let told = of(spec);
        assert_eq!(told.len(), wanted.len(), "{told:#?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.starts_with(wanted), "{told:?} does not begin with {wanted:?}");
        }
    }

    #[test]
    fn of_environments() {
        let of = |resources: Value| json!({"type": "MANAGED", "computeResources": resources});
        let serverless = "nodes: the cluster's serverless nodes";
        let privileges = "privileges: containers have no capabilities";
        for (spec, wanted) in [
            (of(json!({"type": "SPOT"})), &["nodes: existing spot nodes", privileges][..]),
            (
                of(json!({"type": "EC2", "subnets": []})),
                &["nodes: existing nodes that are no spot nodes", privileges],
            ),
            (
                of(json!({"type": "FARGATE", "securityGroupIds": ["sg"]})),
                &[serverless, "network: pods have the pod network", privileges],
            ),
            (
                of(json!({"type": "ECS_MANAGED_INSTANCES"})),
                &["nodes: there are no instances that ECS manages", privileges],
            ),
            (json!({"type": "UNMANAGED"}), &["nodes: UNMANAGED", privileges]),
            (
                of(json!({"type": "EC2", "instanceRole": "r", "launchTemplate": {"launchTemplateId": "l"}})),
                &[
                    "nodes: ",
                    privileges,
                    "instance role: jobs without a jobRoleArn had the rights of r",
                    "launch template: its user data",
                ],
            ),
            (
                json!({"computeResources": {"type": "EC2"}, "provisioner": {"karpenter": {}},
                    "eksConfiguration": {"eksClusterArn": "c", "kubernetesNamespace": "n"}}),
                &[privileges, "namespace: jobs ran in namespace n of c"],
            ),
        ] {
            says(spec, wanted);
        }
    }

    #[test]
    fn of_containers() {
        let network = "network: the pod network instead";
        let role = "arn:aws:iam::1:role/path/Job_Role";
        let account = format!(
            "ServiceAccount {}: or any with the annotation eks.amazonaws.com/role-arn: {role}, for",
            name::slug("Job_Role")
        );
        let container = |more: Value| json!({"type": "container", "containerProperties": more});
        let secret = |from: &str| json!({"image": "a", "secrets": [{"name": "N", "valueFrom": from}]});
        for (spec, wanted) in [
            (container(json!({"image": "a"})), &[network][..]),
            (container(json!({"image": "a", "jobRoleArn": role})), &[network, &account]),
            (
                container(secret("arn:aws:secretsmanager:r:1:secret:db-AbCdEf:password::")),
                &[network, "Secret db: key password for containerProperties.secrets[0] (N), from arn:"],
            ),
            (container(secret("arn:aws:ssm:r:1:parameter/team/token")), &[network, "Secret team-token-"]),
            (
                container(json!({"image": "a", "repositoryCredentials": {"credentialsParameter": "reg"}})),
                &[network, "Secret reg: of type"],
            ),
            (
                container(
                    json!({"image": "a", "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/g"}}}),
                ),
                &[
                    "log driver: awslogs (group /g) of containerProperties.logConfiguration: a sidecar",
                    network,
                    "logging.awslogs.region: of the queue's environments, for containerProperties.logConfiguration",
                ],
            ),
            (
                container(
                    json!({"image": "a", "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-region": "r"}}}),
                ),
                &["log driver: awslogs of containerProperties.logConfiguration: a sidecar", network],
            ),
            (
                container(json!({"image": "1.dkr.ecr.eu-west-1.amazonaws.com/a"})),
                &["image: 1.dkr.ecr.", network],
            ),
            (
                container(
                    json!({"image": "a", "volumes": [{"efsVolumeConfiguration": {"fileSystemId": "fs-1"}}, {"host": {"sourcePath": "/d"}}, {"host": {}}]}),
                ),
                &[
                    "host folder: containerProperties.volumes[1]: /d",
                    network,
                    "PersistentVolumeClaim fs-1: for containerProperties.volumes[0]",
                ],
            ),
            (
                json!({"platformCapabilities": ["FARGATE"], "containerProperties": {"image": "a"}}),
                &["Fargate: for queues"],
            ),
            (
                json!({"ecsProperties": {"taskProperties": [{"taskRoleArn": role, "containers": [{"image": "a"}, {"image": "b"}]}]}}),
                &[network, &account],
            ),
            (
                json!({"nodeProperties": {"nodeRangeProperties": [{"container": {"image": "a", "jobRoleArn": role}}]}}),
                &[network, &account],
            ),
        ] {
            says(spec, wanted);
        }
    }

    #[test]
    fn of_pods() {
        let of = |pod: Value| json!({"eksProperties": {"podProperties": pod}});
        for (spec, wanted) in [
            (of(json!({})), &["network: the pod network: on AWS"][..]),
            (
                of(json!({"hostNetwork": true, "serviceAccountName": "s"})),
                &["ServiceAccount s: for eksProperties"],
            ),
            (
                of(json!({"hostNetwork": false, "metadata": {"namespace": "n"}})),
                &["namespace: eksProperties.podProperties.metadata.namespace: n"],
            ),
            (
                of(
                    json!({"hostNetwork": false, "imagePullSecrets": [{"name": "p"}], "volumes": [{"secret": {"secretName": "s"}},
                    {"secret": {"secretName": "o", "optional": true}}, {"persistentVolumeClaim": {"claimName": "c"}}, {"hostPath": {"path": "/d"}}]}),
                ),
                &["host folder: ", "Secret p: of type", "Secret s: for", "PersistentVolumeClaim c: for"],
            ),
        ] {
            says(spec, wanted);
        }
    }
}
