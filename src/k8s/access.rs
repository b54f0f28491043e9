//! Whether somebody may do something: the API server is asked.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
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
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(person.user.clone()),
            uid: person.uid.clone(),
            groups: Some(person.groups.clone()),
            extra: Some(person.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(what),
            ..SubjectAccessReviewSpec::default()
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
