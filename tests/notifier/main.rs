//! The sinks of the notifier against real servers on loopback: HTTP of ours, and an SMTP server in Python
//! (`aiosmtpd`), which the tests install for themselves and without which they are skipped.
#![allow(dead_code)] // the receiver is shared with other tests

mod mail;
#[path = "../support/mail.rs"]
mod mailer;
#[path = "../support/receiver.rs"]
mod receiver;
mod web;

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard::crd::NotificationRule;
use batchyard::notifier::sink::{Failure, Secrets, Sink};
use batchyard::settings::NotifierSettings;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::notification::content::{Job, Session, Subject};
use batchyard_core::notification::moment::{Moment, What};
use clap::Parser;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: NotifierSettings,
}

/// Settings with these arguments.
fn settings(arguments: &[&str]) -> NotifierSettings {
    Arguments::parse_from([&["test"], arguments].concat()).settings
}

/// A sink that may speak to loopback.
fn sink(spec: Value) -> Sink {
    Sink::new(&rule(spec), &settings(&["--allowed-cidrs", "127.0.0.0/8,::1/128"]))
}

fn rule(spec: Value) -> NotificationRule {
    let metadata = json!({"name": "rule", "namespace": "team-a", "uid": "rule-uid"});
    let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "NotificationRule", "metadata": metadata,
        "spec": spec});
    serde_json::from_value(object).expect("a rule")
}

fn secrets(values: &[(&str, &str, &str)]) -> Secrets {
    let value = |(name, key, value): &(&str, &str, &str)| {
        (((*name).to_owned(), (*key).to_owned()), value.as_bytes().to_vec())
    };
    Secrets::known(values.iter().map(value).collect::<BTreeMap<_, _>>())
}

/// A session that is ready.
fn ready() -> Subject {
    let at: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
    let job = Job {
        uid: "job-uid".into(),
        namespace: "team-a".into(),
        name: "dcv".into(),
        job_name: "DCV".into(),
        job_queue: "dcv-gpu-queue".into(),
        record: Record { phase: Some(Phase::Running), created_at: Some(at), ..Record::default() },
        session: Some(Session { url: "https://203.0.113.7:8443/".into(), ready_at: at }),
        ..Job::default()
    };
    let moment = Moment { what: What::SessionReady, attempt: 1, at, passed: false };
    Subject::Job(Arc::new(job), moment)
}

/// Tries once, for all recipients.
async fn deliver(sink: &mut Sink, secrets: &Secrets) -> Result<(), Failure> {
    sink.deliver(&ready(), &mut sink.recipients(), secrets).await
}

/// The reason of a failure that may heal.
fn later(answer: Result<(), Failure>) -> String {
    match answer {
        Err(Failure { why, for_good: false, .. }) => why,
        other => panic!("not a failure that may heal: {other:?}"),
    }
}
