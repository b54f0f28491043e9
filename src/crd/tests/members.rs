//! Every member of the AWS Batch API is there under AWS's name, and what is there beside them is known.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::spec_schema;

/// The input shapes of aws-sdk-batch 1.138.0 and botocore 1.44.5: each with its members, and after a colon the shape
/// of a member that has members itself.
const SHAPES: &[(&str, &str)] = &[
    (
        "CreateComputeEnvironment",
        "computeEnvironmentName type state unmanagedvCpus computeResources:ComputeResource serviceRole \
         tags eksConfiguration:EksConfiguration context ecsSettings:EcsSettings",
    ),
    (
        "ComputeResource",
        "type allocationStrategy minvCpus maxvCpus desiredvCpus instanceTypes imageId subnets \
         securityGroupIds ec2KeyPair instanceRole tags placementGroup bidPercentage spotIamFleetRole \
         launchTemplate:LaunchTemplateSpecification ec2Configuration:Ec2Configuration \
         scalingPolicy:ComputeScalingPolicy managedInstancesProvider:ManagedInstancesProvider \
         capacityTags",
    ),
    (
        "LaunchTemplateSpecification",
        "launchTemplateId launchTemplateName version overrides:LaunchTemplateSpecificationOverride \
         userdataType",
    ),
    (
        "LaunchTemplateSpecificationOverride",
        "launchTemplateId launchTemplateName version targetInstanceTypes userdataType",
    ),
    ("Ec2Configuration", "imageType imageIdOverride batchImageStatus imageKubernetesVersion"),
    ("ComputeScalingPolicy", "minScaleDownDelayMinutes"),
    (
        "ManagedInstancesProvider",
        "propagateTags infrastructureRoleArn instanceLaunchTemplate:InstanceLaunchTemplate \
         infrastructureOptimization:InfrastructureOptimization",
    ),
    (
        "InstanceLaunchTemplate",
        "ec2InstanceProfileArn networkConfiguration:ManagedInstancesNetworkConfiguration \
         instanceRequirements:InstanceRequirements capacityOptionType \
         storageConfiguration:ManagedInstancesStorageConfiguration monitoring fipsEnabled \
         capacityReservations:CapacityReservation instanceMetadataTagsPropagation \
         localStorageConfiguration:ManagedInstancesLocalStorageConfiguration",
    ),
    ("ManagedInstancesNetworkConfiguration", "subnets securityGroups"),
    ("InstanceRequirements", "allowedInstanceTypes"),
    ("ManagedInstancesStorageConfiguration", "storageSizeGiB"),
    ("CapacityReservation", "reservationGroupArn reservationPreference"),
    ("ManagedInstancesLocalStorageConfiguration", "useLocalStorage"),
    ("InfrastructureOptimization", "scaleInAfter"),
    ("EksConfiguration", "eksClusterArn kubernetesNamespace accessEntry:EksAccessEntry"),
    ("EksAccessEntry", "desiredState status"),
    ("EcsSettings", "containerInsights"),
    ("UpdatePolicy", "terminateJobsOnUpdate jobExecutionTimeoutMinutes"),
    (
        "CreateJobQueue",
        "jobQueueName state schedulingPolicyArn priority computeEnvironmentOrder:ComputeEnvironmentOrder \
         serviceEnvironmentOrder:ServiceEnvironmentOrder jobQueueType tags \
         jobStateTimeLimitActions:JobStateTimeLimitAction",
    ),
    ("ComputeEnvironmentOrder", "order computeEnvironment"),
    ("ServiceEnvironmentOrder", "order serviceEnvironment"),
    ("JobStateTimeLimitAction", "reason state maxTimeSeconds action"),
    ("CreateSchedulingPolicy", "name quotaSharePolicy:QuotaSharePolicy fairsharePolicy:FairsharePolicy tags"),
    ("QuotaSharePolicy", "idleResourceAssignmentStrategy"),
    ("FairsharePolicy", "shareDecaySeconds computeReservation shareDistribution:ShareAttributes"),
    ("ShareAttributes", "shareIdentifier weightFactor"),
    ("CreateConsumableResource", "consumableResourceName totalQuantity resourceType tags"),
    (
        "RegisterJobDefinition",
        "jobDefinitionName type parameters schedulingPriority containerProperties:ContainerProperties \
         nodeProperties:NodeProperties retryStrategy:RetryStrategy propagateTags timeout:JobTimeout tags \
         platformCapabilities eksProperties:EksProperties ecsProperties:EcsProperties \
         consumableResourceProperties:ConsumableResourceProperties",
    ),
    (
        "ContainerProperties",
        "image vcpus memory command jobRoleArn executionRoleArn volumes:Volume environment:KeyValuePair \
         mountPoints:MountPoint readonlyRootFilesystem privileged ulimits:Ulimit user instanceType \
         resourceRequirements:ResourceRequirement linuxParameters:LinuxParameters \
         logConfiguration:LogConfiguration secrets:Secret networkConfiguration:NetworkConfiguration \
         fargatePlatformConfiguration:FargatePlatformConfiguration enableExecuteCommand \
         ephemeralStorage:EphemeralStorage runtimePlatform:RuntimePlatform \
         repositoryCredentials:RepositoryCredentials",
    ),
    (
        "Volume",
        "host:Host name efsVolumeConfiguration:EFSVolumeConfiguration \
         s3filesVolumeConfiguration:S3FilesVolumeConfiguration",
    ),
    ("Host", "sourcePath"),
    (
        "EFSVolumeConfiguration",
        "fileSystemId rootDirectory transitEncryption transitEncryptionPort \
         authorizationConfig:EFSAuthorizationConfig",
    ),
    ("EFSAuthorizationConfig", "accessPointId iam"),
    ("S3FilesVolumeConfiguration", "fileSystemArn rootDirectory transitEncryptionPort accessPointArn"),
    ("KeyValuePair", "name value"),
    ("MountPoint", "containerPath readOnly sourceVolume"),
    ("Ulimit", "hardLimit name softLimit"),
    ("ResourceRequirement", "value type"),
    ("LinuxParameters", "devices:Device initProcessEnabled sharedMemorySize tmpfs:Tmpfs maxSwap swappiness"),
    ("Device", "hostPath containerPath permissions"),
    ("Tmpfs", "containerPath size mountOptions"),
    ("LogConfiguration", "logDriver options secretOptions:Secret"),
    ("Secret", "name valueFrom"),
    ("NetworkConfiguration", "assignPublicIp"),
    ("FargatePlatformConfiguration", "platformVersion"),
    ("EphemeralStorage", "sizeInGiB"),
    ("RuntimePlatform", "operatingSystemFamily cpuArchitecture"),
    ("RepositoryCredentials", "credentialsParameter"),
    ("NodeProperties", "numNodes mainNode nodeRangeProperties:NodeRangeProperty"),
    (
        "NodeRangeProperty",
        "targetNodes container:ContainerProperties instanceTypes ecsProperties:EcsProperties \
         eksProperties:EksProperties consumableResourceProperties:ConsumableResourceProperties",
    ),
    ("EcsProperties", "taskProperties:EcsTaskProperties"),
    (
        "EcsTaskProperties",
        "containers:TaskContainerProperties ephemeralStorage:EphemeralStorage executionRoleArn \
         platformVersion ipcMode taskRoleArn pidMode networkConfiguration:NetworkConfiguration \
         runtimePlatform:RuntimePlatform volumes:Volume enableExecuteCommand networkMode",
    ),
    (
        "TaskContainerProperties",
        "command dependsOn:TaskContainerDependency environment:KeyValuePair essential \
         firelensConfiguration:FirelensConfiguration image linuxParameters:LinuxParameters \
         logConfiguration:LogConfiguration mountPoints:MountPoint name privileged readonlyRootFilesystem \
         repositoryCredentials:RepositoryCredentials resourceRequirements:ResourceRequirement \
         secrets:Secret ulimits:Ulimit user startTimeout stopTimeout",
    ),
    ("TaskContainerDependency", "containerName condition"),
    ("FirelensConfiguration", "type options"),
    ("EksProperties", "podProperties:EksPodProperties"),
    (
        "EksPodProperties",
        "serviceAccountName hostNetwork dnsPolicy imagePullSecrets:ImagePullSecret \
         containers:EksContainer initContainers:EksContainer volumes:EksVolume metadata:EksMetadata \
         shareProcessNamespace securityContext:EksPodSecurityContext",
    ),
    ("ImagePullSecret", "name"),
    (
        "EksContainer",
        "name image imagePullPolicy command args env:EksContainerEnvironmentVariable \
         resources:EksContainerResourceRequirements volumeMounts:EksContainerVolumeMount \
         securityContext:EksContainerSecurityContext",
    ),
    ("EksContainerEnvironmentVariable", "name value"),
    ("EksContainerResourceRequirements", "limits requests"),
    ("EksContainerVolumeMount", "name mountPath subPath readOnly"),
    (
        "EksContainerSecurityContext",
        "runAsUser runAsGroup privileged allowPrivilegeEscalation readOnlyRootFilesystem runAsNonRoot \
         capabilities:EksContainerLinuxCapabilities seccompProfile:EksSeccompProfile",
    ),
    ("EksContainerLinuxCapabilities", "add drop"),
    ("EksSeccompProfile", "type localhostProfile"),
    (
        "EksVolume",
        "name hostPath:EksHostPath emptyDir:EksEmptyDir secret:EksSecret \
         persistentVolumeClaim:EksPersistentVolumeClaim",
    ),
    ("EksHostPath", "path"),
    ("EksEmptyDir", "medium sizeLimit"),
    ("EksSecret", "secretName optional"),
    ("EksPersistentVolumeClaim", "claimName readOnly"),
    ("EksMetadata", "labels annotations namespace"),
    ("EksPodSecurityContext", "runAsUser runAsGroup runAsNonRoot seccompProfile:EksSeccompProfile fsGroup"),
    ("ConsumableResourceProperties", "consumableResourceList:ConsumableResourceRequirement"),
    ("ConsumableResourceRequirement", "consumableResource quantity"),
    ("RetryStrategy", "attempts evaluateOnExit:EvaluateOnExit"),
    ("EvaluateOnExit", "onStatusReason onReason onExitCode action"),
    ("JobTimeout", "attemptDurationSeconds"),
    (
        "SubmitJob",
        "jobName jobQueue shareIdentifier schedulingPriorityOverride arrayProperties:ArrayProperties \
         dependsOn:JobDependency jobDefinition parameters containerOverrides:ContainerOverrides \
         nodeOverrides:NodeOverrides retryStrategy:RetryStrategy propagateTags timeout:JobTimeout tags \
         eksPropertiesOverride:EksPropertiesOverride ecsPropertiesOverride:EcsPropertiesOverride \
         consumableResourcePropertiesOverride:ConsumableResourceProperties",
    ),
    ("ArrayProperties", "size"),
    ("JobDependency", "jobId type"),
    (
        "ContainerOverrides",
        "vcpus memory command instanceType environment:KeyValuePair \
         resourceRequirements:ResourceRequirement",
    ),
    ("NodeOverrides", "numNodes nodePropertyOverrides:NodePropertyOverride"),
    (
        "NodePropertyOverride",
        "targetNodes containerOverrides:ContainerOverrides ecsPropertiesOverride:EcsPropertiesOverride \
         instanceTypes eksPropertiesOverride:EksPropertiesOverride \
         consumableResourcePropertiesOverride:ConsumableResourceProperties",
    ),
    ("EcsPropertiesOverride", "taskProperties:TaskPropertiesOverride"),
    ("TaskPropertiesOverride", "containers:TaskContainerOverrides"),
    (
        "TaskContainerOverrides",
        "command environment:KeyValuePair name resourceRequirements:ResourceRequirement",
    ),
    ("EksPropertiesOverride", "podProperties:EksPodPropertiesOverride"),
    (
        "EksPodPropertiesOverride",
        "containers:EksContainerOverride initContainers:EksContainerOverride metadata:EksMetadata",
    ),
    (
        "EksContainerOverride",
        "name image command args env:EksContainerEnvironmentVariable \
         resources:EksContainerResourceRequirements",
    ),
];

/// The kinds and the input that each takes.
const KINDS: &[(&str, &str)] = &[
    ("ComputeEnvironment", "CreateComputeEnvironment"),
    ("JobQueue", "CreateJobQueue"),
    ("SchedulingPolicy", "CreateSchedulingPolicy"),
    ("ConsumableResource", "CreateConsumableResource"),
    ("JobDefinition", "RegisterJobDefinition"),
    ("BatchJob", "SubmitJob"),
];

/// What stands beside AWS's members. Two of the environment's are members of UpdateComputeEnvironment.
const ADDITIONS: &[(&str, &str)] = &[
    (
        "CreateComputeEnvironment",
        "updatePolicy provisioner podDefaults network podSecurity logging nodeLostTimeoutSeconds capacityTimeoutSeconds \
         vcpuRequestPercent cpuLimit allowedNamespaces gpu devices sessions",
    ),
    ("ComputeResource", "updateToLatestImageVersion"),
    ("CreateJobQueue", "maxRunning finishedJobsLimit strictFencing logging"),
    ("RegisterJobDefinition", "deregistered registration session"),
    (
        "SubmitJob",
        "jobId dependencyTimeoutSeconds terminate cancel childActions ttlSecondsAfterFinished session \
         containerProperties ecsProperties eksProperties nodeProperties",
    ),
    ("ArrayProperties", "toleratedFailures continueOnFailure maxRunning rerunFailedOf"),
    ("JobDependency", "job"),
];

#[test]
fn every_member_of_aws_is_there_and_every_other_one_is_known() {
    let shapes: BTreeMap<&str, &str> = SHAPES.iter().copied().collect();
    let additions: BTreeMap<&str, &str> = ADDITIONS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (kind, shape) in KINDS {
        compare(&shapes, &additions, shape, &spec_schema(kind), kind, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare(
    shapes: &BTreeMap<&str, &str>,
    additions: &BTreeMap<&str, &str>,
    shape: &str,
    schema: &Value,
    path: &str,
    wrong: &mut Vec<String>,
) {
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut known: BTreeSet<&str> =
        additions.get(shape).into_iter().flat_map(|names| names.split_whitespace()).collect();
    for entry in shapes[shape].split_whitespace() {
        let (name, below) = entry.split_once(':').map_or((entry, None), |(name, shape)| (name, Some(shape)));
        known.insert(name);
        match (properties.get(name), below) {
            (None, _) => wrong.push(format!("{path}.{name} is missing")),
            (Some(_), None) => {}
            (Some(schema), Some(shape)) => {
                let schema = schema.get("items").unwrap_or(schema);
                compare(shapes, additions, shape, schema, &format!("{path}.{name}"), wrong);
            }
        }
    }
    wrong.extend(
        properties
            .keys()
            .filter(|name| !known.contains(name.as_str()))
            .map(|name| format!("{path}.{name} is unknown")),
    );
}

/// The operator holds every BatchJob in memory: members that few jobs have stand in boxes of their own. A member of
/// another kind's size, such as a whole `containerProperties`, would show here.
#[test]
fn an_absent_member_takes_the_room_of_a_pointer() {
    let bytes = size_of::<crate::crd::BatchJob>();
    assert!(bytes <= 1_600, "{bytes}");
}
