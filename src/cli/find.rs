//! From what people type to an object: a name, an id, or a beginning of either.

use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use crate::crd::BatchJob;

/// How many objects are asked for at a time.
pub(super) const PAGE: u32 = 500;
/// A page of names only, which are small.
const NAMES: u32 = 5_000;
/// Shorter beginnings than this are not looked for.
const SHORTEST: usize = 3;

/// A job by its name, its id, or a beginning of either that only it has.
///
/// # Errors
/// When there is none or more than one, or it may not be seen; when only a part of a job is named, lest something
/// happens to the whole of it.
pub(super) async fn job(cluster: &Cluster, text: &str) -> Result<BatchJob> {
    if let Some((whole, _)) = text.split_once([':', '#']) {
        return Err(Error::usage(format!("{text} is a part of a job: only the whole can be named here"))
            .with_hint(format!("Say {whole} if you mean it.")));
    }
    let text = text.strip_prefix("batchjob.batchyard.io/").unwrap_or(text);
    let jobs: Api<BatchJob> = cluster.api();
    if batchyard_core::name::is_object_name(text)
        && let Some(job) = jobs.get_opt(text).await?
    {
        return Ok(job);
    }
    if is_id(text) {
        let by_id = ListParams::default().fields(&format!("status.jobId={text}"));
        if let Some(job) = jobs.list(&by_id).await?.items.into_iter().next() {
            return Ok(job);
        }
    }
    let mut found = if text.len() < SHORTEST { Vec::new() } else { beginning(&jobs, text).await? };
    found.sort();
    match found.as_slice() {
        [] => Err(missing("job", text, cluster)
            .with_hint(format!("kubectl batch list -n {} shows what there is.", cluster.namespace))),
        [one] => Ok(jobs.get(one).await?),
        several => Err(Error::new(
            Kind::NotFound,
            format!("{} jobs begin with {text}: {}", several.len(), some(several)),
        )
        .with_hint("Give more of the name or id.")),
    }
}

/// Names of the jobs whose name or id begins like that. Ids that were given in `spec.jobId` are
/// found whole only.
async fn beginning(jobs: &Api<BatchJob>, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(NAMES);
    loop {
        let page = jobs.list_metadata(&params).await?;
        let begins = |job: &&PartialObjectMeta<BatchJob>| {
            job.name_any().starts_with(text) || job.uid().is_some_and(|uid| uid.starts_with(text))
        };
        found.extend(page.items.iter().filter(begins).map(|job| job.name_any()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// An object by its name.
///
/// # Errors
/// When there is none, or it may not be seen.
pub(super) async fn named<K>(cluster: &Cluster, api: &Api<K>, what: &str, name: &str) -> Result<K>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    for name in batchyard_core::name::candidates(name) {
        if batchyard_core::name::is_object_name(&name)
            && let Some(found) = api.get_opt(&name).await?
        {
            return Ok(found);
        }
    }
    Err(missing(what, name, cluster))
}

/// Every object that a list finds, page by page.
///
/// # Errors
/// When they may not be listed.
pub(super) async fn every<K>(api: &Api<K>, params: ListParams) -> Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    let mut params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn missing(what: &str, name: &str, cluster: &Cluster) -> Error {
    Error::new(Kind::NotFound, format!("no {what} {name} in namespace {}", cluster.namespace))
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// The first few of many names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "))
}
