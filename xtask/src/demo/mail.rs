//! The e-mail by which the post's user learns that the desktop is ready: the notifier of the chart, and a mail server in
//! the cluster that keeps what it gets.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::install;
use crate::process::{output, wait_until};
use crate::step::{say, step};

/// The recipe of the mail server's image.
pub(super) const RECIPE: &str = "mail";

/// The rule of the example, and the Secret that it names.
const RULE: &str = "dcv-session-ready-notification";

/// Who may send.
const USER: (&str, &str) = ("batch@example.org", "sesame");

/// Starts the mail server and turns the notifier on.
pub(super) fn begin(cluster: &Cluster, namespace: &str, mut values: Value) -> Result<()> {
    values["notifier"] = json!({
        "enabled": true,
        "namespaces": [{"name": namespace, "secrets": [RULE]}],
        // The mail server is a pod.
        "allowPrivateAddresses": true,
    });
    let made = rcgen::generate_simple_self_signed([host(namespace)]).context("no certificate")?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    step("a mail server in the cluster", || {
        let items = server(cluster.provider.pull_policy(), &certificate, &key);
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": items});
        cluster.apply(namespace, &objects)?;
        let mut wait = cluster.kubectl(["--namespace", namespace, "wait", "pod/mail", "--timeout=120s"]);
        output(wait.arg("--for=condition=Ready")).map(drop)
    })?;
    install::operator(cluster, &values)
}

fn host(namespace: &str) -> String {
    format!("mail.{namespace}.svc")
}

/// Tells the example's rule where the server is.
pub(super) fn point_to(cluster: &Cluster, namespace: &str) -> Result<()> {
    let mut get = cluster.kubectl(["--namespace", namespace, "get", "secret", "mail-tls", "--output"]);
    let certificate = output(get.arg(r#"go-template={{index .data "tls.crt" | base64decode}}"#))?;
    let smtp = json!({"spec": {"smtp": {"host": host(namespace), "caBundle": certificate}}});
    let mut patch = cluster.kubectl(["--namespace", namespace, "patch", "notificationrule", RULE]);
    output(patch.args(["--type=merge", "--patch", &smtp.to_string()])).map(drop)
}

/// Waits until the e-mail is there, and shows it.
pub(super) fn arrives(cluster: &Cluster, namespace: &str, url: &str) -> Result<()> {
    let log = || output(&mut cluster.kubectl(["--namespace", namespace, "logs", "pod/mail"]));
    step("the e-mail", || {
        wait_until("the e-mail", Duration::from_secs(120), || {
            // Encoded for mail, a query looks otherwise.
            let plain = url.split('?').next().unwrap_or(url);
            interrupted_or(log().map(|text| text.contains(plain)))
        })
    })?;
    let log = log()?;
    let text = log.lines().skip_while(|line| !line.contains(':')).collect::<Vec<_>>().join("\n  ");
    say(format!("user001 has an e-mail:\n\n  {text}\n"));
    Ok(())
}

/// The log may not be there for a moment.
fn interrupted_or(found: Result<bool>) -> Result<bool> {
    crate::interrupt::check()?;
    Ok(found.unwrap_or(false))
}

/// The notifier's Deployment.
const NOTIFIER: &str = "batchyard-notifier";

/// Turns the notifier off, if it is on: the chart gets these values.
pub(super) fn turn_off(cluster: &Cluster, values: &Value) -> Result<()> {
    let mut get = cluster.kubectl(["--namespace", install::NAMESPACE, "get", "deployment", NOTIFIER]);
    let found = output(get.args(["--ignore-not-found", "--output=name"]))?;
    if found.trim().is_empty() { Ok(()) } else { install::operator(cluster, values) }
}

/// Removes all of it but the notifier, which [`turn_off`] does.
pub(super) fn end(cluster: &Cluster, namespace: &str) -> Result<()> {
    let ours = ["delete", "pod/mail", "service/mail", &format!("notificationrule/{RULE}")];
    output(cluster.kubectl(["--namespace", namespace]).args(ours)).map(drop)
}

fn server(pull_policy: &str, certificate: &str, key: &str) -> Value {
    let from_secret = |name: &str, key: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": RULE, "key": key}}});
    json!([
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mail-tls"}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate, "tls.key": key},
        },
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": RULE},
            "stringData": {"username": USER.0, "password": USER.1},
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "mail"},
            "spec": {"selector": {"app": "mail"}, "ports": [{"port": 587}]},
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mail", "labels": {"app": "mail"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "mail", "image": "batchyard/mail:1", "imagePullPolicy": pull_policy,
                    "env": [from_secret("USERNAME", "username"), from_secret("PASSWORD", "password")],
                    "readinessProbe": {"tcpSocket": {"port": 587}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": true}],
                }],
                "volumes": [{"name": "tls", "secret": {"secretName": "mail-tls"}}],
            },
        },
    ])
}
