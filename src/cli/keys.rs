//! `kubectl batch keys`: access keys of the AWS door. They are Secrets in the gateway's namespace, which only
//! administrators may read and write.

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::table::{Screen, Table};
use super::{print, time};
use crate::k8s::access_key::{AccessKey, Binding, object_name};
use crate::k8s::meta;

/// What is done with access keys.
#[derive(clap::Args, Debug)]
pub(super) struct KeysArgs {
    /// The gateway's namespace, where keys are.
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = "batchyard-system")]
    gateway_namespace: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Make a key that works in the namespace, with the rights of one of its ServiceAccounts. Its secret is shown once.
    Create(CreateArgs),
    /// List keys, without their secrets.
    #[command(visible_alias = "ls")]
    List,
    /// Refuse a key from now on.
    Disable(OneArgs),
    /// Let a disabled key work again.
    Enable(OneArgs),
    /// Make another key like one, and let the old one work a while longer.
    Rotate(RotateArgs),
    /// Delete a key for good.
    Delete(OneArgs),
}

#[derive(clap::Args, Debug)]
struct CreateArgs {
    /// The ServiceAccount of the namespace (-n) whose rights the key has.
    #[arg(value_name = "SERVICEACCOUNT")]
    service_account: String,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How long it works, such as 90d or 12h; default: until it is disabled.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<SignedDuration>,
}

#[derive(clap::Args, Debug)]
struct OneArgs {
    /// The key's id.
    #[arg(value_name = "KEY")]
    id: String,
}

#[derive(clap::Args, Debug)]
struct RotateArgs {
    /// The old key's id.
    #[arg(value_name = "KEY")]
    id: String,
    /// How much longer the old key works.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    grace: SignedDuration,
    /// How long the new key works; default: for as long as the old one would have.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<SignedDuration>,
}

fn duration(text: &str) -> std::result::Result<SignedDuration, String> {
    let span: jiff::Span = text.parse().map_err(|error| format!("{error}"))?;
    // A day has 24 hours here.
    let span =
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    if span.is_negative() { Err("must not be negative".to_owned()) } else { Ok(span) }
}

pub(super) async fn run(args: &KeysArgs, cluster: &Cluster) -> Result<ExitCode> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &args.gateway_namespace);
    match &args.command {
        Command::Create(create) => {
            let namespace = cluster.namespace.clone();
            let binding = Binding {
                namespace_uid: uid(cluster, &namespace).await?,
                namespace,
                service_account: create.service_account.clone(),
                description: create.description.clone(),
                expires: create.expires_in.map(in_future),
            };
            make(cluster, &secrets, &args.gateway_namespace, binding).await
        }
        Command::List => list(&secrets).await,
        Command::Disable(one) => {
            annotate(&secrets, &one.id, json!({meta::KEY_DISABLED: Timestamp::now().to_string()})).await
        }
        Command::Enable(one) => annotate(&secrets, &one.id, json!({meta::KEY_DISABLED: null})).await,
        Command::Rotate(rotate) => {
            let old = find(&secrets, &rotate.id).await?;
            let (binding, expires) = successor(&old.metadata, rotate, Timestamp::now()).map_err(|why| {
                Error::new(Kind::Invalid, format!("{} {why}", rotate.id))
                    .with_hint("kubectl batch keys create makes a new key.")
            })?;
            if uid(cluster, &binding.namespace).await? != binding.namespace_uid {
                let text =
                    format!("{} is for another namespace {} than there is now", rotate.id, binding.namespace);
                return Err(Error::new(Kind::Invalid, text));
            }
            make(cluster, &secrets, &args.gateway_namespace, binding).await?;
            annotate(&secrets, &rotate.id, json!({meta::KEY_EXPIRES: expires.to_string()})).await
        }
        Command::Delete(one) => {
            find(&secrets, &one.id).await?;
            secrets.delete(&object_name(&one.id), &DeleteParams::default()).await?;
            Error::done()
        }
    }
}

fn in_future(span: SignedDuration) -> Timestamp {
    Timestamp::now().saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// What the key after a key stands for, and until when the old one works: it never works for longer than it would have,
/// and the new one only then if that is asked for.
fn successor(
    old: &ObjectMeta,
    rotate: &RotateArgs,
    now: Timestamp,
) -> std::result::Result<(Binding, Timestamp), String> {
    let annotation = |key: &str| old.annotations.as_ref().and_then(|all| all.get(key).cloned());
    let needed = |key: &str| annotation(key).ok_or_else(|| format!("lacks the annotation {key}"));
    if annotation(meta::KEY_DISABLED).is_some() {
        return Err("is disabled".to_owned());
    }
    let expires: Option<Timestamp> = annotation(meta::KEY_EXPIRES)
        .map(|text| text.parse().map_err(|_| format!("expires at {text}, which is no time")))
        .transpose()?;
    if expires.is_some_and(|expires| expires <= now) {
        return Err("has expired".to_owned());
    }
    let after = |span: SignedDuration| now.saturating_add(span).unwrap_or(Timestamp::MAX);
    let binding = Binding {
        namespace: needed(meta::KEY_NAMESPACE)?,
        namespace_uid: needed(meta::KEY_NAMESPACE_UID)?,
        service_account: needed(meta::KEY_SERVICE_ACCOUNT)?,
        description: annotation(meta::KEY_DESCRIPTION),
        expires: rotate.expires_in.map(after).or(expires),
    };
    let last = after(rotate.grace);
    Ok((binding, expires.map_or(last, |expires| expires.min(last))))
}

/// The uid of a namespace.
async fn uid(cluster: &Cluster, namespace: &str) -> Result<String> {
    let found = Api::<Namespace>::all(cluster.client.clone()).get_metadata_opt(namespace).await?;
    let uid = found.and_then(|found| found.metadata.uid);
    uid.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no namespace {namespace}")))
}

async fn make(
    cluster: &Cluster,
    secrets: &Api<Secret>,
    gateway_namespace: &str,
    binding: Binding,
) -> Result<ExitCode> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &binding.namespace);
    if accounts.get_opt(&binding.service_account).await?.is_none() {
        let text = format!(
            "there is no ServiceAccount {} in namespace {}",
            binding.service_account, binding.namespace
        );
        return Err(Error::new(Kind::NotFound, text)
            .with_hint("Make one, and bind the roles to it that its callers need: docs/aws-api.md."));
    }
    let key = AccessKey::generate(binding);
    secrets.create(&PostParams::default(), &key.object(gateway_namespace)).await?;
    print(&format!(
        "export AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\n",
        key.id,
        key.secret.reveal()
    ));
    Error::done()
}

async fn find(secrets: &Api<Secret>, id: &str) -> Result<PartialObjectMeta<Secret>> {
    let found = secrets.get_metadata_opt(&object_name(id)).await?;
    let is_key =
        |found: &PartialObjectMeta<Secret>| found.labels().get(meta::ACCESS_KEY).is_some_and(|key| key == id);
    found.filter(is_key).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no access key {id}"))
            .with_hint("kubectl batch keys list shows those that there are.")
    })
}

async fn annotate(secrets: &Api<Secret>, id: &str, annotations: Value) -> Result<ExitCode> {
    find(secrets, id).await?;
    let patch = json!({"metadata": {"annotations": annotations}});
    secrets.patch_metadata(&object_name(id), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Error::done()
}

async fn list(secrets: &Api<Secret>) -> Result<ExitCode> {
    let found = secrets.list_metadata(&ListParams::default().labels(meta::ACCESS_KEY)).await?;
    if found.items.is_empty() {
        eprintln!("No access keys found.");
    }
    let mut table = Table::new(
        Screen::stdout(),
        &["KEY", "NAMESPACE", "SERVICEACCOUNT", "STATE", "EXPIRES", "AGE", "DESCRIPTION"],
    );
    for key in found.items {
        table.row(row(&key.metadata, Timestamp::now()));
    }
    print(&table.show());
    Error::done()
}

fn row(key: &ObjectMeta, now: Timestamp) -> Vec<String> {
    let annotation = |name: &str| key.annotations.as_ref().and_then(|all| all.get(name).cloned());
    let expires: Option<Timestamp> = annotation(meta::KEY_EXPIRES).and_then(|text| text.parse().ok());
    let state = match (annotation(meta::KEY_DISABLED), expires) {
        (Some(_), _) => "DISABLED",
        (None, Some(expires)) if expires <= now => "EXPIRED",
        _ => "ENABLED",
    };
    vec![
        key.labels.as_ref().and_then(|labels| labels.get(meta::ACCESS_KEY).cloned()).unwrap_or_default(),
        annotation(meta::KEY_NAMESPACE).unwrap_or_default(),
        annotation(meta::KEY_SERVICE_ACCOUNT).unwrap_or_default(),
        state.to_owned(),
        expires.map(|expires| expires.to_string()).unwrap_or_default(),
        key.creation_timestamp.as_ref().map(|made| time::between(made.0, now)).unwrap_or_default(),
        annotation(meta::KEY_DESCRIPTION).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_people() {
        assert_eq!(duration("90d"), Ok(SignedDuration::from_hours(90 * 24)));
        assert_eq!(duration("12h"), Ok(SignedDuration::from_hours(12)));
        for wrong in ["", "x", "-1h"] {
            duration(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn the_key_after_a_key_has_no_more_than_that() {
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().expect("a time");
        let hours = |hours| now + SignedDuration::from_hours(hours);
        let rotated = |more: Value, expires_in: Option<i64>| {
            let mut annotations = json!({meta::KEY_NAMESPACE: "team", meta::KEY_NAMESPACE_UID: "1",
                meta::KEY_SERVICE_ACCOUNT: "ci", meta::KEY_DESCRIPTION: "the pipeline"});
            annotations.as_object_mut().expect("members").extend(more.as_object().expect("members").clone());
            annotations.as_object_mut().expect("members").retain(|_, value| !value.is_null());
            let old = serde_json::from_value(json!({"annotations": annotations})).expect("metadata");
            let expires_in = expires_in.map(SignedDuration::from_hours);
            let rotate = RotateArgs { id: "BYAK1".into(), grace: SignedDuration::from_hours(24), expires_in };
            successor(&old, &rotate, now).map(|(next, old)| (next.expires, old))
        };
        let until = |hour| json!({meta::KEY_EXPIRES: hours(hour).to_string()});
        assert_eq!(rotated(json!({}), None), Ok((None, hours(24))));
        assert_eq!(rotated(json!({}), Some(48)), Ok((Some(hours(48)), hours(24))));
        assert_eq!(rotated(until(90), None), Ok((Some(hours(90)), hours(24))), "it keeps its end");
        assert_eq!(rotated(until(2), None), Ok((Some(hours(2)), hours(2))), "no grace behind its end");
        assert_eq!(rotated(until(2), Some(48)), Ok((Some(hours(48)), hours(2))));
        for (more, why) in [
            (json!({meta::KEY_DISABLED: "then"}), "is disabled"),
            (until(0), "has expired"),
            (json!({meta::KEY_EXPIRES: "some day"}), "expires at some day, which is no time"),
            (json!({meta::KEY_NAMESPACE_UID: null}), "lacks the annotation batchyard.io/key-namespace-uid"),
        ] {
            assert_eq!(rotated(more, Some(48)), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_row_says_whether_a_key_works() {
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().expect("a time");
        let key = |more: Value| {
            let mut annotations = json!({meta::KEY_NAMESPACE: "team", meta::KEY_SERVICE_ACCOUNT: "ci"});
            annotations.as_object_mut().expect("members").extend(more.as_object().expect("members").clone());
            let metadata =
                json!({"name": "k", "labels": {meta::ACCESS_KEY: "BYAK1"}, "annotations": annotations});
            row(&serde_json::from_value(metadata).expect("metadata"), now)
        };
        assert_eq!(key(json!({}))[..4], ["BYAK1", "team", "ci", "ENABLED"]);
        assert_eq!(key(json!({meta::KEY_DISABLED: "then"}))[3], "DISABLED");
        assert_eq!(key(json!({meta::KEY_EXPIRES: "2026-11-26T00:00:00Z"}))[3], "EXPIRED");
    }
}
