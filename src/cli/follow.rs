//! Follows a job, or a child or a node that is no object, until something is true of it.

use futures::StreamExt as _;
use futures::stream::{BoxStream, select_all};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};

use batchyard_core::job::record::Record;

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::parts::{Known, pods_of, records_of};
use crate::crd::children::{Indexes, Part, Whole};
use crate::crd::{BatchJob, BatchJobRecord};

/// A job, or a part of one, that is followed.
pub(super) enum Followed {
    /// A job of its own.
    Job(Box<JobWatch>),
    /// A child or a node.
    Part(Box<PartWatch>),
}

/// A job that is an object.
pub(super) struct JobWatch {
    jobs: Api<BatchJob>,
    name: String,
}

/// What is seen of a part: its job, the job's records, its pods.
pub(super) struct PartWatch {
    name: String,
    part: Part,
    /// The job as it was at first: whose the records are.
    owner: BatchJob,
    job: Option<BatchJob>,
    known: Known,
    seen: BoxStream<'static, std::result::Result<Seen, watcher::Error>>,
    /// Which of the three have been listed whole.
    listed: [bool; 3],
}

enum Seen {
    Job(Box<Event<BatchJob>>),
    Record(Box<Event<BatchJobRecord>>),
    Pod(Box<Event<Pod>>),
}

impl Followed {
    /// A job, or a part of it.
    pub(super) fn new(cluster: &Cluster, job: &BatchJob, part: Option<Part>) -> Self {
        match part {
            None => Self::Job(Box::new(JobWatch { jobs: cluster.api(), name: job.name_any() })),
            Some(part) => Self::Part(Box::new(PartWatch::new(cluster, job, part))),
        }
    }

    /// What is recorded once this is true of it.
    ///
    /// # Errors
    /// When it is deleted meanwhile, or may not be seen.
    pub(super) async fn until(&mut self, is_so: impl Fn(&Record) -> bool) -> Result<Record> {
        match self {
            Self::Job(job) => {
                let JobWatch { jobs, name } = job.as_ref();
                let record = |job: &BatchJob| {
                    job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default()
                };
                let is_so = |job: Option<&BatchJob>| job.is_none_or(|job| is_so(&record(job)));
                let job = await_condition(jobs.clone(), name, is_so).await.map_err(lost)?;
                job.as_ref().map(record).ok_or_else(|| deleted(name))
            }
            Self::Part(part) => part.until(is_so).await,
        }
    }
}

impl PartWatch {
    fn new(cluster: &Cluster, job: &BatchJob, part: Part) -> Self {
        let name = job.name_any();
        let of_job = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let of_records = watcher::Config::default().labels(&records_of(job)).page_size(50);
        let of_pods = watcher::Config::default().labels(&pods_of(job, Some(part)));
        let jobs = watch(cluster.api::<BatchJob>(), of_job).default_backoff();
        let records = watch(cluster.api::<BatchJobRecord>(), of_records).default_backoff();
        let pods = watch(cluster.api::<Pod>(), of_pods).default_backoff();
        let seen = select_all([
            jobs.map(|event| event.map(|event| Seen::Job(Box::new(event)))).boxed(),
            records.map(|event| event.map(|event| Seen::Record(Box::new(event)))).boxed(),
            pods.map(|event| event.map(|event| Seen::Pod(Box::new(event)))).boxed(),
        ]);
        Self {
            name,
            part,
            owner: job.clone(),
            job: None,
            known: Known::new(Some(Indexes::one(part.index()))),
            seen: seen.boxed(),
            listed: [false; 3],
        }
    }

    async fn until(&mut self, is_so: impl Fn(&Record) -> bool) -> Result<Record> {
        loop {
            // Before all of it was listed once, what is missing means nothing.
            if self.listed == [true; 3] {
                let job = self.job.as_ref().ok_or_else(|| deleted(&self.name))?;
                let record = self.known.record(&Whole::of(job), self.part);
                if is_so(&record) {
                    return Ok(record);
                }
            }
            match self.seen.next().await {
                Some(Ok(seen)) => self.take(seen),
                Some(Err(
                    watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error),
                )) if is_final(&error) => return Err(error.into()),
                // The watch goes on by itself.
                Some(Err(_)) => {}
                None => return Err(Error::new(Kind::Unreachable, "the API server has ended all watches")),
            }
        }
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Job(event) => match *event {
                Event::Apply(job) | Event::InitApply(job) => self.job = Some(job),
                Event::Delete(_) => self.job = None,
                Event::Init => (self.job, self.listed[0]) = (None, false),
                Event::InitDone => self.listed[0] = true,
            },
            Seen::Record(event) => match *event {
                Event::Apply(record) | Event::InitApply(record) => {
                    self.known.children.take(&self.owner, record)
                }
                // Records go with their job only.
                Event::Delete(_) | Event::Init => {}
                Event::InitDone => self.listed[1] = true,
            },
            Seen::Pod(event) => match *event {
                Event::Apply(pod) | Event::InitApply(pod) => self.known.take(&pod),
                Event::Delete(pod) => self.known.lose(&pod),
                Event::Init => {
                    self.known.forget_pods();
                    self.listed[2] = false;
                }
                Event::InitDone => self.listed[2] = true,
            },
        }
    }
}

fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404))
}

fn deleted(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("{name} was deleted"))
}

/// Why nothing can be waited for.
pub(super) fn lost(error: kube::runtime::wait::Error) -> Error {
    match error {
        kube::runtime::wait::Error::ProbeFailed(watcher::Error::InitialListFailed(error)) => error.into(),
        other => Error::new(Kind::Unreachable, format!("the API server cannot be reached: {other}")),
    }
}
