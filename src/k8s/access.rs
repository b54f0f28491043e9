//! Whether somebody may do something: the API server is asked.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::error::Error;
use super::read::read;

/// Somebody who asks, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
