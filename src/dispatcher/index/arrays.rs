//! Arrays as the index keeps them: two places in line at most, one for the children that are tried again and one for
//! those that had no node yet, however many stand there.

use std::collections::BTreeSet;
use std::sync::Arc;

use batchyard_core::array::Waiting as Children;
use batchyard_core::queue::{Candidate, Rank, Use};
use jiff::Timestamp;
use kube::ResourceExt;
use roaring::RoaringBitmap;

use super::jobs::{Entry, InLine, Jobs, Standing, World, is_wanted, pause_after_placements, rank, standing};
use super::line::{Line, Load};
use crate::crd::BatchJob;
use crate::crd::convert::Plan;
use crate::dispatcher::Creating;
use crate::k8s::arrays::Known;
use crate::k8s::observe;
use crate::k8s::pods::AttemptPod;
use crate::k8s::watch::key;

/// An array at the time of one look.
struct Array<'a> {
    uid: &'a str,
    job: &'a Arc<BatchJob>,
    pods: &'a [Arc<AttemptPod>],
    creating: &'a [(Option<u32>, Creating)],
}

impl Jobs {
    /// Looks at an array again, which was `before` to its queue.
    pub(super) fn look_at_array(
        &mut self,
        uid: &str,
        job: &Arc<BatchJob>,
        mut before: Entry,
        world: World<'_>,
    ) {
        let pods = world.caches.pods.of_job(uid);
        let creating = world.dispatch.creating_of(uid);
        let array = Array { uid, job, pods: &pods, creating: &creating };
        let object = world.caches.queue_of(job);
        let queue = object.as_deref().map(key).filter(|queue| self.lines.contains_key(queue));
        if before.queue.is_some() && before.queue != queue {
            self.end_use(&mut before, world.now);
        }
        let busy = array.busy();
        let mut entry =
            Entry { queue, runs: u32::try_from(busy.len()).unwrap_or(u32::MAX), ..Entry::default() };
        if let Some(line) = entry.queue.as_ref().and_then(|queue| self.lines.get_mut(queue)) {
            entry.load = array.load();
            entry.open = array.note_use(line, std::mem::take(&mut before.open), world.now);
        }
        let known = world.caches.arrays.get(uid).filter(|_| is_wanted(job));
        if let Some(known) = known.filter(|_| world.dispatch.refused(uid).is_none()) {
            let plan = before.waits.into_iter().next().map(|waits| waits.plan);
            match standing(job, uid, object.as_deref(), plan, world) {
                Standing::InLine { plan, candidate } => {
                    let (children, passing) = array.waiting(&known, &busy, world);
                    if passing {
                        self.passing.insert(uid.to_owned());
                    }
                    self.line_up_children(&mut entry, &array, (&plan, &candidate), children);
                }
                Standing::Other { wait, passing } => self.stand_aside(uid, wait, passing),
                Standing::Never => {}
            }
        }
        self.put_in(uid, entry);
    }

    fn line_up_children(
        &mut self,
        entry: &mut Entry,
        array: &Array<'_>,
        (plan, candidate): (&Arc<Plan>, &Candidate),
        children: Children,
    ) {
        for (children, fresh) in [(children.again, false), (children.fresh, true)] {
            if children.is_empty() {
                continue;
            }
            let rank = Rank { fresh, ..rank(array.job, array.uid) };
            let candidate = Candidate { children: Some(Arc::new(children)), ..candidate.clone() };
            self.put_in_line(entry, rank.clone(), candidate);
            entry.waits.push(InLine { job: array.job.clone(), plan: plan.clone(), rank });
        }
    }
}

impl Array<'_> {
    /// The children that have a pod, or are about to.
    fn busy(&self) -> RoaringBitmap {
        let pods = self.pods.iter().filter(|pod| !pod.finished).filter_map(|pod| pod.index);
        pods.chain(self.creating.iter().filter_map(|(index, _)| *index)).collect()
    }

    fn load(&self) -> Option<Load> {
        let share = self.job.spec.share_identifier.clone().unwrap_or_default();
        let used: i64 = self.pods.iter().filter(|pod| !pod.finished).map(|pod| pod.vcpus_milli).sum();
        let creating: i64 = self.creating.iter().map(|(_, creating)| creating.candidate.vcpus_milli).sum();
        let record = self.job.status.as_ref().map(|status| &status.record);
        let is_at_work =
            record.is_some_and(|record| record.runnable_at.is_some() && !record.phase().is_terminal());
        is_at_work.then_some(Load { share, now_milli: used + creating })
    }

    /// Notes whose containers run, of which these were noted before. Returns those that are noted now.
    fn note_use(&self, line: &mut Line, mut before: BTreeSet<String>, now: Timestamp) -> BTreeSet<String> {
        let Some(ledger) = &mut line.ledger else { return BTreeSet::new() };
        let mut open = BTreeSet::new();
        for pod in self.pods.iter().filter(|pod| !pod.finished) {
            let (Some(from), Some(uid)) = (observe::started_at(&pod.pod), pod.pod.uid()) else { continue };
            if !before.remove(&uid) {
                let share = self.job.spec.share_identifier.clone().unwrap_or_default();
                ledger.begin(&uid, Use { share, vcpus_milli: pod.vcpus_milli, from });
            }
            open.insert(uid);
        }
        before.iter().for_each(|pod| ledger.end(pod, now));
        open
    }

    /// The children that stand in line, and whether others wait for time to pass.
    fn waiting(&self, known: &Known, busy: &RoaringBitmap, world: World<'_>) -> (Children, bool) {
        let mut out = busy.clone();
        // A pod whose outcome is not recorded yet.
        let is_counted = |pod: &AttemptPod, index: u32| {
            let ended = known.children.succeeded().contains(index) || known.children.failed().contains(index);
            let record = known.children.open().get(&index);
            ended
                || record.is_some_and(|record| {
                    record.has_counted(pod.pod.metadata.uid.as_deref().unwrap_or_default())
                })
        };
        let indexed = self.pods.iter().filter_map(|pod| Some((pod, pod.index?)));
        out.extend(indexed.filter(|(pod, index)| !is_counted(pod, *index)).map(|(_, index)| index));
        let mut passing = world.dispatch.held_back_of(self.uid);
        for (index, record) in known.children.open() {
            if pause_after_placements(record, world.now).is_some() {
                passing.insert(*index);
            }
        }
        out |= &passing;
        let limit = self.job.spec.array_properties.as_ref().and_then(|array| array.max_running);
        let limit = limit.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(u64::MAX);
        let again = first(&known.waiting.again - &out, limit.saturating_sub(busy.len()));
        let left = limit.saturating_sub(busy.len()).saturating_sub(again.len());
        (Children { fresh: first(&known.waiting.fresh - &out, left), again }, !passing.is_empty())
    }
}

/// So many of them, the first ones.
fn first(set: RoaringBitmap, most: u64) -> RoaringBitmap {
    if set.len() <= most {
        return set;
    }
    set.iter().take(usize::try_from(most).unwrap_or(usize::MAX)).collect()
}
