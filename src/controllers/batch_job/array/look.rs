//! Everything that a decision about an array's children is made from. Only reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use batchyard_core::array::{
    Array, ChildOrder, Children, Counterparts, Gate, Order, Sight, Sights, gate, indexes,
};
use batchyard_core::dependency::{How, Noted, n_to_n, noted};
use batchyard_core::job::decide::Job;
use batchyard_core::job::record::{IntentKind, Record};
use batchyard_core::name;
use batchyard_core::pod::NodeView;
use batchyard_core::termination::look;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use roaring::RoaringBitmap;

use crate::controllers::Context;
use crate::controllers::batch_job::dereference::tolerances_in;
use crate::crd::BatchJob;
use crate::crd::batch_job::ChildActionType;
use crate::crd::convert::{self, Plan};
use crate::k8s::error::Error;
use crate::k8s::observe;
use crate::k8s::pods::AttemptPod;
use crate::k8s::read::read;

/// What was asked for of the children, orders first.
pub(super) fn array(
    job: &BatchJob,
    wishes: &Job,
    plan: &Plan,
    children: &Children,
    context: &Context,
) -> Array {
    let all = |kind, reason: &String| ChildOrder {
        indexes: children.members().clone(),
        kind,
        reason: reason.clone(),
    };
    let stop = wishes.stop.as_ref().map(|reason| all(IntentKind::Terminate, reason));
    let terminate = wishes.terminate.as_ref().map(|reason| all(IntentKind::Terminate, reason));
    let cancel = wishes.cancel.as_ref().map(|reason| all(IntentKind::Cancel, reason));
    // One that is stored already outlasts what asked for it.
    let intent = job.status.as_ref().and_then(|status| status.record.intent.as_ref());
    let intent = intent.map(|intent| all(intent.kind, &intent.reason));
    let mut orders: Vec<_> = [stop, terminate, cancel, intent].into_iter().flatten().collect();
    orders.extend(job.spec.child_actions.iter().filter_map(|action| {
        let kind = match action.action {
            ChildActionType::Cancel => IntentKind::Cancel,
            ChildActionType::Terminate => IntentKind::Terminate,
        };
        let indexes = indexes::parse(&action.indexes).ok()?;
        Some(ChildOrder { indexes, kind, reason: action.reason.clone() })
    }));
    let refused = context.dispatch.refused(&job.uid().unwrap_or_default());
    Array { strategy: plan.strategy.clone(), timeout: plan.timeout, orders, refused }
}

/// Which children may run, as far as other children have a say. `notes` are what is known of the jobs that the array
/// depends on.
pub(super) async fn gates(
    job: &BatchJob,
    children: &Children,
    notes: &[Noted],
    context: &Context,
) -> Result<Gate, Error> {
    let dependencies = convert::dependencies(&job.spec);
    let is_sequential = dependencies.iter().any(|other| other.how == How::Sequential && other.on.is_none());
    let goes_on =
        job.spec.array_properties.as_ref().and_then(|array| array.continue_on_failure) == Some(true);
    let order = match (is_sequential, goes_on) {
        (false, _) => Order::Any,
        (true, false) => Order::Sequential,
        (true, true) => Order::SequentialDespiteFailures,
    };
    // What the whole array waits for came before any of its children may run.
    let mut counterparts = Vec::new();
    for reference in n_to_n(&dependencies) {
        counterparts.push(super::counterparts(job, reference, noted(notes, reference), context).await?);
    }
    Ok(gate(children, order, &counterparts))
}

/// The children that have pods or may have, and the pods.
pub(super) struct Seeing {
    pub sights: Sights,
    pub pods: Vec<Arc<Pod>>,
}

/// Looks at the pods of the children, and at their nodes: of all children, or of those that are marked.
pub(super) async fn see(
    job: &BatchJob,
    plan: &Plan,
    children: &Children,
    only: Option<&mut RoaringBitmap>,
    context: &Context,
) -> Result<Seeing, Error> {
    let uid = job.uid().unwrap_or_default();
    // Asked before the pods are read: a create that is answered in between shows its pod.
    let creating = context.dispatch.creating_children(&uid);
    let only = only.map(|only| {
        only.extend(creating.iter().copied());
        &*only
    });
    let mut pods = match only {
        None => context.caches.pods.of_job(&uid),
        Some(only) => {
            let keys = only.iter().map(|index| name::part(&uid, Some(index)));
            keys.flat_map(|key| context.caches.pods.of_part(&key)).collect()
        }
    };
    let is_meant = |index: u32| only.is_none_or(|only| only.contains(index));
    pods.retain(|pod| !(pod.finished && is_counted(pod, children)));
    let mut pods: Vec<_> =
        pods.into_iter().map(|pod| (pod.index.unwrap_or(u32::MAX), pod.pod.clone())).collect();
    pods.extend(unseen(job, children, &pods, is_meant, context).await?);
    let mut seeing = Seeing { sights: Sights::new(), pods: Vec::new() };
    let mut nodes = Nodes { context, known: HashMap::new(), asked: HashSet::new() };
    for (index, pod) in pods {
        let Some(mut view) = observe::pod(&pod) else { continue };
        plan.tell_roles(std::slice::from_mut(&mut view));
        let Sight { seen, tolerances } = seeing.sights.entry(index).or_default();
        *tolerances = tolerances_in(view.compute_environment.as_deref(), context);
        if let Some(name) = &view.node_name {
            let mut node = nodes.get(name).await?;
            let sight = look(&view, node.as_ref(), None, tolerances, context.clock.now());
            if !children.record(index).has_counted(&view.uid) && sight.rests_on_node() {
                node = nodes.ask(name).await?;
            }
            seen.nodes.extend(node.map(|node| (name.clone(), node)));
        }
        seen.pods.push(view);
        seeing.pods.push(pod);
    }
    // A pod that is on record and gone is judged by its node alone.
    for (index, record) in children.open().iter().filter(|(index, _)| is_meant(**index)) {
        let Some(current) = &record.current else { continue };
        let Sight { seen, .. } = seeing.sights.entry(*index).or_default();
        if let Some(name) = current.node_name.as_ref().filter(|_| seen.pods.is_empty()) {
            seen.nodes.extend(nodes.ask(name).await?.map(|node| (name.clone(), node)));
        }
    }
    for index in creating {
        seeing.sights.entry(index).or_default().seen.creating = true;
    }
    let refused = context.dispatch.refused(&uid);
    seeing.sights.values_mut().for_each(|sight| sight.seen.refused.clone_from(&refused));
    Ok(seeing)
}

fn is_counted(pod: &AttemptPod, children: &Children) -> bool {
    let record = |index| children.record(index);
    let counted = |record: Record| {
        record.phase().is_terminal()
            || record.has_counted(pod.pod.metadata.uid.as_deref().unwrap_or_default())
    };
    pod.index.map(record).is_none_or(counted)
}

/// The pods that records speak of and the cache does not show, if they exist.
async fn unseen(
    job: &BatchJob,
    children: &Children,
    pods: &[(u32, Arc<Pod>)],
    is_meant: impl Fn(u32) -> bool,
    context: &Context,
) -> Result<Vec<(u32, Arc<Pod>)>, Error> {
    let api: Api<Pod> =
        Api::namespaced(context.writer.client().clone(), &job.namespace().unwrap_or_default());
    let shown: RoaringBitmap = pods.iter().map(|(index, _)| *index).collect();
    let mut found = Vec::new();
    let gone = |index: u32| is_meant(index) && !shown.contains(index);
    for (index, record) in children.open().iter().filter(|(index, _)| gone(**index)) {
        let Some(current) = &record.current else { continue };
        let name = &current.pod_name;
        let pod = read(format!("get Pod {name}"), || api.get_opt(name)).await?;
        let pod = pod.filter(|pod| pod.uid().as_deref() == Some(&current.pod_uid));
        found.extend(pod.map(|pod| (*index, Arc::new(pod))));
    }
    Ok(found)
}

/// The nodes of one look, each asked for once.
struct Nodes<'c> {
    context: &'c Context,
    known: HashMap<String, Option<NodeView>>,
    asked: HashSet<String>,
}

impl Nodes<'_> {
    async fn get(&mut self, name: &str) -> Result<Option<NodeView>, Error> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        let node = self.context.node(name).await?.map(|node| self.context.settings.notices.view(&node));
        self.known.insert(name.to_owned(), node.clone());
        Ok(node)
    }

    /// As it is now: once is enough, since the pods were looked at before.
    async fn ask(&mut self, name: &str) -> Result<Option<NodeView>, Error> {
        if !self.asked.insert(name.to_owned()) {
            return self.get(name).await;
        }
        let node = self.context.live_node(name).await?.map(|node| self.context.settings.notices.view(&node));
        self.known.insert(name.to_owned(), node.clone());
        Ok(node)
    }
}

/// What becomes of those that wait for an array that is not there any more, or is no array.
pub(super) fn counterparts_alike(members: &RoaringBitmap, succeeded: bool) -> Counterparts {
    match succeeded {
        true => Counterparts { succeeded: members.clone(), failed: RoaringBitmap::new() },
        false => Counterparts { succeeded: RoaringBitmap::new(), failed: members.clone() },
    }
}

/// Which pod an action is about.
pub(super) fn by_uid(pods: &[Arc<Pod>]) -> BTreeMap<String, Arc<Pod>> {
    pods.iter().filter_map(|pod| Some((pod.uid()?, pod.clone()))).collect()
}
