//! What the API server may answer to the create of a pod, and what that means for the job.

use batchyard_core::termination::create::{
    CreateRefusal, classify_create, environments_fault, is_about_rights,
};

/// Code, reason and message of the answer; the refusal that it is.
const ANSWERS: &[(u16, &str, &str, &str)] = &[
    (409, "AlreadyExists", r#"pods "j-1" already exists"#, "Exists"),
    (409, "Conflict", r#"Operation cannot be fulfilled on resourcequotas "q""#, "Transient"),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=3, limited: cpu=4"#,
        "Quota",
    ),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: status unknown for quota: q, resources: cpu"#,
        "Transient",
    ),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: failed quota: q: must specify limits.cpu for: main"#,
        "Policy",
    ),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: violates PodSecurity "restricted:latest": privileged (container "main" must not set securityContext.privileged=true)"#,
        "Policy",
    ),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi"#,
        "Policy",
    ),
    (403, "Forbidden", r#"pods "j-1" is forbidden: no PriorityClass with name p was found"#, "Policy"),
    (403, "", r#"admission webhook "policy.example.com" denied the request: no"#, "Policy"),
    (400, "BadRequest", r#"admission webhook "policy.example.com" denied the request: no"#, "Policy"),
    (
        422,
        "Invalid",
        r#"pods "j-1" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#,
        "Policy",
    ),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: unable to create new content in namespace ns because it is being terminated"#,
        "NamespaceTerminating",
    ),
    (404, "NotFound", r#"namespaces "ns" not found"#, "NamespaceTerminating"),
    (404, "NotFound", "the server could not find the requested resource", "Transient"),
    (
        403,
        "Forbidden",
        r#"pods "j-1" is forbidden: error looking up service account ns/sa: serviceaccount "sa" not found"#,
        "ServiceAccountMissing",
    ),
    (
        403,
        "Forbidden",
        r#"pods is forbidden: User "o" cannot create resource "pods" in API group "" in the namespace "ns""#,
        "Transient",
    ),
    (422, "Invalid", r#"Pod "j-1" is invalid: spec.containers[0].image: Required value"#, "Invalid"),
    (
        400,
        "BadRequest",
        r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal"#,
        "Invalid",
    ),
    (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", "TooLarge"),
    (500, "", "etcdserver: request is too large", "TooLarge"),
    (
        500,
        "",
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2097999 vs. 2097152)",
        "TooLarge",
    ),
    (
        500,
        "InternalError",
        r#"failed calling webhook "w": failed to call webhook: Post "https://w": context deadline exceeded"#,
        "Transient",
    ),
    (
        500,
        "InternalError",
        r#"failed calling webhook "w": failed to call webhook: Post "https://w": the proxy denied the request"#,
        "Transient",
    ),
    (429, "TooManyRequests", "the server has received too many requests", "Transient"),
    (503, "ServiceUnavailable", "the server is currently unable to handle the request", "Transient"),
    (504, "Timeout", "request did not complete within the allotted timeout", "Transient"),
    (401, "Unauthorized", "Unauthorized", "Transient"),
    (0, "", "connection reset by peer", "Transient"),
];

#[test]
fn i8_i9_every_answer_is_understood() {
    for (code, reason, message, want) in ANSWERS {
        let text = message.to_string();
        let want = match *want {
            "Exists" => CreateRefusal::Exists,
            "Quota" => CreateRefusal::Quota(text),
            "Policy" => CreateRefusal::Policy(text),
            "NamespaceTerminating" => CreateRefusal::NamespaceTerminating,
            "ServiceAccountMissing" => CreateRefusal::ServiceAccountMissing,
            "Invalid" => CreateRefusal::Invalid(text),
            "TooLarge" => CreateRefusal::TooLarge,
            "Transient" => CreateRefusal::Transient,
            other => panic!("{other}"),
        };
        assert_eq!(classify_create(*code, reason, message), want, "{code} {reason}: {message}");
    }
}

/// What is refused first may be what the job is about, and what comes last the one thing that is missing.
#[test]
fn a_long_list_of_what_pod_security_refuses_is_told_in_short() {
    let message = r#"pods "job-6f8d1c7e-1" is forbidden: violates PodSecurity "restricted:latest": privileged (container "default" must not set securityContext.privileged=true), allowPrivilegeEscalation != false (container "default" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "default" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "default" must set securityContext.runAsNonRoot=true)"#;
    let short = r#"pods "job-6f8d1c7e-1" is forbidden: violates PodSecurity "restricted:latest": privileged, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true"#;
    assert_eq!(classify_create(403, "Forbidden", message), CreateRefusal::Policy(short.to_owned()));
    // Text without an end in it, as somebody may write.
    let open = format!("violates PodSecurity: a ({}", "x".repeat(300));
    assert_eq!(classify_create(403, "", &open), CreateRefusal::Policy("violates PodSecurity: a".to_owned()));
}

#[test]
fn only_what_is_for_ever_fails_the_job() {
    let verdict = |refusal: CreateRefusal| refusal.verdict();
    let no = Some("Invalid job definition: no".to_owned());
    assert_eq!(verdict(CreateRefusal::Policy("no".into())), no);
    assert_eq!(verdict(CreateRefusal::Invalid("no".into())), no);
    let large = verdict(CreateRefusal::TooLarge).unwrap_or_default();
    assert!(large.starts_with("Invalid job definition: "), "{large}");
    for refusal in [
        CreateRefusal::Exists,
        CreateRefusal::Quota("full".into()),
        CreateRefusal::NamespaceTerminating,
        CreateRefusal::ServiceAccountMissing,
        CreateRefusal::Transient,
    ] {
        assert_eq!(verdict(refusal), None);
    }
}

#[test]
fn what_an_environment_puts_into_pods_is_its_own_fault() {
    let all = [
        ("podDefaults.priorityClassName", vec![]),
        ("podDefaults.runtimeClassName", vec![]),
        ("podDefaults.tolerations", vec![]),
        ("podDefaults.labels", vec!["bad key", "fine"]),
        ("network", vec![]),
        ("podSecurity", vec![]),
    ];
    let cases = [
        (r#"pods "j-1" is forbidden: no PriorityClass with name gold was found"#, Some((0, true))),
        (r#"pods "j-1" is forbidden: pod rejected: RuntimeClass "nvidia" not found"#, Some((1, true))),
        (r#"Pod "j-1" is invalid: spec.tolerations[0].operator: Invalid value: "Like""#, Some((2, true))),
        (
            r#"Pod "j-1" is invalid: metadata.labels: Invalid value: "bad key": name part must"#,
            Some((3, true)),
        ),
        (
            r#"pods "j-1" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)"#,
            Some((4, false)),
        ),
        (
            r#"pods "j-1" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [gold]}]"#,
            Some((0, false)),
        ),
        (
            r#"pods "j-1" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "default" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "default" must set securityContext.capabilities.drop=["ALL"])"#,
            Some((5, false)),
        ),
        // The job's own fault.
        (r#"pods "runtimeclass-1" is forbidden: violates PodSecurity "baseline:latest": privileged"#, None),
        (r#"Pod "j-1" is invalid: metadata.labels: Invalid value: "of the job": a valid label must"#, None),
        (r#"Pod "j-1" is invalid: spec.containers[0].volumeMounts[0].mountPath: Required value"#, None),
    ];
    for (message, want) in cases {
        let fault = environments_fault(message, &all).map(|fault| (fault.member, fault.everywhere));
        assert_eq!(fault, want.map(|(at, everywhere)| (all[at].0, everywhere)), "{message}");
        assert_eq!(environments_fault(message, &[]), None, "an environment that sets nothing: {message}");
    }
}

#[test]
fn what_whoever_asks_may_not_is_not_the_pods_fault() {
    let policy = "ValidatingAdmissionPolicy 'reserved.batchyard.io' with binding 'reserved.batchyard.io' denied request";
    let runner = r#"User "system:serviceaccount:ns:batch-runner""#;
    for (code, message, about) in [
        (403, format!(r#"pods is forbidden: {runner} cannot create resource "pods" in API group """#), true),
        (
            403,
            r#"serviceaccounts "batch-runner" is forbidden: User "o" cannot impersonate resource "serviceaccounts" in"#.to_owned(),
            true,
        ),
        (
            403,
            "pods \"j-1\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't"
                .to_owned(),
            true,
        ),
        (403, format!("pods \"j-1\" is forbidden: {policy}: metadata.labels"), true),
        (422, format!("Pod \"j-1\" is invalid: spec.nodeName: Invalid value: {policy:?}"), false),
        (403, "pods \"j-1\" is forbidden: exceeded quota: q".to_owned(), false),
        (403, "pods \"j-1\" is forbidden: violates PodSecurity \"restricted:latest\": privileged".to_owned(), false),
    ] {
        assert_eq!(is_about_rights(code, &message), about, "{message}");
    }
}
