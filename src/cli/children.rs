//! `kubectl batch children`: a row for each child of an array, or node of a multi-node job.

use std::process::ExitCode;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::list::{phase, to_value};
use super::output::{Format, List, Output};
use super::parts::{self, Known, Named, Parts};
use super::table::{Screen, Table};
use super::{print, time};
use crate::crd::BatchJob;
use crate::crd::children::{Indexes, Part, Whole, as_job};

/// Which children, and how they are shown.
#[derive(clap::Args, Debug)]
pub(super) struct ChildrenArgs {
    /// An array or a multi-node job: a name or id, or a beginning of it. JOB:3,7-9 shows some children.
    #[arg(value_name = "JOB")]
    job: String,
    /// Only those in these phases, such as FAILED,RUNNING.
    #[arg(short, long = "phase", visible_alias = "status", value_name = "PHASE", value_delimiter = ',', value_parser = phase)]
    phases: Vec<Phase>,
    /// Only these, such as 3,7-9.
    #[arg(short, long, value_name = "INDEXES")]
    index: Option<Indexes>,
    /// Leave the headings out.
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    output: Output,
}

/// So many rows are shown at a time.
const BATCH: usize = 500;

pub(super) async fn run(args: &ChildrenArgs, cluster: &Cluster) -> Result<ExitCode> {
    let (job, parts) = wanted(args, cluster).await?;
    let known = parts::read(cluster, &job, &parts).await?;
    let parts = known.existing(&parts);
    let whole = Whole::of(&job);
    let found = parts.iter().map(|part| (part, known.record(&whole, part)));
    let found = found.filter(|(_, record)| args.phases.is_empty() || args.phases.contains(&record.phase()));
    let format = args.output.format();
    if !args.output.is_table() {
        let mut list = List::new(format);
        for (part, record) in found {
            print(&list.item(object(&job, part, record)?)?);
        }
        print(&list.end()?);
        return Error::done();
    }
    let mut table = Rows::new(Screen::stdout(), matches!(format, Format::Wide));
    if args.no_headers {
        table.0.without_headings();
    }
    let mut number = 0;
    for (part, record) in found {
        table.add(part, &record, Timestamp::now());
        number += 1;
        if number % BATCH == 0 {
            print(&table.0.show());
        }
    }
    print(&table.0.show());
    if number == 0 {
        eprintln!("None of {}.", parts.of(&job.name_any()));
    }
    Error::done()
}

/// The job, and those of its parts that are asked for by their index.
async fn wanted(args: &ChildrenArgs, cluster: &Cluster) -> Result<(BatchJob, Parts)> {
    let text = match &args.index {
        Some(indexes) => {
            let named = Named::parse(&args.job)?;
            if named.parts.is_some() {
                return Err(Error::usage("give the indexes once: behind the job or with --index"));
            }
            // Which of both it is the job itself knows.
            let job = super::find::job(cluster, named.job).await?;
            let nodes = parts::is_multi_node(&job);
            Parts { nodes, indexes: indexes.clone() }.of(&job.name_any())
        }
        None => args.job.clone(),
    };
    let (job, some) = parts::find(cluster, &text).await?;
    let parts = some.or_else(|| Parts::all(&job)).ok_or_else(|| none(&job))?;
    Ok((job, parts))
}

fn none(job: &BatchJob) -> Error {
    let name = job.name_any();
    if parts::is_array(job) || parts::is_multi_node(job) || job.status.is_none() {
        return Error::new(Kind::NotFound, format!("how many there are of {name} is not known yet"));
    }
    Error::new(Kind::NotFound, format!("{name} is neither an array nor a multi-node job"))
        .with_hint(format!("kubectl batch describe {name} tells all about it."))
}

/// A part for programs: what the API server would show of a job like it, without the spec, which is the same
/// for all.
pub(super) fn object(job: &BatchJob, part: Part, record: Record) -> Result<Value> {
    let mut value = to_value(&as_job(job, part, record))?;
    if let Some(members) = value.as_object_mut() {
        members.remove("spec");
    }
    // As AWS has it in JobDetail.
    let (member, content) = match part {
        Part::Child(index) => ("arrayProperties", json!({"index": index})),
        Part::Node(index) => ("nodeDetails", json!({"nodeIndex": index})),
    };
    value["status"][member] = content;
    Ok(value)
}

/// A part as describe shows it to programs, with the spec.
pub(super) fn whole_object(job: &BatchJob, part: Part, known: &Known) -> Result<Value> {
    let record = known.record(&Whole::of(job), part);
    let spec = to_value(&as_job(job, part, record.clone()))?["spec"].take();
    let mut value = object(job, part, record)?;
    value["spec"] = spec;
    Ok(value)
}

struct Rows(Table, bool);

impl Rows {
    fn new(screen: Screen, wide: bool) -> Self {
        let mut headings = vec!["INDEX", "PHASE", "ATTEMPT", "EXIT", "STARTED", "RAN", "NODE"];
        if wide {
            headings.extend(["ENVIRONMENT", "POD", "ID"]);
        }
        headings.push("REASON");
        Self(Table::new(screen, &headings), wide)
    }

    fn add(&mut self, part: Part, record: &Record, now: Timestamp) {
        let (current, last) = (record.current.as_ref(), record.attempts.last());
        let attempt = current.map(|current| current.attempt).or_else(|| last.map(|last| last.attempt));
        let from = if record.phase().is_terminal() || current.is_some() {
            record.started_at.or_else(|| last?.started_at)
        } else {
            None
        };
        let to = if record.phase().is_terminal() {
            last.and_then(|last| last.stopped_at).or(record.stopped_at)
        } else {
            Some(now)
        };
        let exit = last.and_then(|last| last.container.exit_code).filter(|_| current.is_none());
        let node = match current {
            Some(current) => current.node_name.clone(),
            None => last.and_then(|last| last.node_name.clone()),
        };
        let mut cells = vec![
            part.index().to_string(),
            record.phase().as_str().to_owned(),
            attempt.map(|number| number.to_string()).unwrap_or_default(),
            exit.map(|code| code.to_string()).unwrap_or_default(),
            from.map(|from| format!("{} ago", time::between(from, now))).unwrap_or_default(),
            from.zip(to).map(|(from, to)| time::between(from, to)).unwrap_or_default(),
            node.unwrap_or_default(),
        ];
        if self.1 {
            let environment = match current {
                Some(current) => current.compute_environment.clone(),
                None => last.and_then(|last| last.compute_environment.clone()),
            };
            let pod = current.map(|current| current.pod_name.clone());
            cells.push(environment.unwrap_or_default());
            cells.push(pod.or_else(|| last.map(|last| last.pod_name.clone())).unwrap_or_default());
            cells.push(record.job_id.clone().unwrap_or_default());
        }
        cells.push(reason(record));
        self.0.row(cells);
    }
}

/// Why it waits or how it ended; a container's own reason says more than that it ended.
fn reason(record: &Record) -> String {
    let last = record.attempts.last().filter(|_| record.phase() == Phase::Failed);
    let text = record.status_reason.clone().unwrap_or_default();
    match last.and_then(|last| last.container.reason.as_deref()) {
        Some(own) => format!("{text}: {own}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parts::tests::segment;
    use crate::k8s::meta;

    const NO_SCREEN: Screen = Screen { width: None, colours: false };

    fn array() -> BatchJob {
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "sweep", "namespace": "ns", "uid": "u"},
            "spec": {"jobQueue": "q", "jobDefinition": "d", "arrayProperties": {"size": 4}},
            "status": {"phase": "PENDING", "jobId": "id", "arrayProperties": {"size": 4,
                "statusSummary": {"PENDING": 1, "SUCCEEDED": 1, "FAILED": 1, "RUNNING": 1},
                "indexes": {"SUCCEEDED": "0", "FAILED": "1", "RUNNING": "2"}}}}))
        .expect("a job")
    }

    fn known(hostile: &str) -> Known {
        let attempt = |code: i32, reason: Value| {
            json!({"attempt": 1, "podName": "p", "podUid": "pu", "nodeName": "n1",
                "computeEnvironment": "ns.pool", "startedAt": "2026-11-27T00:00:00Z", "stoppedAt": "2026-11-27T00:00:07Z",
                "statusReason": "Essential container in task exited", "container": {"exitCode": code, "reason": reason}})
        };
        let children = json!([
            {"index": 0, "phase": "SUCCEEDED", "statusReason": "Essential container in task exited",
                "attempts": [attempt(0, Value::Null)]},
            {"index": 1, "phase": "FAILED", "statusReason": hostile, "stoppedAt": "2026-11-27T00:00:07Z",
                "attempts": [attempt(137, json!("OutOfMemoryError"))]},
        ]);
        let pod = json!({
            "metadata": {"name": "sweep-2-1", "uid": "x", "annotations": {
                meta::INDEX: "2", "batchyard.io/attempt": "1", "batchyard.io/placement": "0"}},
            "spec": {"nodeName": "n2", "containers": []},
            "status": {"containerStatuses": [{"name": "default", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-11-27T00:00:08Z"}}}]},
        });
        let mut known = Known::default();
        known.children.take(&array(), segment("sweep", "u", 0, children));
        known.take(&serde_json::from_value(pod).expect("a pod"));
        known
    }

    fn shown(known: &Known, screen: Screen, wide: bool) -> String {
        let now = "2026-11-27T00:00:20Z".parse().expect("a time");
        let mut rows = Rows::new(screen, wide);
        for part in Parts::all(&array()).expect("children").iter() {
            rows.add(part, &known.record(&Whole::of(&array()), part), now);
        }
        rows.0.show()
    }

    #[test]
    fn a_row_tells_how_a_child_fares() {
        assert_eq!(
            shown(&known("Essential container in task exited"), NO_SCREEN, false),
            "INDEX   PHASE       ATTEMPT   EXIT   STARTED   RAN   NODE   REASON\n\
             0       SUCCEEDED   1         0      20s ago   7s    n1     Essential container in task exited\n\
             1       FAILED      1         137    20s ago   7s    n1     Essential container in task exited: OutOfMemoryError\n\
             2       RUNNING     1         -      12s ago   12s   n2     -\n\
             3       PENDING     -         -      -         -     -      -\n"
        );
        let wide = shown(&known("x"), NO_SCREEN, true);
        assert!(wide.contains("ENVIRONMENT   POD         ID"), "{wide}");
        assert!(wide.contains("ns.pool") && wide.contains("id:3"), "{wide}");
    }

    #[test]
    fn what_comes_from_outside_cannot_move_the_cursor() {
        let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nFAKE   SUCCEEDED \u{9b}1A";
        for screen in [NO_SCREEN, Screen { width: Some(80), colours: false }] {
            let text = shown(&known(hostile), screen, true);
            assert_eq!(text.lines().count(), 5, "{text:?}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
    }

    #[test]
    fn programs_see_a_child_like_a_job() {
        let known = known("why");
        let part = Part::Child(1);
        let brief = object(&array(), part, known.record(&Whole::of(&array()), part)).expect("an object");
        assert_eq!(brief["kind"], "BatchJob");
        assert_eq!(brief["metadata"], json!({"name": "sweep:1", "namespace": "ns"}));
        assert_eq!(brief["status"]["phase"], "FAILED");
        assert_eq!(brief["status"]["jobId"], "id:1");
        assert_eq!(brief["status"]["arrayProperties"], json!({"index": 1}));
        assert_eq!(brief.get("spec"), None);
        let whole = whole_object(&array(), part, &known).expect("an object");
        assert_eq!(whole["spec"]["jobDefinition"], "d");
        let node =
            object(&array(), Part::Node(1), known.record(&Whole::of(&array()), part)).expect("an object");
        assert_eq!(node["status"]["nodeDetails"], json!({"nodeIndex": 1}));
    }

    #[test]
    fn ten_thousand_children_are_ten_thousand_rows() {
        let children: Vec<Value> = (0..10_000)
            .map(|index| json!({"index": index, "phase": "SUCCEEDED", "statusReason": "r", "attempts": [
                {"attempt": 1, "podName": "p", "podUid": "pu", "statusReason": "r", "container": {"exitCode": 0}}]}))
            .collect();
        let mut known = Known::default();
        for (number, some) in children.chunks(128).enumerate() {
            known.children.take(&array(), segment("sweep", "u", number, json!(some)));
        }
        let mut rows = Rows::new(NO_SCREEN, false);
        let job = array();
        let whole = Whole::of(&job);
        (0..10_000).for_each(|index| {
            rows.add(Part::Child(index), &known.record(&whole, Part::Child(index)), Timestamp::UNIX_EPOCH)
        });
        assert_eq!(rows.0.show().lines().count(), 10_001);
    }
}
