//! What notifications say: events and mails.

#[path = "support/notified.rs"]
mod notified;

use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, ContainerOutcome, Record, RetryAction};
use batchyard_core::notification::content::{Array, BlockedQueue, Job, Session, Subject, event};
use batchyard_core::notification::mail::{mail, unknown_placeholders};
use batchyard_core::notification::moment::{Moment, What};
use notified::{at, ended, moment, record};
use serde_json::{Value, json};

fn job(record: Record) -> Job {
    Job {
        uid: "0f8b".into(),
        namespace: "team-a".into(),
        name: "dcv".into(),
        job_name: "DCV".into(),
        job_queue: "dcv-queue".into(),
        session: Some(Session { url: "https://10.0.0.1:8443/".into(), ready_at: at(11) }),
        record,
        ..Job::default()
    }
}

fn told(job: Job, moment: Moment) -> Value {
    serde_json::to_value(event(&Subject::Job(Arc::new(job), moment))).expect("plain data")
}

#[test]
fn an_event_has_the_envelope_of_cloudevents_and_the_detail_of_eventbridge() {
    let record = Record {
        job_id: Some("0f8b".into()),
        status_reason: Some("Essential container in task exited".into()),
        job_definition: Some("dcv:3".into()),
        stopped_at: Some(at(12)),
        started_at: Some(at(10)),
        attempts: vec![ended(1, Some(4), 6, RetryAction::Retry), ended(2, Some(10), 12, RetryAction::Exit)],
        log_tail: Some("password=hunter2".into()),
        ..record(Phase::Failed)
    };
    let attempt = |started: i64, stopped: i64| {
        json!({"container": {"exitCode": 1}, "statusReason": "Essential container in task exited",
            "startedAt": (1_000_000 + started) * 1000, "stoppedAt": (1_000_000 + stopped) * 1000})
    };
    let event = told(job(record.clone()), Moment { at: at(12), ..moment(What::Failed, 2, false) });
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "id": "0f8b/2/FAILED", "type": "io.batchyard.job.state-change",
            "source": "/apis/batchyard.io/v1alpha1/namespaces/team-a/batchjobs/dcv", "subject": "0f8b",
            "time": at(12), "datacontenttype": "application/json", "detailtype": "Batch Job State Change",
            "data": {
                "namespace": "team-a", "name": "dcv", "jobName": "DCV", "jobId": "0f8b", "jobQueue": "dcv-queue",
                "jobDefinition": "dcv:3", "status": "FAILED", "statusReason": "Essential container in task exited",
                "createdAt": 1_000_000_000, "startedAt": 1_000_010_000, "stoppedAt": 1_000_012_000,
                "attempts": [attempt(4, 6), attempt(10, 12)], "container": {"exitCode": 1},
            },
        })
    );
    let passed = told(job(record), moment(What::Running, 2, true));
    assert_eq!((&passed["passed"], &passed["data"]["status"]), (&json!(true), &json!("RUNNING")));
    assert_eq!(passed["data"]["attempts"], json!([attempt(4, 6)]), "what had ended by then");
    for unknown_then in ["statusReason", "stoppedAt", "container", "isTerminated"] {
        assert_eq!(passed["data"].get(unknown_then), None, "{unknown_then}");
    }
    assert_eq!(passed["data"]["startedAt"], 1_000_010_000);
}

#[test]
fn a_job_is_told_with_all_that_it_says_of_itself() {
    let record = Record {
        is_cancelled: Some(true),
        is_terminated: Some(true),
        stopped_at: Some(at(12)),
        attempts: vec![Attempt {
            container: ContainerOutcome { exit_code: Some(137), reason: Some("OutOfMemoryError: x".into()) },
            ..ended(1, None, 12, RetryAction::Exit)
        }],
        ..record(Phase::Failed)
    };
    let job = Job {
        tags: [("team".to_owned(), "a".to_owned())].into(),
        share_identifier: Some("red".into()),
        scheduling_priority: Some(7),
        retry_strategy: Some(json!({"attempts": 3})),
        timeout_seconds: Some(60),
        depends_on: vec![json!({"jobId": "other"})],
        nodes: Some((4, 1)),
        ..job(record)
    };
    let attempt = json!({"container": {"exitCode": 137, "reason": "OutOfMemoryError: x"},
        "statusReason": "Essential container in task exited", "stoppedAt": 1_000_012_000});
    let mut want = json!({
        "namespace": "team-a", "name": "dcv", "jobName": "DCV", "jobId": "0f8b", "jobQueue": "dcv-queue",
        "status": "FAILED", "createdAt": 1_000_000_000, "stoppedAt": 1_000_012_000, "attempts": [attempt],
        "container": {"exitCode": 137, "reason": "OutOfMemoryError: x"}, "retryStrategy": {"attempts": 3},
        "timeout": {"attemptDurationSeconds": 60}, "dependsOn": [{"jobId": "other"}], "tags": {"team": "a"},
        "shareIdentifier": "red", "schedulingPriority": 7, "nodeProperties": {"numNodes": 4, "mainNode": 1},
        "isCancelled": true, "isTerminated": true,
    });
    assert_eq!(told(job.clone(), moment(What::Failed, 1, false))["data"], want);
    for end in ["stoppedAt", "container", "isCancelled", "isTerminated"] {
        want.as_object_mut().expect("it is one").remove(end);
    }
    (want["status"], want["attempts"]) = (json!("STARTING"), json!([]));
    assert_eq!(told(job, moment(What::Starting, 1, true))["data"], want, "its end was not known then");
}

#[test]
fn a_start_is_told_from_then_on() {
    let both = vec![ended(1, Some(4), 6, RetryAction::Retry), ended(2, Some(10), 12, RetryAction::Exit)];
    let over = Record { started_at: Some(at(10)), attempts: both, ..record(Phase::Failed) };
    let running = Record { started_at: Some(at(8)), ..record(Phase::Running) };
    for (record, what, attempt, want) in [
        (&over, What::Runnable, 1, None),
        (&over, What::Starting, 1, None),
        (&over, What::Running, 1, Some(4)),
        (&over, What::Runnable, 2, None),
        (&over, What::Starting, 2, None),
        (&over, What::Running, 2, Some(10)),
        (&over, What::Failed, 2, Some(10)),
        (&running, What::Starting, 1, None),
        (&running, What::Running, 1, Some(8)),
        (&running, What::SessionReady, 1, Some(8)),
        // All that is known of it is that it runs.
        (&self::record(Phase::Running), What::Running, 1, Some(9)),
    ] {
        let event = told(job(record.clone()), moment(what, attempt, true));
        let want = want.map(|second| json!((1_000_000 + second) * 1000));
        assert_eq!(event["data"].get("startedAt"), want.as_ref(), "{what:?} {attempt}");
    }
}

/// So that one of long texts counts for more than one of short ones.
#[test]
fn what_waits_counts_with_all_its_texts() {
    let bytes = |job: Job| Subject::Job(Arc::new(job), moment(What::Failed, 1, false)).bytes();
    let (long, plain) = ("x".repeat(1000), job(record(Phase::Failed)));
    let mut told = plain.clone();
    told.record.status_reason = Some(long.clone());
    for longer in [
        told,
        Job { tags: [("key".to_owned(), long.clone())].into(), ..plain.clone() },
        Job { tags: [(long.clone(), "value".to_owned())].into(), ..plain.clone() },
        Job { depends_on: vec![json!({"job": long})], ..plain.clone() },
        Job { retry_strategy: Some(json!({"evaluateOnExit": [{"onReason": long}]})), ..plain.clone() },
        Job { job_name: long.clone(), ..plain.clone() },
        Job { job_queue: long.clone(), ..plain.clone() },
    ] {
        let more = bytes(longer.clone()) - bytes(plain.clone());
        assert!((990..1100).contains(&more), "{more}: {longer:?}");
    }
    assert!((1000..2000).contains(&bytes(plain.clone())), "{}", bytes(plain.clone()));
    let queue = |message: &str, head: Option<&Job>| {
        let queue = BlockedQueue { message: message.to_owned(), ..blocked_queue() };
        Subject::Queue(queue, head.cloned().map(Arc::new)).bytes()
    };
    assert_eq!(queue(&long, None), queue("", None) + 1000);
    assert_eq!(queue("", Some(&plain)), queue("", None) + plain.bytes());
}

fn blocked_queue() -> BlockedQueue {
    BlockedQueue {
        uid: "q-uid".into(),
        namespace: "team-a".into(),
        name: "dcv-queue".into(),
        reason: "ComputeEnvironmentMaxResource".into(),
        message: "BatchJob dcv is at the head of the queue".into(),
        since: at(5),
    }
}

#[test]
fn sessions_and_arrays_are_told() {
    let ready = told(job(record(Phase::Running)), moment(What::SessionReady, 1, false));
    assert_eq!(ready["type"], "io.batchyard.job.session-ready");
    assert_eq!(ready.get("detailtype"), None, "AWS has none");
    assert_eq!(ready["data"]["session"], json!({"url": "https://10.0.0.1:8443/", "readyAt": 1_000_011_000}));
    let running = told(job(record(Phase::Running)), moment(What::Running, 1, false));
    assert_eq!(running["data"].get("session"), None);

    let array = Array { size: 3, counts: [(Phase::Succeeded, 2), (Phase::Failed, 1)].into() };
    let parent = Job { array: Some(array), ..job(record(Phase::Failed)) };
    let whole = told(parent, moment(What::Failed, 0, false));
    assert_eq!(
        whole["data"]["arrayProperties"],
        json!({"size": 3, "statusSummary": {"SUCCEEDED": 2, "FAILED": 1}})
    );
}

#[test]
fn a_blocked_queue_is_told_as_the_job_at_its_head() {
    let attempts = vec![ended(1, Some(4), 6, RetryAction::Retry)];
    let head = job(Record { attempts, status_reason: Some("its own".into()), ..record(Phase::Runnable) });
    // The queue as its object is named, however the job names it.
    let head = Some(Arc::new(Job {
        job_queue: "DCV-Queue".into(),
        tags: [("a".into(), "b".into())].into(),
        ..head
    }));
    let told =
        |head| serde_json::to_value(event(&Subject::Queue(blocked_queue(), head))).expect("plain data");
    let (event, mut bare) = (told(head), told(None));
    let message = "BatchJob dcv is at the head of the queue";
    let attempt = json!({"container": {"exitCode": 1}, "statusReason": "Essential container in task exited",
        "startedAt": 1_000_004_000, "stoppedAt": 1_000_006_000});
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "id": "q-uid/1000005/BLOCKED/ComputeEnvironmentMaxResource",
            "type": "io.batchyard.queue.blocked", "subject": "dcv-queue", "time": at(5),
            "source": "/apis/batchyard.io/v1alpha1/namespaces/team-a/jobqueues/dcv-queue",
            "datacontenttype": "application/json", "detailtype": "Batch Job Queue Blocked",
            "data": {
                "namespace": "team-a", "name": "dcv", "jobName": "DCV", "jobId": "0f8b", "jobQueue": "dcv-queue",
                "status": "RUNNABLE", "statusReason": message, "reasonCode": "ComputeEnvironmentMaxResource",
                "createdAt": 1_000_000_000, "attempts": [attempt], "tags": {"a": "b"},
            },
        })
    );
    assert_eq!(
        bare["data"].take(),
        json!({"namespace": "team-a", "jobQueue": "dcv-queue", "status": "RUNNABLE", "statusReason": message,
            "reasonCode": "ComputeEnvironmentMaxResource", "attempts": []})
    );
}

/// Whatever is added to a job, none of this ever gets into an event.
#[test]
fn nothing_that_may_be_secret_is_a_member() {
    let event = told(job(record(Phase::Running)), moment(What::Running, 1, false)).to_string();
    for word in ["environment", "parameters", "command", "secrets", "logTail", "image", "volumes"] {
        assert!(!event.contains(word), "{word} in {event}");
    }
}

#[test]
fn a_mail_says_where_to_connect() {
    let ready = Subject::Job(
        Arc::new(job(record(Phase::Running))),
        Moment { at: at(11), ..moment(What::SessionReady, 1, false) },
    );
    let text = mail(&ready, "team-a/dcv-ready", None);
    assert_eq!(text.subject, "The session of job DCV is ready");
    assert_eq!(
        text.body,
        "The session of job DCV is ready.\n\nConnect to: https://10.0.0.1:8443/\nJob: dcv (0f8b)\nNamespace: team-a\n\
         Queue: dcv-queue\nAttempt: 1\nSince: 1970-01-12T13:46:51Z\n\n\
         NotificationRule team-a/dcv-ready of Batchyard sent this. Id: 0f8b/1/SESSION_READY\n"
    );
    let own = mail(&ready, "r", Some("{jobName} {jobId} in {queue} of {namespace}: {status} {url} {what} {"));
    assert_eq!(own.subject, "DCV 0f8b in dcv-queue of team-a: SESSION_READY https://10.0.0.1:8443/ {what} {");
    assert_eq!(unknown_placeholders("{jobName} {x} {} {"), ["x", ""]);
}

/// A mail without its last paragraph.
fn body(subject: &Subject) -> String {
    let body = mail(subject, "team-a/r", None).body;
    body.split_once("\n\nNotificationRule team-a/r of").expect("it says who sent it").0.to_owned()
}

#[test]
fn a_mail_says_how_a_job_ended() {
    let both = vec![ended(1, Some(4), 6, RetryAction::Retry), ended(2, Some(10), 12, RetryAction::Exit)];
    let why = Some("Essential container in task exited".to_owned());
    let over = job(Record { status_reason: why, attempts: both, ..record(Phase::Failed) });
    let mail_of = |job: &Job, what, attempt, passed| {
        body(&Subject::Job(Arc::new(job.clone()), moment(what, attempt, passed)))
    };
    assert_eq!(
        mail_of(&over, What::Failed, 2, false),
        "Job DCV is FAILED.\n\nReason: Essential container in task exited\nExit code: 1\nJob: dcv (0f8b)\n\
         Namespace: team-a\nQueue: dcv-queue\nAttempt: 2\nSince: 1970-01-12T13:46:49Z"
    );
    assert_eq!(
        mail_of(&over, What::Running, 2, true),
        "Job DCV is RUNNING.\n\nJob: dcv (0f8b)\nNamespace: team-a\nQueue: dcv-queue\nAttempt: 2\n\
         Since: 1970-01-12T13:46:49Z",
        "how it ended was not known then"
    );
    let counts = [(Phase::Running, 0), (Phase::Succeeded, 2), (Phase::Failed, 1)].into();
    let array = Job { array: Some(Array { size: 3, counts }), ..job(record(Phase::Failed)) };
    assert_eq!(
        mail_of(&array, What::Failed, 0, false),
        "Job DCV is FAILED.\n\nJob: dcv (0f8b)\nNamespace: team-a\nQueue: dcv-queue\n\
         Children: 2 SUCCEEDED, 1 FAILED\nSince: 1970-01-12T13:46:49Z"
    );
}

#[test]
fn a_mail_says_why_a_queue_is_blocked() {
    let head = Job {
        record: Record { job_id: Some("id".into()), ..record(Phase::Runnable) },
        job_queue: "DCV-Queue".into(),
        ..job(record(Phase::Runnable))
    };
    let (of_one, of_none) = (
        Subject::Queue(blocked_queue(), Some(Arc::new(head))),
        Subject::Queue(BlockedQueue { name: "empty".into(), ..blocked_queue() }, None),
    );
    assert_eq!(mail(&of_one, "r", None).subject, "Queue dcv-queue is blocked");
    assert_eq!(
        body(&of_one),
        "Queue dcv-queue is blocked.\n\nReason: BatchJob dcv is at the head of the queue\n\
         Code: ComputeEnvironmentMaxResource\nJob: dcv (id)\nNamespace: team-a\nSince: 1970-01-12T13:46:45Z"
    );
    assert_eq!(
        body(&of_none),
        "Queue empty is blocked.\n\nReason: BatchJob dcv is at the head of the queue\n\
         Code: ComputeEnvironmentMaxResource\nNamespace: team-a\nSince: 1970-01-12T13:46:45Z"
    );
    let own = |subject| {
        mail(subject, "r", Some("{jobName}|{jobId}|{queue}|{namespace}|{status}|{reason}|{url}")).subject
    };
    assert_eq!(
        own(&of_one),
        "DCV|id|dcv-queue|team-a|BLOCKED|BatchJob dcv is at the head of the queue|https://10.0.0.1:8443/"
    );
    assert_eq!(own(&of_none), "||empty|team-a|BLOCKED|BatchJob dcv is at the head of the queue|");
}

#[test]
fn no_text_breaks_out_of_its_line() {
    let hostile = "a\r\nBcc: everybody@example.org\r\n\r\nbody\u{0}";
    let mut job = job(Record { status_reason: Some(hostile.into()), ..record(Phase::Failed) });
    (job.job_name, job.job_queue, job.name) = (hostile.into(), hostile.into(), hostile.into());
    let failed = Subject::Job(Arc::new(job), moment(What::Failed, 1, false));
    for template in [None, Some("{jobName} {reason}")] {
        let mail = mail(&failed, "r", template);
        assert!(!mail.subject.chars().any(char::is_control), "{:?}", mail.subject);
        assert!(!mail.body.lines().any(|line| line.starts_with("Bcc")), "{}", mail.body);
    }
}
