//! How fast jobs are taken: as objects by the API server, and by SubmitJob of the gateway, which writes an object for each.
//! No operator runs meanwhile, so that nothing but this is measured.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use batchyard::crd::{BatchJob, JobDefinition};
use batchyard::k8s::access_key::AccessKey;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;

use crate::contender::queue;
use crate::door::{Door, SYSTEM, caller, everything, known};
use crate::round::{CREATES, Shape, furniture};
use crate::support::client::{Actor, apply, connect, namespace};
use crate::support::wait;

/// Each way has its turn so many times, so that neither has the emptier etcd.
const TURNS: usize = 2;

/// One way to submit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Submissions {
    how: &'static str,
    /// Its turns together.
    seconds: f64,
    /// How long each took, in milliseconds, the shortest first.
    milliseconds: Vec<f64>,
}

impl Submissions {
    fn new(how: &'static str) -> Self {
        Self { how, seconds: 0.0, milliseconds: Vec::new() }
    }

    fn add(&mut self, whole: Duration, each: Vec<Duration>) {
        self.seconds += whole.as_secs_f64();
        self.milliseconds.extend(each.iter().map(|one| one.as_secs_f64() * 1_000.0));
        self.milliseconds.sort_by(f64::total_cmp);
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.milliseconds.len() as f64 / self.seconds
    }

    /// So many of a thousand took no longer than this.
    fn within(&self, thousandths: usize) -> f64 {
        let last = self.milliseconds.len().saturating_sub(1);
        self.milliseconds.get(last * thousandths / 1_000).copied().unwrap_or_default()
    }
}

/// Submits so many jobs each way, [`CREATES`] at a time: as objects, and by SubmitJob.
pub(crate) async fn play(jobs: usize) -> Vec<Submissions> {
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "bench-door").await;
    apply(&Api::<Namespace>::all(user.clone()), &json!({"metadata": {"name": SYSTEM}})).await;
    let operator = furniture(&user, &namespace, Shape { queues: 1, ..Shape::default() }).await;
    let definitions: Api<JobDefinition> = Api::namespaced(user.clone(), &namespace);
    let container = json!({"image": "busybox", "command": ["true"], "resourceRequirements": [
        {"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]});
    let spec = json!({"type": "container", "containerProperties": container});
    apply(&definitions, &json!({"metadata": {"name": "program"}, "spec": spec})).await;
    wait::until(&definitions, "program", "a revision", |definition| {
        definition.status.as_ref().is_some_and(|status| status.latest_active.is_some())
    })
    .await;
    operator.stop().await;
    let door = Door::start(&["--requests-per-second", "0"], "warn").await;
    let key = caller(&user, &namespace, "bench", everything()).await;
    known(&door, &key).await;
    let (mut objects, mut calls) = (Submissions::new("BatchJob objects"), Submissions::new("SubmitJob"));
    // Connections, caches and rights are there before anything is measured.
    let warm = CREATES * 2;
    drop((create(&user, &namespace, "warm", warm).await, submit(&door, &key, "warmed", warm)));
    for turn in 0..TURNS {
        let count = jobs / TURNS;
        eprintln!("{count} BatchJobs as objects, and by SubmitJob …");
        let (whole, each) = create(&user, &namespace, &format!("object-{turn}"), count).await;
        objects.add(whole, each);
        let (whole, each) =
            tokio::task::block_in_place(|| submit(&door, &key, &format!("call-{turn}"), count));
        calls.add(whole, each);
    }
    let all: Api<BatchJob> = Api::namespaced(user.clone(), &namespace);
    let made = all.list_metadata(&Default::default()).await.expect("they can be listed").items.len();
    assert_eq!(made, 2 * (warm + jobs / TURNS * TURNS), "each submission made one job");
    vec![objects, calls]
}

/// Creates objects; how long all took, and each.
async fn create(user: &Client, namespace: &str, start: &str, count: usize) -> (Duration, Vec<Duration>) {
    let api: Api<BatchJob> = Api::namespaced(user.clone(), namespace);
    let begun = Instant::now();
    let each = stream::iter(0..count).map(|number| {
        let api = api.clone();
        let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": format!("{start}-{number}")},
            "spec": {"jobQueue": queue(0), "jobDefinition": "program"}});
        async move {
            let job: BatchJob = serde_json::from_value(job).expect("a job");
            let begun = Instant::now();
            api.create(&PostParams::default(), &job).await.unwrap_or_else(|e| panic!("{e}"));
            begun.elapsed()
        }
    });
    let each = each.buffer_unordered(CREATES).collect().await;
    (begun.elapsed(), each)
}

/// Submits by as many connections as there are creates under way.
fn submit(door: &Door, key: &AccessKey, start: &str, count: usize) -> (Duration, Vec<Duration>) {
    let begun = Instant::now();
    let each = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CREATES)
            .map(|worker| {
                scope.spawn(move || {
                    let mut connection = BufReader::new(door.connect());
                    let own = (worker..count).step_by(CREATES);
                    own.map(|number| one(door, key, &mut connection, &format!("{start}-{number}")))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it submits")).collect()
    });
    (begun.elapsed(), each)
}

/// Submits one job on a connection that stays, as SDKs do.
fn one(door: &Door, key: &AccessKey, connection: &mut BufReader<TcpStream>, name: &str) -> Duration {
    let body = json!({"jobName": name, "jobQueue": queue(0), "jobDefinition": "program"}).to_string();
    let begun = Instant::now();
    let request = door.request(key, "POST", "/v1/submitjob", &body, SystemTime::now());
    let request = request.replacen("Connection: close", "Connection: keep-alive", 1);
    connection.get_mut().write_all(request.as_bytes()).expect("it listens");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(connection.read_line(&mut head).expect("an answer") > 0, "it hung up: {head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut answer = vec![0; length.unwrap_or_else(|| panic!("no length: {head}"))];
    connection.read_exact(&mut answer).expect("an answer");
    let took = begun.elapsed();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}{}", String::from_utf8_lossy(&answer));
    took
}

/// Both ways line by line, with their ratio.
pub(crate) fn comparison(both: &[Submissions]) -> String {
    let mut text = format!(
        "submissions, {CREATES} at a time\n  {:<18}{:>9}{:>8}{:>10}{:>10}\n",
        "", "jobs/s", "ratio", "p50 ms", "p99 ms"
    );
    let Some(first) = both.first() else { return text };
    for way in both {
        let _ = writeln!(
            text,
            "  {:<18}{:>9.1}{:>8.2}{:>10.1}{:>10.1}",
            way.how,
            way.per_second(),
            way.per_second() / first.per_second(),
            way.within(500),
            way.within(990),
        );
    }
    text
}
