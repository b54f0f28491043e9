//! How long a job of one team takes to start while another team does its worst: many jobs, a loop of crashes, many queues, long and
//! hostile last words, sinks that never answer. What counts is the ratio to what it takes while nobody does anything.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use batchyard::crd::{BatchJob, NotificationRule, children};
use batchyard_core::job::phase::Phase;
use batchyard_core::name;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::contender::{annotations, merged, queue};
use crate::round::{CREATES, Room, Shape, furnish, remove};
use crate::support::client::{Actor, apply, connect, namespace};
use crate::support::notifier::Notifier;
use crate::support::operator::{NAME, Operator};
use crate::support::wait;

/// How often the calm team's job is started.
const TIMES: usize = 20;
/// Children of an array that crash again and again, and of the one whose pods say too much.
const LOOP: usize = 500;
const TALKERS: usize = 10_000;
/// Queues, and jobs that wait in each.
const QUEUES: usize = 1_000;
/// Rules that send everything to somebody who never answers.
const RULES: usize = 100;
/// vCPUs of the team that does its worst: what it has is not the calm team's.
const VCPUS: usize = 100;

/// How long the calm team's jobs took from their creation until their container ran, and until their status said so. A status
/// is written at most once a second, so that the second tells less.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Starts {
    meanwhile: String,
    runs: Times,
    told: Times,
}

impl Starts {
    fn of(meanwhile: String, took: &[(Duration, Duration)]) -> Self {
        let (runs, told) = took.iter().map(|(runs, told)| (runs.as_secs_f64(), told.as_secs_f64())).unzip();
        Self { meanwhile, runs: Times::of(runs), told: Times::of(told) }
    }

    fn line(&self, calm: &Self) -> String {
        let runs = self.runs.columns(&calm.runs);
        let told = self.told.columns(&calm.told);
        format!("  {:<48}{runs}{told}", self.meanwhile)
    }
}

/// How long it took, in seconds, the shortest first.
#[derive(Clone, Debug, Serialize)]
struct Times(Vec<f64>);

impl Times {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    fn longest(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }

    fn ratio(&self, calm: &Self) -> f64 {
        self.median() / calm.median()
    }

    fn columns(&self, calm: &Self) -> String {
        let [median, longest] = [self.median(), self.longest()].map(|seconds| seconds * 1_000.0);
        format!("{median:>10.0}{:>8.2}{longest:>12.0}", self.ratio(calm))
    }
}

/// The team whose jobs are measured.
struct Calm {
    user: Client,
    namespace: String,
    /// How many jobs it has had.
    jobs: usize,
}

impl Calm {
    /// Starts a job again and again, one after another.
    async fn starts(&mut self, meanwhile: impl Into<String>) -> Starts {
        let meanwhile = meanwhile.into();
        eprintln!("one job at a time, {meanwhile} …");
        let mut took = Vec::new();
        for _ in 0..TIMES {
            self.jobs += 1;
            took.push(self.start().await);
        }
        Starts::of(meanwhile, &took)
    }

    async fn start(&self) -> (Duration, Duration) {
        let api: Api<BatchJob> = Api::namespaced(self.user.clone(), &self.namespace);
        let name = format!("calm-{}", self.jobs);
        let begun = Instant::now();
        let spec = json!({"jobQueue": queue(0), "containerProperties": container()});
        let uid = create(&api, &name, spec).await.uid().expect("the API server sets it");
        let pods: Api<Pod> = Api::namespaced(self.user.clone(), &self.namespace);
        let pod = name::pod(&name, &uid, None, 1, 0);
        let runs = async {
            wait::until(&pods, &pod, "to run", has_run).await;
            begun.elapsed()
        };
        let told = async {
            wait::until(&api, &name, "to run", |job| phase(job) >= Phase::Running).await;
            begun.elapsed()
        };
        let took = tokio::join!(runs, told);
        wait::until(&api, &name, "to end", |job| phase(job) >= Phase::Succeeded).await;
        took
    }
}

/// What a team does.
struct Worst<'u> {
    /// Who makes room for it.
    user: &'u Client,
    /// Who submits: nobody whom the API server would give precedence.
    tenant: Client,
    namespace: String,
}

impl<'u> Worst<'u> {
    /// A namespace with queues, and an environment whose pods do this.
    async fn begin(user: &'u Client, queues: usize, annotations: Value) -> Self {
        let namespace = namespace(user, "worst").await;
        let shape = Shape { queues, ..Shape::default() };
        furnish(user, &namespace, shape, &Room { vcpus: VCPUS, annotations }).await;
        let group = "rbac.authorization.k8s.io";
        let (name, tenant) = ("submit", Actor::Tenant.name());
        let rule = json!({"apiGroups": ["batchyard.io"], "resources": ["batchjobs"],
            "verbs": ["create", "get", "list", "watch"]});
        let role = json!({"metadata": {"name": name}, "rules": [rule]});
        let binding = json!({"metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "User", "name": tenant, "apiGroup": group}]});
        apply(&Api::<Role>::namespaced(user.clone(), &namespace), &role).await;
        apply(&Api::<RoleBinding>::namespaced(user.clone(), &namespace), &binding).await;
        let worst = Self { user, tenant: connect(Actor::Tenant).await, namespace };
        wait::answer("the right to submit", &worst.namespace, || async {
            worst.jobs().list(&ListParams::default().limit(1)).await.ok()
        })
        .await;
        worst
    }

    fn jobs(&self) -> Api<BatchJob> {
        Api::namespaced(self.tenant.clone(), &self.namespace)
    }

    /// So many jobs, [`CREATES`] at a time.
    async fn submit(&self, count: usize, job: impl Fn(usize) -> Value) {
        let (api, job) = (&self.jobs(), &job);
        let creates = stream::iter(0..count);
        creates
            .for_each_concurrent(CREATES, |number| async move {
                create(api, &format!("worst-{number}"), job(number)).await;
            })
            .await;
    }

    /// Waits until a job has got so far.
    async fn reaches(&self, name: &str, what: &str, done: impl Fn(&BatchJob) -> bool) {
        wait::until(&self.jobs(), name, what, done).await;
    }

    async fn end(self) {
        // What runs would hold up the namespace, and what it has is of no interest.
        remove(self.user, &self.namespace).await;
    }
}

/// Measures one thing after another, each by itself: `crowd` is how many jobs wait in one of them.
pub(crate) async fn play(crowd: usize) -> Vec<Starts> {
    let user = connect(Actor::User).await;
    let operator = Operator::start(NAME);
    operator.leads().await;
    let calm = namespace(&user, "calm").await;
    let room = Room { vcpus: VCPUS, annotations: annotations() };
    furnish(&user, &calm, Shape { queues: 1, ..Shape::default() }, &room).await;
    let mut calm = Calm { user: user.clone(), namespace: calm, jobs: 0 };
    // Connections and caches are there before anything is measured.
    calm.starts("to begin with").await;
    let mut all = vec![calm.starts("nobody does anything").await];
    all.push(sinks(&user, &mut calm).await);
    all.push(queues(&user, &mut calm).await);
    all.push(crashes(&user, &mut calm).await);
    all.push(talkers(&user, &mut calm).await);
    all.extend(many(&user, &mut calm, crowd).await);
    operator.stop().await;
    all
}

/// Everything that happens is sent to a hundred sinks that take it and never answer.
async fn sinks(user: &Client, calm: &mut Calm) -> Starts {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let url = format!("http://{}/", silent.local_addr().expect("a bound socket has an address"));
    let notifier = Notifier::start().await;
    let api: Api<NotificationRule> = Api::namespaced(user.clone(), &calm.namespace);
    let phases = ["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"];
    for number in 0..RULES {
        let spec = json!({"phases": phases, "http": {"url": url}});
        apply(&api, &json!({"metadata": {"name": format!("rule-{number}")}, "spec": spec})).await;
    }
    let starts = calm.starts(format!("{RULES} sinks never answer")).await;
    api.delete_collection(&Default::default(), &Default::default()).await.expect("rules can be deleted");
    notifier.stop().await;
    starts
}

/// A thousand queues over one full environment.
async fn queues(user: &Client, calm: &mut Calm) -> Starts {
    // Nothing in there ends by itself.
    let worst = Worst::begin(user, QUEUES, json!({})).await;
    worst.submit(QUEUES, |number| plain(&queue(number))).await;
    let last = format!("worst-{}", QUEUES - 1);
    worst.reaches(&last, "a place in its queue", |job| phase(job) >= Phase::Runnable).await;
    let starts = calm.starts(format!("{QUEUES} queues with a job in each")).await;
    worst.end().await;
    starts
}

/// Children that fail at once and are tried ten times.
async fn crashes(user: &Client, calm: &mut Calm) -> Starts {
    let more = json!({"arrayProperties": {"size": LOOP}, "retryStrategy": {"attempts": 10}});
    let meanwhile = format!("{LOOP} children fail and are tried again");
    while_children_fail(user, calm, meanwhile, json!({}), more).await
}

/// Children with as much to say at their end as a container may, none of it meant well.
async fn talkers(user: &Client, calm: &mut Calm) -> Starts {
    let words = "\u{1b}[2J{{ .Values }} ${HOME} \" } ] \\ password=canary \u{202e}\r\n".repeat(36);
    let more = json!({"arrayProperties": {"size": TALKERS}});
    let meanwhile = format!("{TALKERS} children fail with long last words");
    while_children_fail(user, calm, meanwhile, json!({"kwok.batchyard.io/last-words": words}), more).await
}

/// An array all of whose children fail, with these annotations of its pods and these members more.
async fn while_children_fail(
    user: &Client,
    calm: &mut Calm,
    meanwhile: String,
    mut annotations: Value,
    more: Value,
) -> Starts {
    annotations["kwok.batchyard.io/exit-code"] = json!("1");
    let worst = Worst::begin(user, 1, annotations).await;
    worst.submit(1, |_| merged(plain(&queue(0)), &more)).await;
    worst.reaches("worst-0", "children that run", has_begun).await;
    let starts = calm.starts(meanwhile).await;
    let array = worst.jobs().get("worst-0").await.expect("an array");
    assert!(phase(&array) < Phase::Succeeded, "it ended before all was measured");
    worst.end().await;
    starts
}

/// So many jobs: while they come, and when all of them wait. They go with the cluster.
async fn many(user: &Client, calm: &mut Calm, crowd: usize) -> Vec<Starts> {
    if crowd == 0 {
        return Vec::new();
    }
    let worst = Worst::begin(user, 1, json!({})).await;
    let mut come = std::pin::pin!(worst.submit(crowd, |_| plain(&queue(0))));
    let coming = tokio::select! {
        starts = calm.starts(format!("{crowd} jobs come")) => starts,
        () = &mut come => panic!("{crowd} jobs are too few to measure anything meanwhile"),
    };
    come.await;
    let last = format!("worst-{}", crowd - 1);
    worst.reaches(&last, "a place in its queue", |job| phase(job) >= Phase::Runnable).await;
    vec![coming, calm.starts(format!("{crowd} jobs wait")).await]
}

fn container() -> Value {
    json!({"image": "kwok", "vcpus": 1, "memory": 64})
}

fn plain(queue: &str) -> Value {
    json!({"jobQueue": queue, "containerProperties": container()})
}

fn phase(job: &BatchJob) -> Phase {
    job.status.as_ref().map_or(Phase::Submitted, |status| status.record.phase())
}

/// Whether children of the array have got further than to wait.
fn has_begun(job: &BatchJob) -> bool {
    let array = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    let count = |phase| array.map_or(0, |array| children::count(array, phase));
    [Phase::Starting, Phase::Running, Phase::Failed].into_iter().any(|phase| count(phase) > 0)
}

/// Whether the pod's container runs, or did.
fn has_run(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_some_and(|phase| phase != "Pending")
}

async fn create(api: &Api<BatchJob>, name: &str, spec: Value) -> BatchJob {
    let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": name}, "spec": spec});
    let job: BatchJob = serde_json::from_value(job).expect("a job");
    api.create(&PostParams::default(), &job).await.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What each took, beside the first.
pub(crate) fn comparison(all: &[Starts]) -> String {
    let columns = format!("{:>10}{:>8}{:>12}", "median ms", "ratio", "longest ms");
    let mut text = format!(
        "one job at a time, {TIMES} times: from its creation until its container runs, and until its status says so\n  \
         {:<48}{columns}{columns}\n",
        "meanwhile"
    );
    for starts in all {
        let _ = writeln!(text, "{}", starts.line(&all[0]));
    }
    text
}

/// The largest ratio.
pub(crate) fn worst(all: &[Starts]) -> f64 {
    all.iter().map(|starts| starts.runs.ratio(&all[0].runs)).fold(0.0, f64::max)
}
