//! `kubectl batch submit` and `run`: a new job, and waiting for it.

use std::process::ExitCode;

use clap::ValueEnum;
use kube::ResourceExt as _;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::output::{Format, Output, objects};
use super::{find, list, logs, print, watch};
use crate::crd::batch_job::{ArrayJobDependency, ArrayProperties, JobDependency};
use crate::crd::container::{ContainerProperties, KeyValuePair, ResourceRequirement, ResourceType};
use crate::crd::overrides::ContainerOverrides;
use crate::crd::shared::{JobTimeout, RetryStrategy};
use crate::crd::{BatchJob, BatchJobSpec};

/// How long a job with a name of its own is kept after it ended, in seconds: as long as the operator
/// keeps those whose names were generated.
const KEPT: i32 = 7 * 86_400;

/// A job from a definition.
#[derive(clap::Args, Debug)]
pub(super) struct SubmitArgs {
    /// The definition: name, name:revision or ARN.
    #[arg(value_name = "DEFINITION")]
    definition: String,
    /// A value for Ref::NAME in the definition's command; can be given more than once.
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// vCPUs instead of the definition's.
    #[arg(long, value_name = "NUMBER")]
    vcpus: Option<String>,
    /// Memory in MiB instead of the definition's.
    #[arg(long, value_name = "MIB")]
    memory: Option<String>,
    /// The command instead of the definition's, behind `--`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    then: ThenArgs,
}

/// A job from an image.
#[derive(clap::Args, Debug)]
pub(super) struct RunArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// vCPUs.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    vcpus: String,
    /// Memory in MiB.
    #[arg(long, value_name = "MIB", default_value = "512")]
    memory: String,
    /// The command, behind `--`; default: the image's.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    then: ThenArgs,
}

/// What both have.
#[derive(clap::Args, Debug)]
struct JobArgs {
    /// The queue: name or ARN.
    #[arg(short, long, value_name = "QUEUE")]
    queue: String,
    /// The name of the job; default: one that is made from the definition's or the image's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// GPUs.
    #[arg(long, value_name = "NUMBER")]
    gpus: Option<String>,
    /// An environment variable; can be given more than once.
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    environment: Vec<(String, String)>,
    /// How many times the job may run, 1 to 10.
    #[arg(long, value_name = "NUMBER")]
    attempts: Option<i32>,
    /// Seconds that an attempt may run, at least 60.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<i32>,
    /// Make the job an array of so many, 2 to 10000.
    #[arg(long, visible_alias = "array-size", value_name = "SIZE")]
    array: Option<i32>,
    #[command(flatten)]
    of_array: ArrayArgs,
    /// A job that must succeed first, by its name or id; JOB:N_TO_N between arrays, ID:INDEX for a child of one. Can be
    /// given more than once.
    #[arg(long = "depends-on", value_name = "JOB[:TYPE]", value_parser = dependency)]
    depends_on: Vec<JobDependency>,
    /// Fail the job if one that it depends on does not exist for so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "depends_on")]
    dependency_timeout: Option<i32>,
    /// The share that the job counts for, in fair-share queues.
    #[arg(long, value_name = "NAME")]
    share: Option<String>,
    /// schedulingPriorityOverride: 0 to 9999.
    #[arg(long, value_name = "NUMBER")]
    priority: Option<i32>,
    /// A tag; can be given more than once.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// A label of the object; can be given more than once.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Delete the job so many seconds after it ended; default: 7 days.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<i32>,
}

/// What only arrays have.
#[derive(clap::Args, Debug, Default)]
struct ArrayArgs {
    /// So many children of the array run at a time.
    #[arg(long, value_name = "NUMBER", requires = "array")]
    max_running: Option<i32>,
    /// So many children may fail while the array succeeds: a number, or a part of the array such as 10%.
    #[arg(long, value_name = "NUMBER|PERCENT", requires = "array", value_parser = tolerated)]
    tolerated_failures: Option<Value>,
    /// Children that wait for the one before (--depends-on :SEQUENTIAL) run even if that fails.
    #[arg(long, requires = "array")]
    continue_on_failure: bool,
}

/// What happens after the job was submitted.
#[derive(clap::Args, Debug)]
struct ThenArgs {
    /// Wait for the job's end, and end with its exit code.
    #[arg(short, long)]
    wait: bool,
    /// Print what the job writes, wait for its end, and end with its exit code.
    #[arg(short, long, conflicts_with = "wait")]
    follow: bool,
    /// Submit nothing: client prints the job, server lets the API server check it, too.
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "client",
        conflicts_with_all = ["wait", "follow"])]
    dry_run: Option<DryRun>,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    Client,
    Server,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    split
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE".to_owned())
}

fn tolerated(text: &str) -> std::result::Result<Value, String> {
    let (number, is_part) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
    match number.parse::<u32>() {
        Ok(number) if !is_part => Ok(number.into()),
        Ok(0..=100) => Ok(text.into()),
        _ => Err("expected a number or a percentage, such as 5 or 10%".to_owned()),
    }
}

fn dependency(text: &str) -> std::result::Result<JobDependency, String> {
    let id = |text: &str| find::is_id(text.split(':').next().unwrap_or_default());
    let is_index = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (job, type_) = match text.rsplit_once(':') {
        None => (text, None),
        Some((job, "N_TO_N")) => (job, Some(ArrayJobDependency::NToN)),
        Some((job, "SEQUENTIAL")) => (job, Some(ArrayJobDependency::Sequential)),
        Some((_, index)) if id(text) && is_index(index) => (text, None),
        Some((_, other)) => {
            return Err(format!("expected N_TO_N or SEQUENTIAL behind the colon, found {other:?}"));
        }
    };
    let known = Some(job.to_owned()).filter(|job| !job.is_empty());
    Ok(match id(job) {
        true => JobDependency { job_id: known, type_, job: None },
        false => JobDependency { job: known, type_, job_id: None },
    })
}

pub(super) async fn submit(args: SubmitArgs, cluster: &Cluster) -> Result<ExitCode> {
    let requirements = requirements([
        (ResourceType::Vcpu, args.vcpus),
        (ResourceType::Memory, args.memory),
        (ResourceType::Gpu, args.job.gpus.clone()),
    ]);
    let overrides = ContainerOverrides {
        command: args.command,
        environment: environment(&args.job.environment),
        resource_requirements: requirements,
        ..ContainerOverrides::default()
    };
    let plain = batchyard_core::name::resource(&args.definition).split(':').next().unwrap_or_default();
    let job = job(
        &args.job,
        plain,
        BatchJobSpec {
            job_definition: Some(args.definition.clone()),
            parameters: args.parameters.into_iter().collect(),
            container_overrides: Some(overrides)
                .filter(|overrides| *overrides != ContainerOverrides::default())
                .map(Box::new),
            ..BatchJobSpec::default()
        },
    )?;
    create(cluster, job, &args.then).await
}

pub(super) async fn run(args: RunArgs, cluster: &Cluster) -> Result<ExitCode> {
    let container = ContainerProperties {
        image: args.image.clone(),
        command: args.command,
        environment: environment(&args.job.environment),
        resource_requirements: requirements([
            (ResourceType::Vcpu, Some(args.vcpus)),
            (ResourceType::Memory, Some(args.memory)),
            (ResourceType::Gpu, args.job.gpus.clone()),
        ]),
        ..ContainerProperties::default()
    };
    let last = args.image.rsplit('/').next().unwrap_or_default();
    let plain = last.split([':', '@']).next().unwrap_or_default();
    let spec = BatchJobSpec { container_properties: Some(Box::new(container)), ..BatchJobSpec::default() };
    create(cluster, job(&args.job, plain, spec)?, &args.then).await
}

fn requirements(stated: [(ResourceType, Option<String>); 3]) -> Vec<ResourceRequirement> {
    let stated = stated.into_iter().filter_map(|(type_, value)| Some((type_, value?)));
    stated.map(|(type_, value)| ResourceRequirement { type_, value }).collect()
}

fn environment(pairs: &[(String, String)]) -> Vec<KeyValuePair> {
    let variable = |(name, value): &(String, String)| KeyValuePair {
        name: Some(name.clone()),
        value: Some(value.clone()),
    };
    pairs.iter().map(variable).collect()
}

/// The object; `plain` is what a name is made from.
fn job(args: &JobArgs, plain: &str, what: BatchJobSpec) -> Result<BatchJob> {
    let spec = BatchJobSpec {
        job_queue: args.queue.clone(),
        retry_strategy: args
            .attempts
            .map(|attempts| RetryStrategy { attempts: Some(attempts), ..RetryStrategy::default() }),
        timeout: args.timeout.map(|seconds| JobTimeout { attempt_duration_seconds: Some(seconds) }),
        array_properties: array(args)?,
        depends_on: args.depends_on.clone(),
        dependency_timeout_seconds: args.dependency_timeout,
        share_identifier: args.share.clone(),
        scheduling_priority_override: args.priority,
        tags: args.tags.iter().cloned().collect(),
        ttl_seconds_after_finished: args.ttl.or(args.name.as_ref().map(|_| KEPT)),
        ..what
    };
    let labels = Some(args.labels.iter().cloned().collect())
        .filter(|labels: &std::collections::BTreeMap<_, _>| !labels.is_empty());
    let metadata = match &args.name {
        Some(name) => ObjectMeta { name: Some(name.clone()), labels, ..ObjectMeta::default() },
        None => {
            ObjectMeta { generate_name: Some(format!("{}-", stem(plain))), labels, ..ObjectMeta::default() }
        }
    };
    Ok(BatchJob { metadata, spec, status: None })
}

/// The array that is asked for, by its members' names: how each is written only the wire type knows.
fn array(args: &JobArgs) -> Result<Option<ArrayProperties>> {
    let Some(size) = args.array else { return Ok(None) };
    let mut members = json!({"size": size});
    if let Some(number) = args.of_array.max_running {
        members["maxRunning"] = number.into();
    }
    if let Some(tolerated) = &args.of_array.tolerated_failures {
        members["toleratedFailures"] = tolerated.clone();
    }
    if args.of_array.continue_on_failure {
        members["continueOnFailure"] = true.into();
    }
    let array = serde_json::from_value(members);
    array.map(Some).map_err(|error| Error::usage(format!("no array can be like that: {error}")))
}

/// A name that the API server may append to.
fn stem(name: &str) -> String {
    const LONGEST: usize = 50;
    let slug = batchyard_core::name::slug(name);
    let short: String = slug.chars().take(LONGEST).collect();
    let short = short.trim_matches(['-', '.']);
    if short.is_empty() { "job".to_owned() } else { short.to_owned() }
}

async fn create(cluster: &Cluster, mut job: BatchJob, then: &ThenArgs) -> Result<ExitCode> {
    let format = then.output.format();
    if then.dry_run == Some(DryRun::Client) {
        job.metadata.namespace = Some(cluster.namespace.clone());
        // A job that only has to be read is read as YAML.
        let format = if then.output.is_table() { Format::Yaml } else { format };
        print(&objects(&format, &[list::to_value(&job)?], true)?);
        return Error::done();
    }
    let params = PostParams { dry_run: then.dry_run.is_some(), field_manager: None };
    let made =
        cluster.api::<BatchJob>().create(&params, &job).await.map_err(|error| refused(error, cluster))?;
    let name = made.name_any();
    if !then.output.is_table() {
        print(&objects(&format, &[list::to_value(&made)?], true)?);
    } else if then.dry_run.is_some() {
        print(&format!("{name} would be submitted to {} (the API server takes it)\n", job.spec.job_queue));
    } else if then.wait || then.follow {
        eprintln!("{name} is submitted to {}", job.spec.job_queue);
    } else {
        print(&format!(
            "{name} is submitted to {} (id {})\n",
            job.spec.job_queue,
            made.uid().unwrap_or_default()
        ));
    }
    match (then.follow, then.wait) {
        (true, _) => logs::follow_to_the_end(cluster, &made).await,
        (_, true) => watch::to_the_end(cluster, &name).await,
        _ => Error::done(),
    }
}

fn refused(error: kube::Error, cluster: &Cluster) -> Error {
    let error = Error::from(error);
    match error.kind() {
        Kind::NotFound => {
            error.with_hint(format!("Is there a namespace {}? Is Batchyard installed?", cluster.namespace))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: JobArgs,
    }

    fn args(line: &str) -> std::result::Result<JobArgs, clap::Error> {
        Line::try_parse_from(format!("submit -q q {line}").split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn an_array_is_written_as_the_wire_has_it() {
        let written = |line| {
            let array = array(&args(line).expect("arguments")).expect("an array");
            serde_json::to_value(array).expect("JSON")
        };
        assert_eq!(written(""), Value::Null);
        assert_eq!(written("--array 50"), json!({"size": 50}));
        assert_eq!(written("--array-size 50"), json!({"size": 50}), "its name until now");
        assert_eq!(written("--array 50 --tolerated-failures 5")["toleratedFailures"], 5);
    }

    #[test]
    fn what_only_arrays_have_needs_an_array() {
        assert_eq!(tolerated("10%"), Ok(json!("10%")));
        for wrong in ["--max-running 3", "--tolerated-failures 3", "--continue-on-failure"] {
            assert!(args(wrong).is_err(), "{wrong}");
        }
        for wrong in ["x", "-1", "101%", "%", "1.5"] {
            assert!(tolerated(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dependencies_by_name_and_by_id() {
        const ID: &str = "1e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b1";
        let said = |text: &str| {
            dependency(text)
                .map(|found| serde_json::to_string(&found).expect("plain data"))
                .unwrap_or_else(|why| why)
        };
        for (text, want) in [
            ("first".to_owned(), r#"{"job":"first"}"#.to_owned()),
            ("first:N_TO_N".to_owned(), r#"{"type":"N_TO_N","job":"first"}"#.to_owned()),
            (":SEQUENTIAL".to_owned(), r#"{"type":"SEQUENTIAL"}"#.to_owned()),
            (ID.to_owned(), format!(r#"{{"jobId":"{ID}"}}"#)),
            (format!("{ID}:7"), format!(r#"{{"jobId":"{ID}:7"}}"#)),
            (format!("{ID}:N_TO_N"), format!(r#"{{"jobId":"{ID}","type":"N_TO_N"}}"#)),
            ("first:7".to_owned(), "expected N_TO_N or SEQUENTIAL behind the colon, found \"7\"".to_owned()),
        ] {
            assert_eq!(said(&text), want, "{text}");
        }
    }
}
