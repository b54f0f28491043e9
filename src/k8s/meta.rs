//! The names that the operator writes into metadata. Users may read them and never set them.

/// Finalizer of attempt pods: a pod cannot vanish before its outcome is recorded.
pub const ATTEMPT_FINALIZER: &str = "batchyard.io/attempt";
/// Scheduling gate of pods from a queue with `strictFencing`, until their uid is on record.
pub const FENCE: &str = "batchyard.io/fence";
/// Finalizer of queues, policies and environments: they go once nothing uses them.
pub const IN_USE_FINALIZER: &str = "batchyard.io/in-use";
/// On a queue: deleting it fails its jobs even though it was not disabled before.
pub const DELETE_JOBS: &str = "batchyard.io/delete-jobs";

/// Label: the BatchJob's name, cut to a label's length.
pub const JOB_NAME: &str = "batchyard.io/job-name";
/// Label: the job's id.
pub const JOB_ID: &str = "batchyard.io/job-id";
/// Label: the queue's name.
pub const JOB_QUEUE: &str = "batchyard.io/job-queue";
/// Label of pods and revisions: the definition's name.
pub const JOB_DEFINITION: &str = "batchyard.io/job-definition";
/// Label and annotation: the attempt's number.
pub const ATTEMPT: &str = "batchyard.io/attempt";
/// Annotation: the job that the pod was made for, as `name/uid`: what is left to tell it by when
/// somebody takes the owner reference off.
pub const JOB: &str = "batchyard.io/job";
/// Label and annotation: which child of an array the pod runs, or which node of a multi-node job it is.
pub const INDEX: &str = "batchyard.io/index";
/// Label of records: the uid of the BatchJob whose children they are about.
pub const JOB_UID: &str = "batchyard.io/job-uid";
/// Annotation: which pod of the attempt it is.
pub const PLACEMENT: &str = "batchyard.io/placement";
/// Label and annotation: the environment that the pod was placed in. Label, and key of a taint: the
/// environment that Karpenter made the node for.
pub const COMPUTE_ENVIRONMENT: &str = "batchyard.io/compute-environment";
/// Label of a placeholder: its environment. Annotation: what it was made like.
pub const PLACEHOLDER: &str = "batchyard.io/placeholder";
/// Annotation of a node: the instance tags of its environment as JSON, if some cannot be labels. Of a job and of a
/// revision: the tags that it has since they were changed through the AWS door, as JSON.
pub const TAGS: &str = "batchyard.io/tags";
/// Annotation of a namespace: the account id that the AWS door shows for it, 12 digits.
pub const ACCOUNT_ID: &str = "batchyard.io/account-id";
/// Annotation of a ConsumableResource: the last clientTokens by which its quantity was changed, as JSON.
pub const CLIENT_TOKENS: &str = "batchyard.io/client-tokens";
/// Annotation of a job: the user and the groups of whoever submitted it, as JSON.
pub const SUBMITTER: &str = "batchyard.io/submitter";
/// Annotation of a job: the same of whoever moved it to its queue.
pub const MOVED_BY: &str = "batchyard.io/moved-by";
/// Label of an access key's Secret: its id.
pub const ACCESS_KEY: &str = "batchyard.io/access-key";
/// Annotation of an access key: the namespace that it works in.
pub const KEY_NAMESPACE: &str = "batchyard.io/key-namespace";
/// Annotation of an access key: the uid of that namespace. Another one of the same name is somebody else's.
pub const KEY_NAMESPACE_UID: &str = "batchyard.io/key-namespace-uid";
/// Annotation of an access key: the ServiceAccount whose rights it has.
pub const KEY_SERVICE_ACCOUNT: &str = "batchyard.io/key-service-account";
/// Annotation of an access key: since when it is disabled.
pub const KEY_DISABLED: &str = "batchyard.io/key-disabled";
/// Annotation of an access key: when it stops working.
pub const KEY_EXPIRES: &str = "batchyard.io/key-expires";
/// Annotation of an access key: what it is for.
pub const KEY_DESCRIPTION: &str = "batchyard.io/key-description";

/// Annotation: vCPUs as the job states them, in thousandths.
pub const VCPUS_MILLI: &str = "batchyard.io/vcpus-milli";
/// Annotation: the share that the job counts for, if it names one.
pub const SHARE_IDENTIFIER: &str = "batchyard.io/share-identifier";
/// Annotation: the tokens that the pod holds, as a JSON object of ConsumableResource names and quantities.
pub const CONSUMABLE_RESOURCES: &str = "batchyard.io/consumable-resources";
/// Annotation of a pod: which kind of object makes it reachable as a session. Label of those objects: the pod's uid.
pub const SESSION: &str = "batchyard.io/session";
/// Annotation: containers of the pod whose end alone ends nothing, separated by commas.
pub const AUXILIARY: &str = "batchyard.io/auxiliary-containers";
/// Annotation: the attempt ends with the last of the pod's containers, and not with the first.
pub const JOINT: &str = "batchyard.io/ends-with-the-last";
/// Annotation: which containers of the pod wait for which others, as JSON.
pub const STARTS_AFTER: &str = "batchyard.io/starts-after";
/// Annotation: those of them that were told to start, separated by commas.
pub const OPENED: &str = "batchyard.io/opened-containers";

/// Annotation of a pod with a log sidecar: the drivers of its containers, separated by commas.
pub const LOG_DRIVER: &str = "batchyard.io/log-driver";
/// Annotation of such a pod: the log group, if its output goes to one.
pub const LOG_GROUP: &str = "batchyard.io/log-group";
/// Annotation of such a pod: the stream of that group.
pub const LOG_STREAM: &str = "batchyard.io/log-stream";
/// Annotation of such a pod: which of its buffers are smaller than the job states them.
pub const LOG_BUFFER: &str = "batchyard.io/log-buffer";
/// Annotation of a pod whose output should go somewhere and that has no log sidecar: why.
pub const LOGS_NOT_ROUTED: &str = "batchyard.io/logs-not-routed";

/// Label of a revision: ACTIVE or INACTIVE.
pub const REVISION_STATUS: &str = "batchyard.io/revision-status";
/// A value of [`REVISION_STATUS`]: new jobs may use it.
pub const ACTIVE: &str = "ACTIVE";
/// A value of [`REVISION_STATUS`]: they may not.
pub const INACTIVE: &str = "INACTIVE";
/// Annotation of a revision: when it became INACTIVE.
pub const INACTIVE_SINCE: &str = "batchyard.io/inactive-since";
/// Annotation of a revision: the uid of the JobDefinition that it was made from.
pub const DEFINITION_UID: &str = "batchyard.io/job-definition-uid";
/// Annotation of a revision: the `registration` text that it was made under.
pub const REGISTRATION: &str = "batchyard.io/registration";

/// Label of a namespace: the level of Pod Security that is enforced in it
/// (<https://kubernetes.io/docs/concepts/security/pod-security-admission/>).
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Says who made an object (<https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>).
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], and the field manager of every write.
pub const OPERATOR: &str = "batchyard";
