//! The interactive session that a job is: what is seen of it, its objects, and what people are told.
//!
//! Objects are made after the status of a pod that is bound was stored, and removed before such a pod is deleted or let
//! go of. Trouble with them never keeps the job from going on: it is told in the condition SessionReady.

use std::sync::Arc;
use std::time::Duration;

use batchyard_core::job::decide::Decision;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::session::{self, Progress, Why};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::ObjectRef;
use tracing::warn;

use crate::controllers::{Context, session_objects as objects};
use crate::crd::batch_job::SessionStatus;
use crate::crd::session::{Session, SessionAddressType};
use crate::crd::{BatchJob, BatchJobStatus};
use crate::k8s::error::{Error, chain};
use crate::k8s::events::News;
use crate::k8s::observe;
use crate::k8s::sessions::{self, Made, Place, Sight};
use crate::k8s::watch::key;

/// How soon what was made just now is looked at.
const SOON: Duration = Duration::from_secs(1);
/// How often an address is asked for that nobody tells of: that of a load balancer, or whether a route is accepted.
const UNTOLD: Duration = Duration::from_secs(5);
/// How often what was made is looked at, for as long as people use it: somebody may have deleted it. To watch the
/// Services and Ingresses of a cluster would cost more than it tells.
const MADE: Duration = Duration::from_secs(30);

/// What is known of a job's session.
pub(super) struct Seen {
    session: Arc<Session>,
    sight: Sight,
    /// Of a pod that is bound.
    url: Option<Result<String, String>>,
    /// Objects that are to be made, with their kinds.
    missing: Vec<(ApiResource, DynamicObject)>,
    /// The pod whose objects are to go, since the environment does not allow them any more.
    revoked: Option<Arc<Pod>>,
}

impl Seen {
    /// Looks at the session's pod and at what was made for it.
    pub(super) async fn look(
        job: &BatchJob,
        session: &Arc<Session>,
        record: &Record,
        pods: &[Arc<Pod>],
        context: &Context,
    ) -> Self {
        let (sight, missing) = (Sight::default(), Vec::new());
        let mut seen = Self { session: session.clone(), sight, url: None, missing, revoked: None };
        let is_open = |pod: &&Arc<Pod>| pod.uid().is_some_and(|uid| !record.has_counted(&uid));
        let Some(pod) = pods.iter().filter(is_open).find(|pod| observe::node_name(pod).is_some()) else {
            return seen;
        };
        seen.sight = sessions::sight(pod, session);
        let is_to_end = record.intent.is_some() || pod.metadata.deletion_timestamp.is_some();
        if is_to_end || observe::is_finished(pod) {
            return seen;
        }
        seen.url = Some(match seen.place(job, pod, context).await {
            Ok(url) => Ok(url),
            Err(Trouble::Waits(why)) => Err(why),
            Err(Trouble::Api(error)) => Err(chain(&error)),
        });
        seen
    }

    /// The URL, from what is there; notes what is missing.
    async fn place(&mut self, job: &BatchJob, pod: &Arc<Pod>, context: &Context) -> Result<String, Trouble> {
        let session = self.session.clone();
        let host = host(job, &session)?;
        let mut found = Vec::new();
        if let Some(kind) = session.made_for() {
            if let Err(why) = check_policy(pod, &session, host.as_deref(), context) {
                self.revoked = objects::stands(pod, kind, context).await.then(|| pod.clone());
                return Err(Trouble::Waits(why));
            }
            let host = host.as_deref().unwrap_or_default();
            let made = Made { pod, session: &session, host };
            for kind in kinds(kind, &session, context).await? {
                match objects::get(pod, &kind, context).await? {
                    Some(object) => found.push(object),
                    None => self.missing.push((kind.clone(), made.object(&kind))),
                }
            }
        }
        let node = node(pod, context).await?;
        let host = host.as_deref().unwrap_or_default();
        let place = Place { pod, session: &session, node: node.as_deref(), host, made: &found };
        Ok(if self.missing.is_empty() {
            place.url()?
        } else {
            return Err(Trouble::Waits("The session's Service or route is not made yet".to_owned()));
        })
    }

    /// Since when nobody has been connected, if that is so.
    pub(super) fn idle_since(&self, job: &BatchJob, now: Timestamp) -> Option<Timestamp> {
        let known = job.status.as_ref().and_then(|status| status.session.as_deref());
        self.next(known, self.sight.progress, now).0.idle_since
    }

    fn next(
        &self,
        known: Option<&SessionStatus>,
        progress: Progress,
        now: Timestamp,
    ) -> (SessionStatus, Result<(), Why>) {
        let seen = session::Sight { progress, url: self.url.clone(), unused: !self.sight.connected };
        session::next(known, &seen, self.session.credentials_secret.as_deref(), now)
    }

    /// Makes what is missing, and removes what may not be there any more. True if something was made.
    pub(super) async fn make(&self, context: &Context) -> bool {
        if let Some(pod) = &self.revoked
            && let Err(error) = objects::remove(pod, context).await
        {
            warn!(pod = key(pod.as_ref()), "{}; trying again", chain(&error));
        }
        let mut made = false;
        for (kind, object) in &self.missing {
            match context.writer.apply_as(kind, object).await {
                Ok(_) => made = true,
                Err(error) => {
                    warn!(session = object.name_any(), "{}; trying again", chain(&error));
                }
            }
        }
        made
    }

    /// When to look again although no watch tells of anything.
    pub(super) fn again(&self, made: bool) -> Option<Duration> {
        match &self.url {
            _ if made => Some(SOON),
            Some(Err(_)) => Some(UNTOLD),
            Some(Ok(_)) => self.session.made_for().map(|_| MADE),
            None => None,
        }
    }
}

/// Why a session has no URL.
enum Trouble {
    Waits(String),
    Api(Error),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Waits(why)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

/// The host name of an Ingress or route.
fn host(job: &BatchJob, session: &Session) -> Result<Option<String>, String> {
    let is_named =
        matches!(session.made_for(), Some(SessionAddressType::Ingress | SessionAddressType::Gateway));
    let template = session.address.as_ref().and_then(|address| address.host.as_deref()).filter(|_| is_named);
    let record = job.status.as_ref().map(|status| &status.record);
    let id = record.and_then(|record| record.job_id.clone()).or_else(|| job.uid()).unwrap_or_default();
    let namespace = job.namespace().unwrap_or_default();
    template.map(|template| session::host(template, &id, &job.name_any(), &namespace)).transpose()
}

fn check_policy(pod: &Pod, session: &Session, host: Option<&str>, context: &Context) -> Result<(), String> {
    let name = observe::environment(pod).unwrap_or_default();
    let environment = context.caches.environments.get(&ObjectRef::new(name));
    let spec = environment.map(|environment| environment.spec.clone()).unwrap_or_default();
    let namespace = pod.namespace().unwrap_or_default();
    sessions::check_policy(name, &spec, session, &namespace, host)
}

async fn node(pod: &Pod, context: &Context) -> Result<Option<Arc<Node>>, Error> {
    match observe::node_name(pod) {
        Some(name) => context.node(name).await,
        None => Ok(None),
    }
}

/// The kinds of the objects of an address, the route's as the cluster has it.
async fn kinds(
    kind: SessionAddressType,
    session: &Session,
    context: &Context,
) -> Result<Vec<ApiResource>, Trouble> {
    if kind != SessionAddressType::Gateway {
        return Ok(sessions::kinds(kind, None));
    }
    let wanted = sessions::route_kind(session);
    let found = objects::routes(context).await?.into_iter().find(|route| route.kind == wanted);
    match found {
        Some(route) => Ok(sessions::kinds(kind, Some(route))),
        None => Err(Trouble::Waits(format!("The cluster has no {wanted} ({})", sessions::GATEWAY_API))),
    }
}

/// What the status says of the session, and why it cannot be used if so.
pub(super) fn next(
    status: &BatchJobStatus,
    seen: Option<&Seen>,
    decision: &Decision,
    now: Timestamp,
) -> Option<(SessionStatus, Result<(), Why>)> {
    let known = status.session.as_deref();
    let runs = decision.record.phase() == Phase::Running && decision.record.intent.is_none();
    match seen {
        Some(seen) => {
            let progress = if runs { seen.sight.progress } else { Progress::Absent };
            Some(seen.next(known, progress, now))
        }
        // It has ended, or its definition is gone.
        None => known.map(|known| {
            session::next(Some(known), &session::Sight::default(), known.credentials_secret.as_deref(), now)
        }),
    }
}

/// True if somebody has come since the status was written: were that not stored, the next moment without a connection
/// would seem to have begun before the visit.
pub(super) fn has_visitor(before: Option<&BatchJobStatus>, next: &BatchJobStatus) -> bool {
    let idle_since = |status: &BatchJobStatus| status.session.as_ref()?.idle_since;
    before.and_then(idle_since).is_some_and(|since| idle_since(next) != Some(since))
}

/// Tells that people can connect.
pub(super) fn news(before: &BatchJob, after: &BatchJob) -> Option<News> {
    let url = |job: &BatchJob| job.status.as_ref()?.session.as_ref()?.url.clone();
    let now = url(after).filter(|now| url(before).as_ref() != Some(now))?;
    let current = after.status.as_ref()?.record.current.as_ref()?;
    let note = format!("The session of attempt {} is ready at {now}", current.attempt);
    Some(News::normal("SessionReady", note).important().of_pod(&current.pod_name))
}
