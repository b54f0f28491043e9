//! Why the API server refused to create a pod.

use std::borrow::Cow;

use crate::reason::{self, clean};

/// What a refusal means for the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateRefusal {
    /// An object of that name exists: read it back.
    Exists,
    /// A ResourceQuota is used up, as this text says: the job stays RUNNABLE.
    Quota(String),
    /// Policy forbids the pod, as this text says: FAILED, never retried.
    Policy(String),
    /// The namespace is going or gone: nothing more to create there.
    NamespaceTerminating,
    /// The ServiceAccount is missing; it may still come.
    ServiceAccountMissing,
    /// The pod is not valid, as this text says: FAILED, never retried.
    Invalid(String),
    /// The pod is larger than an object may be: FAILED, never retried.
    TooLarge,
    /// Nothing about this pod: try again later.
    Transient,
}

impl CreateRefusal {
    /// The job's statusReason, if the refusal is for ever.
    pub fn verdict(&self) -> Option<String> {
        match self {
            Self::Policy(why) | Self::Invalid(why) => Some(reason::invalid_job_definition(why)),
            Self::TooLarge => Some(reason::invalid_job_definition(reason::POD_TOO_LARGE)),
            Self::Exists
            | Self::Quota(_)
            | Self::NamespaceTerminating
            | Self::ServiceAccountMissing
            | Self::Transient => None,
        }
    }
}

/// Reads the API server's answer to a create: HTTP code, `reason` and `message` of its Status.
/// The code is 0 if there was no answer.
pub fn classify_create(code: u16, reason: &str, message: &str) -> CreateRefusal {
    let says = |text: &str| message.contains(text);
    let why = || clean::line(&without_remarks(message), clean::REASON_LIMIT);

    // Texts that come under several codes.
    if says("failed calling webhook") {
        return CreateRefusal::Transient;
    }
    if code == 413 || says("request is too large") || says("message larger than max") {
        return CreateRefusal::TooLarge;
    }
    if says("denied the request") || says("ValidatingAdmissionPolicy") {
        return CreateRefusal::Policy(why());
    }
    match code {
        409 if reason == "AlreadyExists" => CreateRefusal::Exists,
        403 => forbidden(message, why),
        404 if says("namespaces \"") => CreateRefusal::NamespaceTerminating,
        400 | 422 => CreateRefusal::Invalid(why()),
        _ => CreateRefusal::Transient,
    }
}

/// Admission plugins and the authorizer all answer 403.
fn forbidden(message: &str, why: impl Fn() -> String) -> CreateRefusal {
    let says = |text: &str| message.contains(text);
    if says("because it is being terminated") {
        CreateRefusal::NamespaceTerminating
    } else if says("exceeded quota") {
        CreateRefusal::Quota(why())
    } else if says("error looking up service account") {
        CreateRefusal::ServiceAccountMissing
    } else if says("cannot create resource") || says("status unknown for quota") {
        // The operator's own rights, and a quota that is not counted yet.
        CreateRefusal::Transient
    } else {
        // PodSecurity, LimitRange, priority and runtime classes, quotas that ask for a limit.
        CreateRefusal::Policy(why())
    }
}

/// True if a refusal is about the rights of whoever asks for the pod, and not about the pod: RBAC, the right to name an owner
/// that must not go before (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>,
/// OwnerReferencesPermissionEnforcement), or the chart's policy of reserved names.
pub fn is_about_rights(code: u16, message: &str) -> bool {
    let ours = [
        "cannot create resource \"pods\"",
        "cannot impersonate resource \"serviceaccounts\"",
        "cannot set blockOwnerDeletion",
        "ValidatingAdmissionPolicy 'reserved.batchyard.io'",
    ];
    code == 403 && ours.iter().any(|words| message.contains(words))
}

/// What Pod Security refuses comes as a list, of which each item is explained at length in brackets: without these where
/// they would push other items out of a reason.
fn without_remarks(message: &str) -> Cow<'_, str> {
    if !message.contains("violates PodSecurity") || message.chars().count() <= clean::REASON_LIMIT {
        return Cow::Borrowed(message);
    }
    let parts = message.split('(').enumerate().filter_map(|(number, part)| match number {
        0 => Some(part.trim_end()),
        _ => Some(part.split_once(')')?.1.trim_end()),
    });
    Cow::Owned(parts.collect())
}

/// A refusal that an environment is to blame for, not the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFault {
    /// The member of the environment.
    pub member: &'static str,
    /// True if every pod of the environment will be refused, and not those of one namespace only.
    pub everywhere: bool,
}

/// A member of an environment that goes into its pods, and the words in it by which a refusal
/// would quote it. Without words, naming the member's field is enough.
pub type PodMember<'a> = (&'a str, Vec<&'a str>);

/// How refusals speak of what environments put into pods: the member, a text in lower case, and
/// whether it holds for pods of any namespace.
const FAULTS: [(&str, &str, bool); 16] = [
    ("podDefaults.priorityClassName", "no priorityclass with name", true),
    ("podDefaults.priorityClassName", "spec.priorityclassname", true),
    ("podDefaults.priorityClassName", "match these scopes: [{priorityclass", false),
    ("gpu.runtimeClassName", "runtimeclass", true),
    ("podDefaults.runtimeClassName", "runtimeclass", true),
    ("podDefaults.tolerations", "spec.tolerations", true),
    ("gpu.tolerations", "spec.tolerations", true),
    ("podDefaults.nodeSelector", "spec.nodeselector", true),
    ("podDefaults.nodeSelector", "node label selector conflicts", false),
    ("provisioner.static.nodeSelector", "spec.affinity", true),
    ("podDefaults.schedulerName", "spec.schedulername", true),
    ("podDefaults.imagePullSecrets", "spec.imagepullsecrets", true),
    ("podDefaults.labels", "metadata.labels", true),
    ("podDefaults.annotations", "metadata.annotations", true),
    ("network", "hostnetwork", false),
    ("podSecurity", "allowprivilegeescalation != false", false),
];

/// The member of the job's environment that a refusal is about, if it is about one. Jobs cannot
/// help it: they wait until an administrator has mended it.
pub fn environments_fault(message: &str, members: &[PodMember<'_>]) -> Option<EnvironmentFault> {
    // What stands before holds the pod's name, in which any word may stand.
    let said = [" is forbidden: ", " is invalid: "].iter().find_map(|cut| Some(message.split_once(cut)?.1));
    let said = said.unwrap_or(message);
    let lower = said.to_lowercase();
    FAULTS.iter().find_map(|(member, marker, everywhere)| {
        let (_, words) = members.iter().find(|(set, _)| set == member)?;
        let quoted = words.is_empty() || words.iter().any(|word| !word.is_empty() && said.contains(word));
        (quoted && lower.contains(marker)).then_some(EnvironmentFault { member, everywhere: *everywhere })
    })
}
