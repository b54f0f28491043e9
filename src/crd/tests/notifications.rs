//! NotificationRule: what is refused, and with which words.

use serde_json::{Value, json};

use super::{Case, create, times};

const KIND: &str = "NotificationRule";

pub(super) fn cases() -> Vec<Case> {
    [whole(), http(), smtp()].concat()
}

fn whole() -> Vec<Case> {
    let base = json!({ "phases": ["FAILED"], "http": { "url": "https://hooks.example.org/batch" } });
    let says = |patch: Value, says: &[&'static str]| create(KIND, &base, patch, says);
    let sink = "a notification rule needs exactly one of http and smtp";
    let what = "a notification rule needs at least one of phases, sessionReady and blocked";
    let queues = "queues can have letters, numbers, hyphens, underscores, periods and asterisks (*)";
    let names = "jobNames can have letters, numbers, hyphens, underscores, periods and asterisks (*)";
    let mail = json!({ "host": "mail.example.org", "from": "a@example.org", "to": ["b@example.org"] });
    vec![
        says(json!({ "state": "DISABLED", "queues": ["dcv-*", "q"], "jobNames": ["*"] }), &[]),
        says(json!({ "phases": null, "sessionReady": true }), &[]),
        says(json!({ "phases": null, "blocked": true }), &[]),
        says(json!({ "phases": null }), &[what]),
        says(json!({ "phases": [], "sessionReady": false, "blocked": false }), &[what]),
        says(json!({ "phases": ["SUBMITTED"] }), &["spec.phases[0]: unsupported value \"SUBMITTED\""]),
        says(json!({ "http": null }), &[sink]),
        says(json!({ "smtp": mail }), &[sink]),
        says(json!({ "queues": ["a b"] }), &[queues]),
        says(json!({ "queues": [""] }), &[queues]),
        says(json!({ "jobNames": ["a/b"] }), &[names]),
    ]
}

fn http() -> Vec<Case> {
    let says = |http: Value, says: &[&'static str]| {
        create(KIND, &json!({ "phases": ["FAILED"] }), json!({ "http": http }), says)
    };
    let url = "url must begin with https:// or http:// and name a host without a user";
    let secret = json!({ "name": "hook", "key": "token" });
    let header = |header: Value| json!({ "url": "https://h", "headers": [header] });
    let name = "the name of a header can have up to 128 letters, numbers and !#$%&*+.^_|~-";
    let ours = "this header is set by Batchyard";
    let one_value = "a header needs exactly one of value and valueFrom";
    let value = "the value of a header can have up to 4096 printable ASCII characters";
    vec![
        says(json!({ "url": "http://10.0.0.1:8080/hook?x=1", "caBundle": "", "signingKey": secret }), &[]),
        says(json!({ "url": "https://[2001:db8::1]/hook" }), &[]),
        says(json!({ "urlFrom": secret }), &[]),
        says(json!({}), &["http needs exactly one of url and urlFrom"]),
        says(
            json!({ "url": "https://h", "urlFrom": secret }),
            &["http needs exactly one of url and urlFrom"],
        ),
        says(json!({ "url": "ftp://h/" }), &[url]),
        says(json!({ "url": "https://" }), &[url]),
        says(json!({ "url": "https://user:password@h/" }), &[url]),
        says(json!({ "url": "https://h/a b" }), &[url]),
        says(header(json!({ "name": "Authorization", "valueFrom": secret })), &[]),
        says(header(json!({ "name": "X-Team", "value": "hpc" })), &[]),
        says(header(json!({ "name": "X Team", "value": "hpc" })), &[name]),
        says(header(json!({ "name": "Content-Type", "value": "text/plain" })), &[ours]),
        says(header(json!({ "name": "Webhook-Id", "value": "1" })), &[ours]),
        says(header(json!({ "name": "X-Team" })), &[one_value]),
        says(header(json!({ "name": "X-Team", "value": "a", "valueFrom": secret })), &[one_value]),
        says(header(json!({ "name": "X-Team", "value": "a\r\nHost: b" })), &[value]),
        says(
            json!({ "url": "https://h", "headers": times(17, json!({ "name": "X", "value": "a" })) }),
            &["headers can have at most 16 entries"],
        ),
        says(
            json!({ "url": "http://h", "headers": [{ "name": "Authorization", "valueFrom": secret }] }),
            &["headers with a valueFrom need an https:// url"],
        ),
        says(json!({ "urlFrom": { "name": "hook" } }), &["spec.http.urlFrom.key: required"]),
    ]
}

fn smtp() -> Vec<Case> {
    let base = json!({ "sessionReady": true, "smtp": {
        "host": "mail.example.org", "from": "batch@example.org", "to": ["user001@example.org"] } });
    let says = |smtp: Value, says: &[&'static str]| create(KIND, &base, json!({ "smtp": smtp }), says);
    let to = "to must have addresses such as user@example.org";
    let subject = "subject can have up to 200 characters and no line breaks";
    vec![
        says(
            json!({ "port": 465, "tls": "TLS", "subject": "{jobName} läuft", "credentials": { "name": "mail" } }),
            &[],
        ),
        says(json!({ "host": "10.0.0.1", "tls": "STARTTLS" }), &[]),
        says(json!({ "tls": "NONE" }), &["spec.smtp.tls: unsupported value \"NONE\""]),
        says(json!({ "host": "mail example" }), &["host must be a DNS name or an IP address"]),
        says(json!({ "from": "batch" }), &["from must be an address such as batch@example.org"]),
        says(json!({ "to": [] }), &["to needs 1 to 50 addresses"]),
        says(json!({ "to": times(51, json!("a@b")) }), &["to needs 1 to 50 addresses"]),
        says(json!({ "to": ["a@b, c@d"] }), &[to]),
        says(json!({ "to": ["a@b\r\nDATA"] }), &[to]),
        says(json!({ "subject": "a\nBcc: x@y" }), &[subject]),
        says(json!({ "subject": "a".repeat(201) }), &[subject]),
    ]
}
