//! Whether those who submitted and moved a job may still do so: what the admission asked of them then is asked again before a
//! pod is made, since they may have waited for long. What a definition asks for was asked of its author.

use batchyard_core::name;
use batchyard_core::waits::{self, Wait};

use crate::controllers::Context;
use crate::crd::BatchJob;
use crate::k8s::access::{Person, Right};
use crate::k8s::submitter;

/// What the job waits for if somebody has lost a right; nothing if its pod may be made. Most answers are remembered, and then
/// nothing is waited for.
pub(super) async fn missing(context: &Context, job: &BatchJob) -> Option<Wait> {
    if !context.settings.recheck_rights {
        return None;
    }
    let rights = match submitter::rights(job) {
        Ok(rights) => rights,
        Err((annotation, why)) => return Some(waits::submitter_unreadable(annotation, &why)),
    };
    for (person, right) in rights {
        match has(context, &person, &right).await {
            Ok(true) => {}
            Ok(false) => {
                let Right { namespace, verb, group, resource, name } = &right;
                return Some(waits::right_missing(&person.user, namespace, verb, group, resource, name));
            }
            Err(why) => return Some(waits::api_refuses(&why)),
        }
    }
    None
}

/// A right to the object by the name that the job writes, or of a queue or a definition by the one that Kubernetes knows it by: the
/// gateway writes AWS's, and its caller may have been granted the other.
async fn has(context: &Context, person: &Person, right: &Right) -> Result<bool, String> {
    let client = context.writer.client();
    if context.access.has(client, person, right).await? {
        return Ok(true);
    }
    let slug = name::slug(&right.name);
    if slug == right.name || !["jobqueues", "jobdefinitions"].contains(&right.resource) {
        return Ok(false);
    }
    context.access.has(client, person, &Right { name: slug, ..right.clone() }).await
}
