//! `kubectl batch export-aws`: from the objects of a namespace to what `aws batch create-…` and `register-…` take.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use batchyard_core::name;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Map, Value, json};

use super::super::connect::Cluster;
use super::super::error::{Error, Kind, Result};
use super::super::{find, print};
use super::build::place;
use super::family::{DEFINITION, ENVIRONMENT, Family, POLICY, QUEUE, RESOURCE};
use super::report::{Entry, Outcome, Report};
use super::{Reporting, folder};
use crate::crd::{ComputeEnvironment, ConsumableResource, JobDefinition, JobQueue, SchedulingPolicy, aws};
use crate::k8s::meta;

/// Where to, and for which account.
#[derive(clap::Args, Debug)]
pub(in super::super) struct ExportArgs {
    /// The folder to write one file for each object to, new or empty; - prints them.
    #[arg(short, long, value_name = "DIR", default_value = "-")]
    output: String,
    /// The account that the files are for, 12 digits: AWS takes a scheduling policy by its ARN only.
    #[arg(long, value_name = "ID", requires = "region", value_parser = account)]
    account: Option<String>,
    /// The region that the files are for.
    #[arg(long, value_name = "REGION", requires = "account")]
    region: Option<String>,
    #[command(flatten)]
    reporting: Reporting,
}

fn account(text: &str) -> std::result::Result<String, String> {
    let is_id = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_id.then(|| text.to_owned()).ok_or_else(|| "an account has 12 digits".to_owned())
}

/// An object, or a revision of a definition, as the cluster has it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) family: &'static Family,
    /// Its name in the cluster.
    pub(super) object: String,
    pub(super) spec: Map<String, Value>,
    /// The number of a revision, and if jobs may be submitted from it.
    pub(super) revision: Option<(u32, bool)>,
}

impl Found {
    /// AWS's name.
    fn name(&self, namespace: &str) -> String {
        let own = match self.family.is_of_cluster() {
            true => self.object.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.')),
            false => None,
        };
        aws::shown(own.unwrap_or(&self.object), self.spec.get(self.family.name).and_then(Value::as_str))
    }
}

/// What one command of the aws CLI takes.
#[derive(Debug)]
pub(super) struct Input {
    command: &'static str,
    name: String,
    pub(super) body: Value,
}

/// The inputs in the order in which they may be given to AWS, and what is to be said of them.
#[derive(Debug, Default)]
pub(super) struct Exported {
    pub(super) inputs: Vec<Input>,
    pub(super) report: Report,
}

pub(in super::super) async fn run(args: &ExportArgs, cluster: &Cluster) -> Result<ExitCode> {
    let owner =
        args.account.as_ref().zip(args.region.as_ref()).map(|(account, region)| owner(account, region));
    let mut exported = export(read(cluster).await?, &cluster.namespace, owner.as_deref())?;
    let mut files = Vec::new();
    for (index, input) in exported.inputs.iter().enumerate() {
        let file = format!("{:04}-{}-{}.json", index + 1, input.command, input.name);
        files.push((file, serde_json::to_string_pretty(&input.body).unwrap_or_default() + "\n"));
    }
    if args.output == "-" {
        files.iter().for_each(|(_, text)| print(text));
    } else {
        let to = Path::new(&args.output);
        folder::must_be_empty(to)?;
        for ((file, text), input) in files.iter().zip(&exported.inputs) {
            folder::write(to, file, text)?;
            let path = to.join(file);
            exported.report.next.push(format!(
                "aws batch {} --cli-input-json file://{}",
                input.command,
                path.display()
            ));
        }
    }
    args.reporting.tell(&exported.report)?;
    Error::done()
}

/// What all ARNs of an account begin with
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>).
fn owner(account: &str, region: &str) -> String {
    let partition = match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:batch:{region}:{account}")
}

/// Everything of the namespace, and the environments that are its own or that its queues name.
async fn read(cluster: &Cluster) -> Result<Vec<Found>> {
    let (queues, policies, resources): (Api<JobQueue>, Api<SchedulingPolicy>, Api<ConsumableResource>) =
        (cluster.api(), cluster.api(), cluster.api());
    let all = ListParams::default;
    let mut found = Vec::new();
    let mut add = |family, object: String, spec| found.push(Found { family, object, spec, revision: None });
    let mut wanted = Vec::new();
    for queue in find::every(&queues, all()).await? {
        let order = queue.spec.compute_environment_order.iter();
        wanted.push(
            order
                .map(|entry| name::environments(&cluster.namespace, &entry.compute_environment))
                .collect::<Vec<_>>(),
        );
        add(QUEUE, queue.name_any(), aws::members(&queue.spec));
    }
    for policy in find::every(&policies, all()).await? {
        add(POLICY, policy.name_any(), aws::members(&policy.spec));
    }
    for resource in find::every(&resources, all()).await? {
        add(RESOURCE, resource.name_any(), aws::members(&resource.spec));
    }
    let environments: Api<ComputeEnvironment> = cluster.all();
    let environments = find::every(&environments, all()).await?;
    let there: Vec<String> = environments.iter().map(|environment| environment.name_any()).collect();
    let named: Vec<&String> = wanted
        .iter()
        .flatten()
        .filter_map(|names| names.iter().find_map(|name| there.iter().find(|object| *object == name)))
        .collect();
    for environment in &environments {
        let object = environment.name_any();
        let own = object.strip_prefix(&cluster.namespace).is_some_and(|rest| rest.starts_with('.'));
        if own || named.contains(&&object) {
            add(ENVIRONMENT, object, aws::members(&environment.spec));
        }
    }
    found.extend(definitions(cluster).await?);
    Ok(found)
}

/// Every revision that is kept; a definition that the operator has not seen yet is its first one.
async fn definitions(cluster: &Cluster) -> Result<Vec<Found>> {
    let (definitions, revisions): (Api<JobDefinition>, Api<ControllerRevision>) =
        (cluster.api(), cluster.api());
    let of_ours = ListParams::default().labels(meta::JOB_DEFINITION);
    let mut kept: BTreeMap<String, Vec<ControllerRevision>> = BTreeMap::new();
    for revision in find::every(&revisions, of_ours).await? {
        let object = revision.labels().get(meta::JOB_DEFINITION).cloned().unwrap_or_default();
        kept.entry(object).or_default().push(revision);
    }
    let mut found = Vec::new();
    for definition in find::every(&definitions, ListParams::default()).await? {
        let object = definition.name_any();
        let revisions = kept.remove(&object).unwrap_or_default();
        if revisions.is_empty() {
            let spec = aws::members(&definition.spec);
            found.push(Found { family: DEFINITION, object, spec, revision: Some((1, true)) });
            continue;
        }
        for revision in revisions {
            let is_active =
                revision.labels().get(meta::REVISION_STATUS).is_none_or(|status| status != meta::INACTIVE);
            let number = u32::try_from(revision.revision).unwrap_or(0);
            let is_active = is_active
                && !definition.spec.deregistered.iter().any(|gone| i64::from(*gone) == i64::from(number));
            let spec = revision.data.map(|data| aws::members(data.0)).unwrap_or_default();
            found.push(Found {
                family: DEFINITION,
                object: object.clone(),
                spec,
                revision: Some((number, is_active)),
            });
        }
    }
    Ok(found)
}

/// Makes inputs of objects.
///
/// # Errors
/// When an ARN is needed and the account is not known.
pub(super) fn export(mut found: Vec<Found>, namespace: &str, owner: Option<&str>) -> Result<Exported> {
    found.sort_by_key(|found| (place(found.family), found.object.clone(), found.revision));
    let environments: BTreeMap<String, String> = found
        .iter()
        .filter(|found| found.family.kind == ENVIRONMENT.kind)
        .map(|found| (found.object.clone(), found.name(namespace)))
        .collect();
    let mut exported = Exported::default();
    namespace.clone_into(&mut exported.report.namespace);
    exported.report.accounts.extend(owner.map(str::to_owned));
    let mut registered: BTreeMap<String, u32> = BTreeMap::new();
    for found in found {
        let family = found.family;
        let mut entry = Entry {
            kind: family.kind,
            name: found.name(namespace),
            revision: found.revision.map(|(number, _)| number),
            object: format!("aws batch {}", family.create),
            ..Entry::default()
        };
        if let Some((number, is_active)) = found.revision {
            if !is_active {
                entry.outcome = Outcome::LeftOut;
                entry.because.push("it is INACTIVE".to_owned());
                exported.report.objects.push(entry);
                continue;
            }
            let theirs = registered.entry(found.object.clone()).and_modify(|count| *count += 1).or_insert(1);
            if *theirs != number {
                let text = format!(
                    "AWS numbers revisions itself: {number} here becomes {theirs} in an account without it"
                );
                entry.change("revision", text);
            }
        }
        let mut body = found.spec;
        body.insert(family.name.to_owned(), json!(entry.name));
        only_theirs(family, &mut body, &mut entry);
        references(namespace, owner, &environments, &mut body, &entry)?;
        wanted_by_aws(family, &body, &mut entry);
        entry.kept.extend(body.keys().cloned());
        exported.inputs.push(Input {
            command: family.create,
            name: entry.name.clone(),
            body: Value::Object(body),
        });
        exported.report.objects.push(entry);
    }
    Ok(exported)
}

/// Takes out what the command does not take, by name.
fn only_theirs(family: &Family, body: &mut Map<String, Value>, entry: &mut Entry) {
    let others: Vec<String> =
        body.keys().filter(|member| !family.members.contains(&member.as_str())).cloned().collect();
    for member in others {
        body.remove(&member);
        let text = match member.as_str() {
            "updatePolicy" => "update-compute-environment takes it",
            _ => "Batchyard's own: AWS Batch has no such member",
        };
        entry.leave_out(member, text);
    }
    let resources = body.get_mut("computeResources").and_then(Value::as_object_mut);
    if resources.and_then(|resources| resources.remove("updateToLatestImageVersion")).is_some() {
        entry.leave_out("computeResources.updateToLatestImageVersion", "update-compute-environment takes it");
    }
}

/// Environments go by AWS's name, policies by an ARN.
fn references(
    namespace: &str,
    owner: Option<&str>,
    environments: &BTreeMap<String, String>,
    body: &mut Map<String, Value>,
    entry: &Entry,
) -> Result<()> {
    let order = body.get_mut("computeEnvironmentOrder").and_then(Value::as_array_mut);
    for value in order.into_iter().flatten().filter_map(|element| element.get_mut("computeEnvironment")) {
        let names = name::environments(namespace, value.as_str().unwrap_or_default());
        if let Some(shown) = names.iter().find_map(|name| environments.get(name.as_str())) {
            *value = json!(shown);
        }
    }
    let Some(policy) = body.get_mut("schedulingPolicyArn") else { return Ok(()) };
    let named = policy.as_str().unwrap_or_default();
    if !named.is_empty() && !named.starts_with("arn:") {
        let owner = owner.ok_or_else(|| {
            let text =
                format!("JobQueue {}: AWS takes schedulingPolicyArn {named} as an ARN only", entry.name);
            Error::new(Kind::Usage, text).with_hint("Give --account and --region.")
        })?;
        *policy = json!(format!("{owner}:{}/{named}", POLICY.in_arn));
    }
    Ok(())
}

/// What AWS asks for and Batchyard does not
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html>).
fn wanted_by_aws(family: &Family, body: &Map<String, Value>, entry: &mut Entry) {
    let mut wanted: Vec<&str> = Vec::new();
    if family.kind == QUEUE.kind {
        wanted.push("/priority");
    }
    if let Some(resources) = body.get("computeResources") {
        wanted.extend(["/computeResources/subnets", "/computeResources/maxvCpus"]);
        match resources["type"].as_str().unwrap_or_default() {
            "EC2" | "SPOT" => wanted.push("/computeResources/instanceRole"),
            "FARGATE" | "FARGATE_SPOT" => wanted.push("/computeResources/securityGroupIds"),
            _ => {}
        }
    }
    let body = Value::Object(body.clone());
    for place in wanted {
        let is_there =
            body.pointer(place).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()));
        if !is_there {
            entry.change(
                place[1..].replace('/', "."),
                "AWS asks for it, and nothing here says it: add it to the file",
            );
        }
    }
}
