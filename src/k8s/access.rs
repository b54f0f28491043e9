//! Whether somebody may do something: the API server is asked.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

use tokio::time::Instant;

use super::error::{Error, chain};
use super::read::read;

/// An answer is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(10);
/// That the API server did not answer is remembered for so long, so that not everybody who waited for it waits again.
const UNANSWERED: Duration = Duration::from_secs(1);
/// So many answers are remembered.
const ANSWERS: usize = 10_000;

/// Somebody who asks, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Person {
    /// The user's name.
    pub user: String,
    /// The user's uid, where there is one.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator says, for authorizers that know of it.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// A right to an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// Where.
    pub namespace: String,
    /// To do what.
    pub verb: &'static str,
    /// Of which group the kind is.
    pub group: &'static str,
    /// With which kind of object.
    pub resource: &'static str,
    /// With which of them.
    pub name: String,
}

impl Right {
    fn attributes(&self) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(self.resource.to_owned()),
            verb: Some(self.verb.to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            ..ResourceAttributes::default()
        }
    }
}

/// Answers that were given a moment ago. Whoever asks while the same is being asked waits for that answer. Cheap to clone: all
/// clones are one.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<HashMap<(Person, Right), Slot>>>);

/// An answer, or why there is none, and when it came.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Result<bool, String>)>>>;

impl Memory {
    /// Asks whether a person has a right, unless that is known.
    ///
    /// # Errors
    /// Says why the API server does not answer.
    pub async fn has(&self, client: &Client, person: &Person, right: &Right) -> Result<bool, String> {
        let ask = || async {
            let answer = review(client, person, right.attributes()).await;
            answer.map(|answer| answer.is_ok()).map_err(|error| chain(&error))
        };
        self.recall(person, right, ask).await
    }

    async fn recall<F>(&self, person: &Person, right: &Right, ask: impl FnOnce() -> F) -> Result<bool, String>
    where
        F: Future<Output = Result<bool, String>>,
    {
        let slot = self.slot(person, right);
        let mut known = slot.lock().await;
        if let Some((_, answer)) = known.as_ref().filter(|known| is_fresh(known)) {
            return answer.clone();
        }
        let answer = ask().await;
        *known = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, person: &Person, right: &Right) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= ANSWERS {
            // One that is locked is about to be known.
            slots
                .retain(|_, slot| slot.try_lock().map_or(true, |known| known.as_ref().is_some_and(is_fresh)));
        }
        slots.entry((person.clone(), right.clone())).or_default().clone()
    }
}

fn is_fresh((at, answer): &(Instant, Result<bool, String>)) -> bool {
    at.elapsed() < if answer.is_ok() { REMEMBERED } else { UNANSWERED }
}

/// Asks whether a person may do something with a resource; says why not.
///
/// # Errors
/// When the API server does not answer.
pub async fn review(
    client: &Client,
    person: &Person,
    what: ResourceAttributes,
) -> Result<Result<(), String>, Error> {
    ask(client, person, SubjectAccessReviewSpec { resource_attributes: Some(what), ..Default::default() })
        .await
}

/// Asks whether a person may get a path that is no resource; says why not.
///
/// # Errors
/// When the API server does not answer.
pub async fn review_path(client: &Client, person: &Person, path: &str) -> Result<Result<(), String>, Error> {
    let what = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
    let spec = SubjectAccessReviewSpec { non_resource_attributes: Some(what), ..Default::default() };
    ask(client, person, spec).await
}

/// Whose token this is; nobody's if it is not, or no longer, valid.
///
/// # Errors
/// When the API server does not answer.
pub async fn person(client: &Client, token: &str) -> Result<Option<Person>, Error> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
    let question = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client.clone());
    let params = PostParams::default();
    let answer = read("ask whose token it is".to_owned(), || api.create(&params, &question)).await?;
    let known = answer.status.filter(|status| status.authenticated == Some(true));
    let user = known.and_then(|status| status.user).filter(|user| user.username.is_some());
    Ok(user.map(|user| Person {
        user: user.username.unwrap_or_default(),
        uid: user.uid,
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    }))
}

async fn ask(
    client: &Client,
    person: &Person,
    spec: SubjectAccessReviewSpec,
) -> Result<Result<(), String>, Error> {
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(person.user.clone()),
            uid: person.uid.clone(),
            groups: Some(person.groups.clone()),
            extra: Some(person.extra.clone()).filter(|extra| !extra.is_empty()),
            ..spec
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let params = PostParams::default();
    let answer = read("ask who may what".to_owned(), || api.create(&params, &question)).await?;
    Ok(match answer.status {
        Some(SubjectAccessReviewStatus { allowed: true, .. }) => Ok(()),
        other => Err(other.and_then(|status| status.reason).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    fn right(name: &str) -> Right {
        let (group, resource) = ("batchyard.io", "jobqueues");
        Right { namespace: "team".into(), verb: "submit", group, resource, name: name.into() }
    }

    fn ann(groups: &[&str]) -> Person {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Person { user: "ann".into(), groups, ..Person::default() }
    }

    /// Of ten thousand who ask at once for one all get its answer.
    #[tokio::test]
    async fn the_same_is_asked_once() {
        let (memory, asked) = (Memory::default(), AtomicUsize::new(0));
        let (person, q) = (ann(&[]), right("q"));
        let ask = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(true)
        };
        let answers = join_all((0..10_000).map(|_| memory.recall(&person, &q, ask))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(true)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for (person, right) in [(ann(&["a"]), right("q")), (ann(&[]), right("other"))] {
            assert_eq!(memory.recall(&person, &right, || async { Ok(false) }).await, Ok(false));
        }
        assert_eq!(memory.recall(&person, &q, || async { Ok(false) }).await, Ok(true), "it is known");
    }

    #[test]
    fn an_answer_is_forgotten_after_a_while_and_a_failure_sooner() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a past");
        for (seconds, answer, fresh) in [
            (9, Ok(true), true),
            (9, Ok(false), true),
            (11, Ok(true), false),
            (11, Ok(false), false),
            (0, Err("no answer".to_owned()), true),
            (2, Err("no answer".to_owned()), false),
        ] {
            assert_eq!(is_fresh(&(ago(seconds), answer.clone())), fresh, "{answer:?} {seconds} s ago");
        }
    }

    #[tokio::test]
    async fn no_more_is_kept_than_that() {
        let (memory, person) = (Memory::default(), ann(&[]));
        let long_ago = Instant::now().checked_sub(2 * REMEMBERED).expect("a past");
        for number in 0..ANSWERS {
            let slot = memory.slot(&person, &right(&number.to_string()));
            *slot.lock().await = Some((long_ago, Ok(true)));
        }
        memory.recall(&person, &right("q"), || async { Ok(true) }).await.expect("an answer");
        assert_eq!(memory.0.lock().expect("nobody panics").len(), 1);
    }
}
