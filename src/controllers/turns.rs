//! Hands kube's controller the objects that are to be looked at, in turn.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt, Stream};
use kube::Resource;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::time::{DelayQueue, delay_queue};

use super::lanes::{Lane, Lanes};

/// No pause is longer: the clock that keeps them ends after two years.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The objects that wait for a controller, and those that it has.
pub(super) struct Turns<K: Resource<DynamicType = ()>> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K: Resource<DynamicType = ()>> {
    lanes: Lanes<ObjectRef<K>>,
    /// Those that get in line after a pause. kube's controller has such a clock too, but what that one wakes waits
    /// for nobody: many jobs that are looked at again and again would leave no time for others.
    later: DelayQueue<ObjectRef<K>>,
    keys: HashMap<ObjectRef<K>, delay_queue::Key>,
}

impl<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Turns<K> {
    /// The controller is given at most so many objects at a time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let state = State { lanes: Lanes::new(most), later: DelayQueue::new(), keys: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// The objects to look at, from those that are named. Their namespaces have turns, and below these the lanes that
    /// `lane` names. Ends when nobody is left who could name any.
    pub(super) fn stream(
        self: Arc<Self>,
        named: UnboundedReceiver<ObjectRef<K>>,
        store: Store<K>,
        lane: fn(&K) -> Lane,
    ) -> impl Stream<Item = ObjectRef<K>> + Send {
        let lane = move |object: &ObjectRef<K>| {
            let namespace = object.namespace.clone().unwrap_or_default();
            let below = store.get(object).map(|object| lane(&object)).unwrap_or_default();
            [vec![namespace], below].concat()
        };
        futures::stream::unfold((self, named, lane), |(turns, mut named, lane)| async {
            loop {
                while let Ok(object) = named.try_recv() {
                    turns.lock().lanes.push(object, &lane);
                }
                while let Some(object) = turns.due().now_or_never() {
                    turns.lock().lanes.push(object, &lane);
                }
                if let Some(next) = turns.next() {
                    return Some((next, (turns, named, lane)));
                }
                tokio::select! {
                    object = named.recv() => turns.lock().lanes.push(object?, &lane),
                    object = turns.due() => turns.lock().lanes.push(object, &lane),
                    () = turns.changed.notified() => {}
                }
            }
        })
    }

    /// The object gets in line after a pause, unless it is looked at before.
    pub(super) fn after(&self, pause: Duration, object: ObjectRef<K>) {
        let mut state = self.lock();
        state.drop_pause(&object);
        let key = state.later.insert(object.clone(), pause.min(LONGEST));
        state.keys.insert(object, key);
        drop(state);
        self.changed.notify_one();
    }

    /// What the controller says of an object when it is done with it.
    pub(super) fn finished<E, Q>(&self, result: &Result<(ObjectRef<K>, Action), Error<E, Q>>) {
        let (name, namespace) = match result {
            Ok((object, _)) => (&object.name, &object.namespace),
            // One that is gone by now is never reconciled.
            Err(Error::ObjectNotFound(object) | Error::ReconcilerFailed(_, object)) => {
                (&object.name, &object.namespace)
            }
            Err(Error::QueueError(_) | Error::RunnerError(_)) => return,
        };
        let object = ObjectRef::new(name);
        let object = namespace.iter().fold(object, |object, namespace| object.within(namespace));
        self.lock().lanes.done(&object);
        self.changed.notify_one();
    }

    /// The next object whose pause is over.
    async fn due(&self) -> ObjectRef<K> {
        poll_fn(|context| {
            let mut state = self.lock();
            let Poll::Ready(Some(expired)) = state.later.poll_expired(context) else { return Poll::Pending };
            let object = expired.into_inner();
            state.keys.remove(&object);
            Poll::Ready(object)
        })
        .await
    }

    fn next(&self) -> Option<ObjectRef<K>> {
        let mut state = self.lock();
        let object = state.lanes.take()?;
        state.drop_pause(&object);
        Some(object)
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    fn drop_pause(&mut self, object: &ObjectRef<K>) {
        if let Some(key) = self.keys.remove(object) {
            self.later.remove(&key);
        }
    }
}
