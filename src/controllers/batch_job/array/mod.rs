//! An array job at work: what becomes of its children.
//!
//! `look` reads, `batchyard_core::array::decide` decides, and here is the order of effects: what must not be lost goes
//! into the records first (`records`), then the pods are let go, and at last the counts of all children go into the
//! job's status: recounted each time. The pods themselves are made by the dispatcher, from what is published here.

mod look;
pub(super) mod records;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use batchyard_core::array::{
    Array, Counterparts, Gate, Other, Pairs, Pass, Standing, Waiting, decide, end, give_up, indexes, intent,
    rerun, say_why,
};
use batchyard_core::dependency::{Noted, Reference, n_to_n};
use batchyard_core::job::clocks::due;
use batchyard_core::job::decide::{Action, Decision, Job, Readiness, Seen};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::waits::Wait;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Api, ResourceExt};
use roaring::RoaringBitmap;

use super::dereference::{self, Dereferenced};
use super::{carry_out, dependencies, tell};
use crate::controllers::{Context, Outcome, Wake};
use crate::crd::batch_job::{ArrayProperties, ArrayStatus};
use crate::crd::convert::Plan;
use crate::crd::{BatchJob, BatchJobRecord, convert};
use crate::dispatcher::cycle::DWELL;
use crate::k8s::arrays::{Known, Whole};
use crate::k8s::error::Error;
use crate::k8s::parts;
use crate::k8s::watch::key;
use records::{Entry, is_at_work, known};

/// The children are looked at together, at most so often: when few pods are at work, and when many are.
const LOOKS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// What few are.
const FEW: usize = 50;
/// All children are looked at at least so often, while some have pods; in between those about which something changed.
const WHOLE: Duration = Duration::from_secs(30);
/// The counts are written at most so often, when few pods are at work and when many are; the end always at once.
const COUNTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// So much is done in one look: what a process that is killed again and again begins, it also ends.
const STEPS: usize = 256;
/// For so long requests of one look are begun: the counts are written however slow the API server is.
const ACTS: Duration = Duration::from_secs(1);
/// Requests of one array under way at a time.
const CONCURRENCY: usize = 16;

/// What keeps an array from being accepted, beside what keeps any job.
pub(super) fn readiness(job: &BatchJob, context: &Context) -> Option<Readiness> {
    let array = job.spec.array_properties.as_ref()?;
    if let Some(reference) = &array.rerun_failed_of {
        let found = find(&job.namespace()?, reference, context);
        let stated = array.size.and_then(|size| u32::try_from(size).ok());
        let not_ready = rerun(reference, stated, found.as_deref().map(other).as_ref());
        if not_ready.is_some() {
            return not_ready;
        }
    }
    match pairs(job, context) {
        Pairs::Differ(why) => Some(Readiness::Refused(why)),
        // It is accepted, and waits as for any other job.
        Pairs::Fit | Pairs::Unknown(_) => None,
    }
}

/// Children wait for the child with their index: there must be one in each array that is there.
pub(super) fn pairs(job: &BatchJob, context: &Context) -> Pairs {
    let Some(array) = &job.spec.array_properties else { return Pairs::Fit };
    let namespace = job.namespace().unwrap_or_default();
    let dependencies = convert::dependencies(&job.spec);
    let others = n_to_n(&dependencies).filter_map(|named| context.caches.referred_job(&namespace, named));
    let others: Vec<_> = others.map(|found| other(&found)).collect();
    // A rerun has as many as what it runs again.
    let of_rerun = || size(find(&namespace, array.rerun_failed_of.as_deref()?, context)?.as_ref());
    batchyard_core::array::pairs(size(job).or_else(of_rerun), &others)
}

fn other(job: &BatchJob) -> Other {
    let status = job.status.as_ref();
    let told = status.and_then(|status| status.array_properties.as_ref());
    Other {
        name: job.name_any(),
        is_array: job.spec.array_properties.is_some(),
        size: size(job),
        has_ended: status.is_some_and(|status| status.record.phase().is_terminal()),
        failed: told.and_then(|told| told.status_summary.as_ref()?.failed),
    }
}

/// How many children an array has. One that ended before that was known has none, which says nothing.
fn size(job: &BatchJob) -> Option<u32> {
    parts::size(job).filter(|size| *size > 0)
}

/// The children that run, as far as the job tells: of a rerun those that are in its lists, unless these are cut.
pub(super) fn members(job: &BatchJob) -> Option<RoaringBitmap> {
    let all = (0..size(job)?).collect();
    let array = job.spec.array_properties.as_ref()?;
    let told = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    match told.filter(|_| array.rerun_failed_of.is_some()) {
        Some(told) => status::listed(told).or(Some(all)),
        None => Some(all),
    }
}

/// Before an array is accepted: how many children it has, and of a rerun, which ones run.
///
/// # Errors
/// When the API server refuses or cannot be asked.
pub(super) async fn prepare(
    job: &BatchJob,
    array: &ArrayProperties,
    context: &Context,
) -> Result<(u32, RoaringBitmap), Error> {
    let Some(reference) = array.rerun_failed_of.as_deref() else {
        let size = size(job).unwrap_or_default();
        return Ok((size, (0..size).collect()));
    };
    // Of one that is not accepted yet nothing is known, and what is read of it now must not count later.
    let has_children = |other: &Arc<BatchJob>| is_at_work(other) || self::other(other).has_ended;
    let found = find(&job.namespace().unwrap_or_default(), reference, context);
    let Some(other) = found.filter(has_children) else {
        return Ok((0, RoaringBitmap::new()));
    };
    let children = known(&other, context).await?.children.clone();
    // Those of one that ended before they had a turn have no records.
    let failed = if is_at_work(&other) { children.failed() } else { children.members() }.clone();
    let size = size(&other).unwrap_or_default();
    let mut record = records::empty(job, 0);
    record.members = Some(indexes::text(&failed));
    match context.writer.write_record(&records::object(job, record, None)).await {
        // It was made before, and what failed is what failed then.
        Err(error) if !error.is_conflict() => Err(error),
        _ => Ok((size, failed)),
    }
}

/// What the status says of the children of an array that is about to be accepted, waits then, or ended before its children
/// had a turn.
///
/// # Errors
/// When the API server refuses or cannot be asked.
pub(super) async fn status_before_work(
    job: &BatchJob,
    array: &ArrayProperties,
    told: Option<&ArrayStatus>,
    phase: Phase,
    context: &Context,
) -> Result<ArrayStatus, Error> {
    let (size, members) = match told {
        Some(told) if !phase.is_terminal() => return Ok(told.clone()),
        Some(_) => (size(job).unwrap_or_default(), known(job, context).await?.children.members().clone()),
        None => prepare(job, array, context).await?,
    };
    Ok(status::of(told, size, 0, &status::all_in(members, phase), context.clock.now()))
}

/// Looks at all children of an array.
pub(super) async fn reconcile(job: Arc<BatchJob>, context: &Context) -> Outcome {
    let known = known(&job, context).await?;
    let is_large = is_large(&job, context);
    let many = |(few, many): (Duration, Duration)| if is_large { many } else { few };
    if let Some(pause) = known.looked_at.and_then(|at| many(LOOKS).checked_sub(at.elapsed())) {
        return Ok(Wake::After(pause));
    }
    let now = context.clock.now();
    let mut work = Work::begin(&job, known.as_ref().clone(), context).await?;
    let mut only = work.marked(now);
    work.publish();
    let seeing = look::see(&job, &work.plan, &work.known.children, only.as_mut(), context).await?;
    let mut pass = decide(now, &work.array, &work.known.children, &work.gate, &seeing.sights, only.as_ref());
    let (wake, unreachable, is_cut) = (pass.wake, pass.unreachable, pass.cut(STEPS));
    let actions = work.store(pass, now).await?;
    let is_cut = !act(&actions, &seeing.pods, context).await? || is_cut;
    // Others may wait for each of the children.
    let awaited = !context.caches.dependents.of(&job).is_empty();
    let counts = work.count(unreachable, if awaited { COUNTS.0 } else { many(COUNTS) }, now).await?;
    if is_cut {
        return Ok(sooner(Wake::After(many(LOOKS)), counts));
    }
    Ok(sooner(work.is_done(only.is_none(), wake, now), counts))
}

fn is_large(job: &BatchJob, context: &Context) -> bool {
    context.caches.pods.count_work(&job.uid().unwrap_or_default()) > FEW
}

fn sooner(one: Wake, other: Wake) -> Wake {
    match (one, other) {
        (Wake::After(a), Wake::After(b)) => Wake::After(a.min(b)),
        (Wake::OnChange, wake) | (wake, Wake::OnChange) => wake,
    }
}

/// The children for which those of another array wait, one by one. One that is gone is as it was noted.
async fn counterparts(
    job: &BatchJob,
    reference: &Reference,
    noted: Option<&Noted>,
    context: &Context,
) -> Result<Counterparts, Error> {
    let members = (0..indexes::MAX_SIZE).collect();
    let is_it = |other: &Arc<BatchJob>| noted.is_none_or(|noted| other.uid().as_ref() == Some(&noted.uid));
    let other = context.caches.referred_job(&job.namespace().unwrap_or_default(), reference);
    let phase = match other.filter(is_it) {
        Some(other) if is_at_work(&other) => {
            return Ok(Counterparts::of(&known(&other, context).await?.children));
        }
        Some(other) => other.status.as_ref().map(|status| status.record.phase()).unwrap_or_default(),
        None => match noted.and_then(|noted| noted.phase) {
            Some(Phase::Succeeded) => Phase::Succeeded,
            _ => Phase::Failed,
        },
    };
    Ok(match phase {
        Phase::Succeeded => look::counterparts_alike(&members, true),
        Phase::Failed => look::counterparts_alike(&members, false),
        Phase::Submitted | Phase::Pending | Phase::Runnable | Phase::Starting | Phase::Running => {
            Counterparts::default()
        }
    })
}

/// The job of a namespace that a name or an id means.
fn find(namespace: &str, reference: &str, context: &Context) -> Option<Arc<BatchJob>> {
    let by_name = context.caches.referred_job(namespace, &Reference::Name(reference.to_owned()));
    by_name.or_else(|| context.caches.referred_job(namespace, &Reference::Id(reference.to_owned())))
}

/// One look at an array in progress.
struct Work<'a> {
    job: &'a BatchJob,
    context: &'a Context,
    uid: String,
    wishes: Job,
    plan: Plan,
    array: Array,
    gate: Gate,
    known: Known,
    /// What is known of the jobs that it depends on.
    notes: Vec<Noted>,
    /// The last look at all children.
    whole_before: Option<Whole>,
}

impl<'a> Work<'a> {
    async fn begin(job: &'a BatchJob, known: Known, context: &'a Context) -> Result<Self, Error> {
        let wishes = dereference::wishes(job, context);
        let (plan, refused) = dereference::plan_of(job, context).await?;
        let mut array = look::array(job, &wishes, &plan, &known.children, context);
        array.refused = refused.or(array.refused);
        let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
        array.orders.extend(give_up(&record, &wishes.time_limits, &known.children, context.clock.now()));
        let notes = match record.phase().is_terminal() || job.spec.depends_on.is_empty() {
            true => record.depends_on,
            false => dependencies::look(job, &record, context).await?.notes,
        };
        let gate = look::gates(job, &known.children, &notes, context).await?;
        let uid = job.uid().unwrap_or_default();
        Ok(Self { job, context, uid, wishes, plan, array, gate, known, notes, whole_before: None })
    }

    /// The children that have to be looked at: those about which something changed, or `None` for all. Until this look
    /// is done, the next one is at all of them.
    fn marked(&mut self, now: Timestamp) -> Option<RoaringBitmap> {
        let marked = self.context.caches.pods.take_parts(&self.uid);
        let whole = self.known.whole.take()?;
        let is_old = whole.at.elapsed() >= WHOLE
            || whole.generation != self.job.metadata.generation
            || whole.wake.is_some_and(|wake| wake <= now);
        let is_ordered = !self.array.orders.is_empty() || self.array.refused.is_some();
        self.whole_before = Some(whole);
        (!is_old && !is_ordered).then_some(marked)
    }

    /// Everything that was decided is done. Says when to look again.
    fn is_done(&mut self, whole: bool, wake: Option<Timestamp>, now: Timestamp) -> Wake {
        let before = self.whole_before.filter(|_| !whole);
        let wake = [wake, before.and_then(|before| before.wake)].into_iter().flatten().min();
        let at = before.map_or_else(Instant::now, |before| before.at);
        self.known.whole = Some(Whole { at, generation: self.job.metadata.generation, wake });
        self.context.caches.arrays.publish(&self.uid, self.known.clone());
        let works = self.context.caches.pods.has_work(&self.uid);
        let again = if works { Wake::After(WHOLE) } else { Wake::OnChange };
        sooner(again, Wake::at(wake, now))
    }

    /// Tells the dispatcher which children may run: before anything is decided on who has no pod, so that nobody who is
    /// to end is given one meanwhile.
    fn publish(&mut self) {
        let mut waiting = self.known.children.waiting(&self.gate);
        for order in &self.array.orders {
            waiting =
                Waiting { fresh: waiting.fresh - &order.indexes, again: waiting.again - &order.indexes };
        }
        if self.array.refused.is_some() {
            waiting = Waiting::default();
        }
        self.known.waiting = waiting;
        self.context.caches.arrays.publish(&self.uid, self.known.clone());
        self.context.caches.changed.mark(&self.uid);
        self.context.dispatch.poke();
    }

    /// Stores what must not be lost, and remembers the rest. Returns what can be done then.
    async fn store(&mut self, pass: Pass, now: Timestamp) -> Result<Vec<Action>, Error> {
        let Pass { outcomes, bulk, progress, actions, .. } = pass;
        let mut entries: Vec<_> = bulk.iter().map(|bulk| Entry::range(bulk, now)).collect();
        entries.extend(outcomes.iter().map(|(index, record, _)| Entry::child(*index, record)));
        if !entries.is_empty() {
            self.write(entries).await?;
        }
        let mut children = self.known.children.as_ref().clone();
        let mut todo = actions;
        bulk.iter().for_each(|bulk| children.fail(&bulk.indexes));
        for (index, record, actions) in outcomes {
            self.tell_child(index, &children.record(index), &record);
            children.note(index, record);
            todo.extend(actions);
        }
        for (index, record) in progress {
            children.note(index, record);
        }
        self.known.children = Arc::new(children);
        self.known.looked_at = Some(Instant::now());
        // What a child did opens the way for others.
        self.gate = look::gates(self.job, &self.known.children, &self.notes, self.context).await?;
        self.publish();
        Ok(todo)
    }

    async fn write(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        let newest = self.known.newest.take();
        let open = newest.as_ref().map_or_else(|| records::empty(self.job, 0), |newest| newest.spec.clone());
        for spec in records::fill(open, entries) {
            let object = records::object(self.job, spec, newest.as_deref());
            match self.context.writer.write_record(&object).await {
                Ok(written) => self.wrote(written),
                // Records go with their namespace, and it goes once its pods are let go.
                Err(error) if error.is_namespace_going() => {
                    self.known.newest = self.known.newest.take().or(newest);
                    return Ok(());
                }
                Err(error) => {
                    // It may be written, or somebody else wrote: what is there is read again.
                    self.context.caches.arrays.forget(&self.uid);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn wrote(&mut self, record: BatchJobRecord) {
        self.known.records = u32::try_from(record.spec.segment).unwrap_or(0) + 1;
        self.known.newest = Some(Arc::new(record));
    }

    fn tell_child(&self, index: u32, before: &Record, now: &Record) {
        if now.phase() != before.phase() && now.phase().is_terminal() {
            self.context.metrics.transition(now.phase().as_str());
        }
        for attempt in now.attempts.iter().skip(before.attempts.len()) {
            self.context.metrics.attempt(super::status::action_word(attempt));
        }
        tracing::debug!(job = key(self.job), index, phase = now.phase().as_str(), "child");
    }

    /// Writes what the children come to, if that is another than the status says and it is time, or they have ended.
    async fn count(&self, unreachable: bool, pause: Duration, now: Timestamp) -> Result<Wake, Error> {
        let record = self.record(now);
        let world = Dereferenced {
            gang: None,
            session: None,
            job: self.wishes.clone(),
            readiness: Readiness::Ready(record.job_definition.clone().unwrap_or_default()),
            seen: Seen::default(),
            tolerances: dereference::tolerances_in(None, self.context),
            pods: Vec::new(),
            queue: dereference::queue(self.job, self.context),
            fair_share: dereference::is_fair_share(self.job, self.context),
            poll: false,
        };
        let wake = self.limit(&record, now);
        let decision = Decision { record, unreachable, ..Decision::default() };
        let mut next = super::status::next(self.job, &world, &decision, false, now);
        let tally = self.known.children.tally(&self.gate);
        let told = next.array_properties.take();
        let size = told.as_ref().and_then(|told| u32::try_from(told.size?).ok()).unwrap_or_default();
        let told = status::of(told.as_deref(), size, self.known.records, &tally, now);
        next.array_properties = Some(Box::new(told));
        if self.job.status.as_ref() == Some(&next) {
            return Ok(wake);
        }
        let urgent = next.record.phase().is_terminal()
            || self.job.status.as_ref().is_none_or(|status| status.record.intent != next.record.intent);
        let since = self.context.caches.since_own_write(&self.uid).filter(|_| !urgent);
        if let Some(left) = since.and_then(|since| pause.checked_sub(since)) {
            return Ok(sooner(wake, Wake::After(left)));
        }
        let mut wanted = self.job.clone();
        wanted.status = Some(next);
        let api =
            Api::namespaced(self.context.writer.client().clone(), &self.job.namespace().unwrap_or_default());
        let written = self.context.caches.wrote_job(self.context.writer.replace_status(&api, &wanted).await?);
        tell(self.job, &written, self.context);
        if written.status.as_ref().is_some_and(|status| status.record.phase().is_terminal()) {
            self.context.dispatch.forget(&self.uid);
        }
        Ok(wake)
    }

    /// The job's own record: it waits for its children, and ends with them.
    fn record(&self, now: Timestamp) -> Record {
        let mut record = self.job.status.clone().unwrap_or_default().record;
        if record.phase().is_terminal() {
            return record;
        }
        record.depends_on.clone_from(&self.notes);
        record.intent = intent(record.intent, &self.array.orders, self.known.children.members(), now);
        let array = self.job.spec.array_properties.as_ref();
        let stated = array.and_then(|array| array.tolerated_failures.as_ref()).map(|stated| match stated {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        });
        let tolerated = status::tolerated(stated.as_deref(), &self.known.children);
        if !end(&mut record, &self.known.children, tolerated, now) {
            self.say_why(&mut record, now);
        }
        record
    }

    /// An array of which no child has a node says what the first of them waits for, one that blocks its queue before
    /// the others.
    fn say_why(&self, record: &mut Record, now: Timestamp) {
        let standing = self.standing();
        say_why(record, standing, self.told(record, standing, now), &self.known.children, now);
    }

    fn standing(&self) -> Standing {
        let (pods, waiting) = (&self.context.caches.pods, &self.known.waiting);
        match (pods.has_node(&self.uid), pods.has_work(&self.uid)) {
            (true, _) => Standing::AtWork,
            (false, true) => Standing::Unbound,
            (false, false) if waiting.fresh.is_empty() && waiting.again.is_empty() => Standing::AtWork,
            (false, false) => Standing::InLine,
        }
    }

    /// What the dispatcher says, once it has said so for a while.
    fn told(&self, record: &Record, standing: Standing, now: Timestamp) -> Option<Wait> {
        let (dispatch, caches) = (&self.context.dispatch, &self.context.caches);
        let turn = || {
            let queue = caches.queue_of(self.job).filter(|_| standing == Standing::InLine)?;
            dispatch.turn_of(&key(queue.as_ref()), record.runnable_at)
        };
        let wait =
            dispatch.child_waits_for(&self.uid).or_else(|| dispatch.waits_for(&self.uid)).or_else(turn)?;
        (now.duration_since(wait.since) >= DWELL).then_some(wait.what)
    }

    /// When the queue's time limit of what the array waits for is due.
    fn limit(&self, record: &Record, now: Timestamp) -> Wake {
        let due = record.waiting.and_then(|waiting| due(&waiting, &self.wishes.time_limits));
        Wake::at(due.map(|(due, _)| due), now)
    }
}

/// Does what was decided, whatever becomes of each, for as long as a look may take. Says whether that was all: the rest
/// is decided anew.
async fn act(actions: &[Action], pods: &[Arc<Pod>], context: &Context) -> Result<bool, Error> {
    let pods = look::by_uid(pods);
    let todo = actions.iter().filter_map(|action| Some((action, pods.get(action.pod_uid())?)));
    let todo: Vec<_> = todo.map(|(action, pod)| carry_out(action, pod, context)).collect();
    let all = todo.len();
    let begun = stream::iter(todo).take_until(tokio::time::sleep(ACTS));
    let answers: Vec<_> = begun.buffer_unordered(CONCURRENCY).collect().await;
    let is_all = answers.len() == all;
    answers.into_iter().collect::<Result<(), Error>>().map(|()| is_all)
}
