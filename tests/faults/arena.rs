//! Where stories are played: an operator behind a proxy, a robot, an observer.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue};
use batchyard::k8s::watch::key;
use batchyard_core::job::record::Record;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::proxy::{Fault, Proxy};
use crate::robot::Robot;
use crate::stories::{self, Act, Story};
use crate::support::client::{self, Actor, TEST_LABEL, apply, namespace};
use crate::support::nodes::{self, POOL};
use crate::support::operator::{self, Exclusive, Operator};
use crate::support::{audit, wait};

/// Long, so that a machine that is busy with other things takes no lease away.
const LEASE_SECONDS: usize = 60;

/// How many stories are played at once.
const AT_ONCE: usize = 12;

/// An operator, replaced by a new one when it is killed.
pub(crate) struct Supervisor {
    kubeconfig: PathBuf,
    current: Mutex<Option<Operator>>,
    kills: AtomicUsize,
    lease_seconds: AtomicUsize,
    bug: Mutex<Option<&'static str>>,
}

impl Supervisor {
    fn new(kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            current: Mutex::default(),
            kills: AtomicUsize::new(0),
            lease_seconds: AtomicUsize::new(LEASE_SECONDS),
            bug: Mutex::default(),
        }
    }

    /// The operator that runs now.
    pub(crate) fn current(&self) -> MutexGuard<'_, Option<Operator>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one.
    pub(crate) fn start(&self) {
        let lease = self.lease_seconds.load(Ordering::Relaxed).to_string();
        let bug = *self.bug.lock().unwrap_or_else(PoisonError::into_inner);
        let arguments: Vec<&str> = bug.iter().flat_map(|bug| ["--seeded-bug", *bug]).collect();
        *self.current() = Some(Operator::start_at(&self.kubeconfig, operator::NAME, &lease, &arguments));
    }

    /// Gives the next operators a bug, or none.
    pub(crate) fn seed(&self, bug: Option<&'static str>) {
        *self.bug.lock().unwrap_or_else(PoisonError::into_inner) = bug;
    }

    /// How long the lease of the next operator holds.
    pub(crate) fn set_lease_seconds(&self, seconds: usize) {
        self.lease_seconds.store(seconds, Ordering::Relaxed);
    }

    /// Kills it without warning.
    pub(crate) fn kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        if let Some(operator) = self.current().take() {
            operator.kill();
        }
    }

    /// Kills it, and starts another in its place.
    pub(crate) fn restart(&self) {
        self.kill();
        self.start();
    }

    /// Starts one if the last one ended by itself.
    pub(crate) fn revive(&self) {
        let dead = self.current().as_mut().is_none_or(|operator| !operator.is_alive());
        if dead {
            self.start();
        }
    }

    /// How often one was killed.
    pub(crate) fn kills(&self) -> usize {
        self.kills.load(Ordering::Relaxed)
    }
}

/// What becomes of a story undisturbed.
#[derive(Debug)]
pub(crate) struct Told {
    /// What is the same however often it is played.
    pub(crate) essence: Vec<String>,
    /// How many writes of the operator it takes.
    pub(crate) writes: usize,
}

/// All stories undisturbed, played once for all tests.
pub(crate) async fn undisturbed() -> &'static BTreeMap<&'static str, Told> {
    static TOLD: OnceCell<BTreeMap<&'static str, Told>> = OnceCell::const_new();
    let play = || async {
        let arena = Arena::begin("undisturbed").await;
        arena.supervisor.start();
        arena.leads().await;
        let outcomes = arena.play(stories::all(), |_, _| {}).await;
        let otherwise: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.otherwise).collect();
        assert!(otherwise.is_empty(), "{otherwise:#?}");
        let seen = arena.proxy.seen();
        let writes = |outcome: &Outcome| {
            seen.iter().filter(|(asked, _)| asked.is_write() && asked.namespace == outcome.namespace).count()
        };
        let told = outcomes.iter().map(|outcome| {
            (outcome.story, Told { writes: writes(outcome), essence: outcome.essence.clone() })
        });
        let told = told.collect();
        arena.close_in_peace().await;
        told
    };
    TOLD.get_or_init(play).await
}

/// Everything that one test has for itself.
pub(crate) struct Arena {
    /// How its namespaces begin.
    pub(crate) prefix: String,
    pub(crate) proxy: Proxy,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) user: Client,
    /// Nothing more will be played.
    over: AtomicBool,
    observer: Option<Observer>,
    robot: Option<Robot>,
    _exclusive: Exclusive,
}

/// What became of a story.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) story: &'static str,
    pub(crate) namespace: String,
    /// What is the same however often it is played.
    pub(crate) essence: Vec<String>,
    /// Jobs that ended otherwise than the story says.
    otherwise: Vec<String>,
}

impl Arena {
    /// Starts everything but the operator.
    pub(crate) async fn open(name: &str) -> Self {
        // Before this arena is there: all arenas need the operator for themselves.
        undisturbed().await;
        Self::begin(name).await
    }

    async fn begin(name: &str) -> Self {
        let mut arena = Self::bare(name).await;
        for node in ["a", "b"] {
            let name = format!("{}-{node}", arena.prefix);
            nodes::make(&arena.user, &name, &arena.prefix, 64).await;
        }
        arena.robot = Some(Robot::start(&arena.prefix).await);
        arena
    }

    /// Without nodes, and without anybody who plays kubelet.
    pub(crate) async fn bare(name: &str) -> Self {
        let exclusive = operator::exclusive().await;
        let user = client::connect(Actor::User).await;
        // A name of its own for each run on a cluster that stays.
        let prefix = format!("{name}-{:x}", jiff::Timestamp::now().as_millisecond() & 0xf_ffff);
        let proxy = Proxy::start(client::connect(Actor::Operator).await).await;
        let supervisor = Arc::new(Supervisor::new(proxy.kubeconfig()));
        let weak = Arc::downgrade(&supervisor);
        proxy.on_kill(move || {
            if let Some(supervisor) = weak.upgrade() {
                supervisor.restart();
            }
        });
        let observer = Some(Observer::start(&prefix));
        Self {
            prefix,
            proxy,
            supervisor,
            user,
            over: AtomicBool::new(false),
            observer,
            robot: None,
            _exclusive: exclusive,
        }
    }

    /// The same, with an operator that leads.
    pub(crate) async fn with_operator(name: &str) -> Self {
        let arena = Self::open(name).await;
        arena.supervisor.start();
        arena.leads().await;
        arena
    }

    /// Waits until the operator leads and its caches are complete.
    pub(crate) async fn leads(&self) {
        wait::answer("an operator that leads", "", || async {
            let operator = self.supervisor.current();
            let operator = operator.as_ref()?;
            let leader = operator.metrics()?.lines().any(|line| line == "batchyard_leader 1");
            (leader && operator.is_ready()).then_some(())
        })
        .await;
    }

    /// Plays stories, some at a time. `before` hears of each namespace before anything is in it.
    pub(crate) async fn play(
        &self,
        stories: impl IntoIterator<Item = Story>,
        before: impl Fn(usize, &str),
    ) -> Vec<Outcome> {
        let played = stories.into_iter().enumerate().map(|(number, story)| {
            let before = &before;
            async move {
                let namespace = namespace(&self.user, &format!("{}-{}", self.prefix, story.name)).await;
                before(number, &namespace);
                self.play_in(&namespace, &story).await
            }
        });
        stream::iter(played).buffered(AT_ONCE).collect().await
    }

    /// Plays some stories, however they end.
    pub(crate) async fn play_without_care(&self, stories: impl IntoIterator<Item = Story>) -> Vec<Outcome> {
        self.play(stories, |_, _| {}).await
    }

    /// Plays all stories; they end as they do undisturbed.
    pub(crate) async fn play_as_undisturbed(&self) {
        self.play_these_as_undisturbed(stories::all()).await;
    }

    /// Plays some stories; they end as they do undisturbed.
    pub(crate) async fn play_these_as_undisturbed(&self, stories: impl IntoIterator<Item = Story>) {
        let expected = undisturbed().await;
        let outcomes = self.play(stories, |_, _| {}).await;
        self.over.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            let Told { essence, .. } = &expected[outcome.story];
            assert_eq!(outcome.essence, *essence, "{} in {}", outcome.story, outcome.namespace);
        }
    }

    /// Waits until the operator has asked for so many more writes, or nothing more is played.
    pub(crate) async fn moves_on(&self, writes: u64) {
        let goal = self.proxy.writes() + writes;
        wait::answer("an operator that gets on", &self.prefix, || {
            let there = self.proxy.writes() >= goal || self.over.load(Ordering::Relaxed);
            std::future::ready(there.then_some(()))
        })
        .await;
    }

    /// Waits until there are so many pods that nobody has counted, or nothing more is played.
    pub(crate) async fn has_pods(&self, pods: usize) {
        self.has_uncounted(pods, |_| true).await;
    }

    /// Waits until so many pods have ended that nobody has counted, or nothing more is played.
    pub(crate) async fn pods_end_unseen(&self, pods: usize) {
        self.has_uncounted(pods, |phase| matches!(phase, "Succeeded" | "Failed")).await;
    }

    async fn has_uncounted(&self, pods: usize, is_meant: impl Fn(&str) -> bool) {
        let api: Api<Pod> = Api::all(self.user.clone());
        let is_meant = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let is_ours = pod.namespace().is_some_and(|name| name.starts_with(&self.prefix));
            is_ours && !pod.finalizers().is_empty() && is_meant(phase.unwrap_or_default())
        };
        wait::answer("pods that nobody has counted", &self.prefix, || async {
            let list = api.list(&ListParams::default()).await.ok()?;
            let there = list.items.iter().filter(is_meant).count() >= pods;
            (there || self.over.load(Ordering::Relaxed)).then_some(())
        })
        .await;
    }

    async fn play_in(&self, namespace: &str, story: &Story) -> Outcome {
        let stage = Stage { user: &self.user, prefix: &self.prefix, namespace };
        stage.furnish(story).await;
        let mut spec = story.job.clone();
        spec["jobQueue"] = json!("queue");
        let jobs = stage.api::<BatchJob>();
        let names: Vec<String> =
            (0..story.copies).map(|n| if n == 0 { "job".to_owned() } else { format!("job-{n}") }).collect();
        for name in &names {
            apply(&jobs, &json!({"metadata": {"name": name}, "spec": spec})).await;
        }
        if let Some((when, act)) = story.act {
            stage.wait_for(when).await;
            stage.act(act).await;
        }
        let (mut essence, mut otherwise) = (Vec::new(), Vec::new());
        match story.ends {
            Some(ends) => {
                for name in &names {
                    let record = stage.ended(name).await;
                    if (record.phase().as_str(), record.attempts.len()) != ends {
                        otherwise.push(format!("{namespace}/{name}: {record:#?}"));
                    }
                    essence.extend(stage.essence(&record));
                }
            }
            None => wait::gone(&jobs, "job").await,
        }
        stage.is_released(story.ends.is_none()).await;
        if story.takes_nodes {
            nodes::remove(&self.user, namespace).await;
        }
        Outcome { story: story.name, namespace: namespace.to_owned(), essence, otherwise }
    }

    /// Hears the observer, removes everything, and checks that nothing is left.
    pub(crate) async fn close(mut self) -> Report {
        let report = self.observer.take().expect("it watches until now").report();
        self.clear().await;
        report
    }

    /// The same, and no promise may be broken. Tells what there was, however the rest goes.
    pub(crate) async fn close_in_peace(mut self) {
        let (prefix, kills) = (self.prefix.clone(), self.supervisor.kills());
        let faults = self.proxy.seen().iter().filter(|(_, fault)| *fault != Fault::None).count();
        let Report { versions, jobs, attempts, pods, violations } =
            self.observer.take().expect("it watches until now").report();
        println!(
            "{prefix}: {faults} faults, {kills} kills; the observer saw {versions} versions of {jobs} jobs with \
             {attempts} attempts and {pods} pods, and {} violations",
            violations.len()
        );
        assert!(violations.is_empty(), "promises were broken:\n{violations:#?}");
        self.clear().await;
    }

    async fn clear(self) {
        self.proxy.plan_nothing();
        self.supervisor.revive();
        self.remove().await;
        let operator = self.supervisor.current().take();
        if let Some(operator) = operator {
            operator.stop().await;
        }
    }

    async fn remove(&self) {
        let namespaces: Api<Namespace> = Api::all(self.user.clone());
        let environments: Api<ComputeEnvironment> = Api::all(self.user.clone());
        for namespace in namespaces.list(&ListParams::default().labels(TEST_LABEL)).await.expect("a list") {
            if namespace.name_any().starts_with(&self.prefix) {
                let _ = namespaces.delete(&namespace.name_any(), &DeleteParams::default()).await;
            }
        }
        for environment in environments.list(&ListParams::default()).await.expect("a list") {
            if environment.name_any().starts_with(&self.prefix) {
                let _ = environments.delete(&environment.name_any(), &DeleteParams::default()).await;
            }
        }
        let (mut left, mut tries) = (self.left().await, 0);
        // Kubernetes deletes the Events of a namespace before our objects: of 100,000 pods for minutes.
        while !left.is_empty() && tries < 3 {
            (left, tries) = (wait::none(|| self.left()).await, tries + 1);
        }
        assert!(left.is_empty(), "left: {left:#?}\n{}", operator::last_words(&self.prefix));
        nodes::remove(&self.user, &self.prefix).await;
    }

    /// The pods, jobs, queues and environments that are still there, or why that is not known.
    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(self.left_of::<Pod>().await);
        left.extend(self.left_of::<BatchJob>().await);
        left.extend(self.left_of::<JobQueue>().await);
        left.extend(self.left_of::<ComputeEnvironment>().await);
        left
    }

    async fn left_of<K>(&self) -> Vec<String>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let kind = K::kind(&());
        match Api::<K>::all(self.user.clone()).list_metadata(&ListParams::default()).await {
            Err(error) => vec![format!("{kind}s cannot be listed: {error}")],
            Ok(found) => {
                let ours = found.items.iter().filter(|object| key(*object).starts_with(&self.prefix));
                ours.map(|o| format!("{kind} {}, held by {:?}", key(o), o.finalizers())).collect()
            }
        }
    }
}

/// One story's namespace.
struct Stage<'a> {
    user: &'a Client,
    prefix: &'a str,
    namespace: &'a str,
}

impl Stage<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.user.clone(), self.namespace)
    }

    /// An environment and a queue, and two nodes if the story takes one away.
    async fn furnish(&self, story: &Story) {
        if story.takes_nodes {
            for node in ["a", "b"] {
                nodes::make(self.user, &format!("{}-{node}", self.namespace), self.namespace, 4).await;
            }
        }
        let pool = if story.takes_nodes { self.namespace } else { self.prefix };
        let spec = json!({
            "type": "MANAGED",
            "computeResources": {"type": "EC2", "maxvCpus": 2},
            "provisioner": {"static": {"nodeSelector": {POOL: pool}}},
        });
        let environment = json!({
            "metadata": {"name": format!("{}.pool", self.namespace), "labels": {TEST_LABEL: "true"}},
            "spec": spec,
        });
        apply(&Api::<ComputeEnvironment>::all(self.user.clone()), &environment).await;
        if let Some(definition) = &story.definition {
            let object = json!({"metadata": {"name": "definition"}, "spec": definition});
            apply(&self.api::<JobDefinition>(), &object).await;
        }
        if !matches!(story.act, Some((_, Act::MakeQueue))) {
            self.make_queue().await;
        }
    }

    async fn make_queue(&self) {
        let order = json!([{"order": 1, "computeEnvironment": "pool"}]);
        let queue =
            json!({"metadata": {"name": "queue"}, "spec": {"priority": 1, "computeEnvironmentOrder": order}});
        apply(&self.api::<JobQueue>(), &queue).await;
    }

    async fn wait_for(&self, when: stories::When) {
        let (jobs, pods) = (self.api::<BatchJob>(), self.api::<Pod>());
        wait::answer(&format!("{when:?}"), self.namespace, || async {
            let job = jobs.get("job").await.ok()?;
            let pods = pods.list(&ListParams::default()).await.ok()?;
            let unbound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
            when.is_now(&job, pods.items.iter().any(unbound)).then_some(())
        })
        .await;
    }

    async fn act(&self, act: Act) {
        let merge = |patch| Patch::Merge(patch);
        let params = PatchParams::default();
        let (jobs, queues) = (self.api::<BatchJob>(), self.api::<JobQueue>());
        match act {
            Act::Cancel | Act::Terminate => {
                let member = if matches!(act, Act::Cancel) { "cancel" } else { "terminate" };
                let patch = json!({"spec": {member: "no longer wanted"}});
                jobs.patch("job", &params, &merge(patch)).await.expect("a job takes orders");
            }
            Act::DeleteJob => {
                jobs.delete("job", &DeleteParams::default()).await.expect("a job can be deleted");
            }
            Act::EditDefinition => {
                let patch = json!({"spec": {"containerProperties": {"memory": 128}}});
                let definitions = self.api::<JobDefinition>();
                definitions.patch("definition", &params, &merge(patch)).await.expect("a definition changes");
                wait::until(&definitions, "definition", "a second revision", |definition| {
                    definition.status.as_ref().is_some_and(|status| status.latest_active == Some(2))
                })
                .await;
            }
            Act::DisableQueue => {
                let patch = json!({"spec": {"state": "DISABLED"}});
                queues.patch("queue", &params, &merge(patch)).await.expect("a queue can be disabled");
            }
            Act::DeleteQueue => {
                let patch = json!({"metadata": {"annotations": {"batchyard.io/delete-jobs": "true"}}});
                queues.patch("queue", &params, &merge(patch)).await.expect("a queue takes annotations");
                queues.delete("queue", &DeleteParams::default()).await.expect("a queue can be deleted");
            }
            Act::MakeQueue => self.make_queue().await,
        }
    }

    /// Waits for a job's end.
    async fn ended(&self, name: &str) -> Record {
        let job = wait::until(&self.api::<BatchJob>(), name, "its end", |job| {
            job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal())
        })
        .await;
        job.status.unwrap_or_default().record
    }

    /// What of a record does not depend on when and where.
    fn essence(&self, record: &Record) -> Vec<String> {
        let instance = |text: &str| {
            let text = text.replace(self.namespace, "…").replace(self.prefix, "…");
            text.replace("…-b", "…-a")
        };
        let mut lines = vec![format!(
            "{:?} {:?} terminated {:?} cancelled {:?} definition {:?}",
            record.phase(),
            record.status_reason.as_deref().map(instance),
            record.is_terminated,
            record.is_cancelled,
            record.job_definition,
        )];
        lines.extend(record.attempts.iter().map(|attempt| {
            let rule = attempt.decision.as_ref().map(|decision| decision.rule.as_str());
            let (code, why) = (attempt.container.exit_code, instance(&attempt.status_reason));
            format!("{} {code:?} {why} {rule:?}", attempt.attempt)
        }));
        lines
    }

    /// Waits until no pod is held, or none is there at all.
    async fn is_released(&self, gone: bool) {
        wait::answer("the release of all pods", self.namespace, || async {
            let pods = self.api::<Pod>().list(&ListParams::default()).await.ok()?;
            let held = pods.items.iter().any(|pod| gone || !pod.finalizers().is_empty());
            (!held).then_some(())
        })
        .await;
    }
}

/// The observer's process.
struct Observer {
    process: Child,
    output: BufReader<ChildStdout>,
}

/// What the observer saw.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    versions: usize,
    jobs: usize,
    attempts: usize,
    pods: usize,
    pub(crate) violations: Vec<serde_json::Value>,
}

impl Observer {
    fn start(namespaces: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
        command.arg("--kubeconfig").arg(client::kubeconfig()).args(["--namespaces", namespaces]);
        if let Some(log) = audit::path() {
            command.arg("--audit-log").arg(log);
        }
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the observer starts");
        let mut output = BufReader::new(process.stdout.take().expect("it has an output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says when it begins");
        assert_eq!(line, "watching\n");
        Self { process, output }
    }

    fn report(mut self) -> Report {
        // Its input ends, and so does its watch.
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("it tells what it saw");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "the observer ended with {status}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
