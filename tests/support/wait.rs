//! Waiting for something to become true, never for time to pass.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::operator;

/// How long anything may take on a machine that compiles at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks where there is nothing to watch.
const POLL: Duration = Duration::from_millis(50);

/// Waits until an object exists and is as it should be; shows how it is if it never becomes so.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, mut done: impl FnMut(&K) -> bool) -> K
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let mut last = None;
    let found = observe(api, name, &mut last, |object| object.filter(|object| done(object)).cloned()).await;
    found.unwrap_or_else(|| give_up(what, name, last))
}

/// Waits until an object is gone.
pub(crate) async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let mut last = None;
    let gone = observe(api, name, &mut last, |object| object.is_none().then_some(())).await;
    gone.unwrap_or_else(|| give_up("its end", name, last))
}

async fn observe<K, T>(
    api: &Api<K>,
    name: &str,
    last: &mut Option<K>,
    mut found: impl FnMut(Option<&K>) -> Option<T>,
) -> Option<T>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watch = async {
        loop {
            let mut stream = pin!(watch_object(api.clone(), name));
            // A watch may break; then look again.
            while let Ok(Some(object)) = stream.try_next().await {
                let answer = found(object.as_ref());
                *last = object;
                if answer.is_some() {
                    return answer;
                }
            }
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, watch).await.ok().flatten()
}

/// Asks again and again until there is an answer. If there is none, what the operator said about `about` is shown.
pub(crate) async fn answer<T, F>(what: &str, about: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        if begun.elapsed() > PATIENCE {
            panic!("waited {} s in vain for {what}\n{}", PATIENCE.as_secs(), operator::last_words(about));
        }
        sleep(POLL).await;
    }
}

/// Asks again and again until there is nothing left to complain of; returns what still is after a while.
pub(crate) async fn none<F>(ask: impl Fn() -> F) -> Vec<String>
where
    F: Future<Output = Vec<String>>,
{
    let begun = Instant::now();
    loop {
        let left = ask().await;
        if left.is_empty() || begun.elapsed() > PATIENCE {
            return left;
        }
        sleep(POLL).await;
    }
}

fn give_up<K: Resource + Serialize>(what: &str, name: &str, last: Option<K>) -> ! {
    let about =
        last.as_ref().and_then(|object| object.meta().namespace.clone()).unwrap_or_else(|| name.to_owned());
    let shown = last.and_then(|object| serde_json::to_string_pretty(&object).ok());
    let shown = shown.unwrap_or_else(|| "nothing by that name".to_owned());
    let log = operator::last_words(&about);
    panic!("waited {} s in vain for {what} of {name}; at the end:\n{shown}\n{log}", PATIENCE.as_secs());
}
