//! Tests with real containers on real nodes: `cargo xtask test nodes`.
//!
//! Each case has a namespace of its own, in which the files of `examples/retry` are applied. To add
//! one, add a line to a table: most cases are a job and how it ends. Cases that take nodes or the
//! operator away have the cluster for themselves; all others share it.

mod absences;
mod arrays;
mod changes;
mod cloudwatch;
mod cluster;
mod containers;
mod definitions;
mod door;
mod ends;
mod exits;
mod faults;
mod followed;
mod gangs;
mod gpus;
mod inject;
mod logging;
mod logs;
mod notifications;
mod operator;
mod orders;
mod pods;
mod posts;
mod programs;
mod registry;
mod removal;
mod routes;
mod scenario;
mod seen;
mod sessions;
#[path = "../logging/receiver.rs"]
#[expect(dead_code, reason = "datagrams come to loopback only")]
mod sink;
mod starts;
#[path = "../support/mod.rs"]
mod support;
mod view;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use xtask::process::on_path;

use crate::cluster::TestCluster;
use crate::ends::Ends;
use crate::scenario::Scenario;

/// How long a case may take, with all its waits.
const CASE: Duration = Duration::from_secs(300);

/// How many cases run at once; they mostly wait. More jobs than fit the nodes wait their turn.
const AT_ONCE: usize = 8;

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
type Story = Box<dyn for<'a> Fn(&'a Scenario<'a>) -> Outcome<'a> + Send + Sync>;

/// Something that is tried.
pub(crate) struct Case {
    name: &'static str,
    story: Story,
    /// Takes nodes or the operator away, which no other case may notice.
    alone: bool,
    /// Looks into nodes, which only works where they are processes of this machine.
    local_only: bool,
    /// The environment variable that names a part which cannot be had everywhere.
    part: Option<&'static str>,
    /// Programs of this machine that it runs.
    needs: &'static [&'static str],
}

impl Case {
    /// A job that is submitted, and how it ends.
    pub(crate) fn job(name: &'static str, spec: Value, ends: Ends) -> Self {
        Self::story(name, move |scenario| {
            let (spec, ends) = (spec.clone(), ends.clone());
            Box::pin(async move {
                scenario.submit("job", spec).await;
                scenario.ends("job", &ends).await?;
                Ok(())
            })
        })
    }

    /// Anything else.
    pub(crate) fn story(
        name: &'static str,
        story: impl for<'a> Fn(&'a Scenario<'a>) -> Outcome<'a> + Send + Sync + 'static,
    ) -> Self {
        let (alone, local_only, part) = (false, false, None);
        Self { name, story: Box::new(story), alone, local_only, part, needs: &[] }
    }

    /// It takes nodes or the operator away.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// It looks into nodes.
    pub(crate) fn local_only(self) -> Self {
        Self { local_only: true, ..self }
    }

    /// It needs a part that this environment variable names; what is beside the cluster runs on this machine.
    pub(crate) fn needs_part(self, variable: &'static str) -> Self {
        Self { part: Some(variable), local_only: true, ..self }
    }

    /// It runs programs that are not on every machine.
    pub(crate) fn needs(self, needs: &'static [&'static str]) -> Self {
        Self { needs, ..self }
    }

    async fn run(&self, cluster: &TestCluster) -> Result<()> {
        if self.alone {
            let _alone = cluster.calm.write().await;
            let outcome = self.run_on(cluster).await;
            // Whatever happened, the next case finds the nodes as they were.
            outcome.and(cluster.restore().await)
        } else {
            let _together = cluster.calm.read().await;
            self.run_on(cluster).await
        }
    }

    async fn run_on(&self, cluster: &TestCluster) -> Result<()> {
        let begun = Instant::now();
        let outcome = self.tell(cluster).await;
        eprintln!("{} took {:.1} s", self.name, begun.elapsed().as_secs_f32());
        if let Err(error) = &outcome {
            // All of it is told at the end.
            eprintln!("{} failed: {}", self.name, error.root_cause());
        }
        outcome
    }

    async fn tell(&self, cluster: &TestCluster) -> Result<()> {
        let scenario = Scenario::begin(cluster, self.name).await?;
        let told = timeout(CASE, (self.story)(&scenario)).await;
        let told = told.unwrap_or_else(|_| Err(anyhow!("the case took longer than {} s", CASE.as_secs())));
        let outcome = match told {
            // Nodes come back first: what was on them must go, too.
            Ok(()) => match cluster.restore().await {
                Ok(()) => scenario.leaves_nothing().await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let last_words = scenario.last_words().await;
            // The namespace is removed by the next run if it cannot be now.
            let _ = scenario.remove().await;
            return Err(error.context(last_words));
        }
        Ok(())
    }
}

fn trial(case: Case, runtime: &Arc<Runtime>, cluster: &Arc<TestCluster>) -> Trial {
    let (runtime, cluster) = (Arc::clone(runtime), Arc::clone(cluster));
    Trial::ignorable_test(case.name, move || {
        if case.local_only && !cluster.is_local() {
            return Ok(Completion::ignored_with("nodes of this provider cannot be looked into"));
        }
        if let Some(variable) = case.part.filter(|variable| std::env::var_os(variable).is_none()) {
            return Ok(Completion::ignored_with(format!("{variable} names nothing")));
        }
        if let Some(missing) = case.needs.iter().find(|program| !on_path(program)) {
            return Ok(Completion::ignored_with(format!("there is no {missing} on this machine")));
        }
        let outcome = runtime.block_on(case.run(&cluster));
        // The error's outermost layer is what was seen; what went wrong stands below it.
        outcome.map(|()| Completion::Completed).map_err(|error| {
            let layers: Vec<String> = error.chain().map(ToString::to_string).collect();
            Failed::from(layers.join("\n\nwhat went wrong: "))
        })
    })
}

/// The longest first, then what is short, and at last what everybody has to wait for.
fn all() -> Vec<Case> {
    let shared = [
        starts::cases(),
        orders::cases(),
        changes::cases(),
        pods::cases(),
        definitions::cases(),
        logs::cases(),
        logging::cases(),
        followed::cases(),
        containers::cases(),
        gangs::cases(),
        gpus::cases(),
        sessions::cases(),
        arrays::cases(),
        exits::cases(),
    ];
    let alone = [
        faults::cases(),
        gangs::alone(),
        arrays::alone(),
        absences::cases(),
        view::cases(),
        logging::alone(),
        routes::cases(),
        notifications::cases(),
        cloudwatch::cases(),
        posts::cases(),
        removal::cases(),
    ];
    shared.into_iter().chain(alone).flatten().collect()
}

fn run() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let cases: Vec<Case> = all();
    if arguments.list {
        let names = cases.into_iter().map(|case| Trial::test(case.name, || Ok(())));
        return Ok(libtest_mimic::run(&arguments, names.collect()).exit_code());
    }
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = Arc::new(Runtime::new().context("no runtime")?);
    let cluster = Arc::new(runtime.block_on(TestCluster::prepare())?);
    let trials = cases.into_iter().map(|case| trial(case, &runtime, &cluster)).collect();
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
