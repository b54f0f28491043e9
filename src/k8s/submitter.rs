//! Who submitted a job, and who moved it to another queue: annotations that the chart's policy `submitter` writes for whoever
//! does so, and the gateway for its callers. What the policy of jobs asked of them then can be asked again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use batchyard_core::name;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::access::{Person, Right};
use super::meta;
use crate::crd::rights::Asked;
use crate::crd::{BatchJob, JobDefinitionSpec, convert};

const OURS: &str = "batchyard.io";

/// As it is written: what a user has besides, such as the id of a token, is of one request only, and not for everybody to read.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    user: Cow<'a, str>,
    groups: Cow<'a, [String]>,
}

/// The annotation that says who submitted a job.
pub fn annotation(person: &Person) -> (String, String) {
    let written = Written { user: Cow::Borrowed(&person.user), groups: Cow::Borrowed(&person.groups) };
    (meta::SUBMITTER.to_owned(), serde_json::to_string(&written).unwrap_or_default())
}

/// The rights that a job needs to be placed, each with who needs it: who moved it, or else who submitted it, `submit` on its
/// queue, and who submitted it `use` of its definition, or what its own asks for. Names are those that the job writes, read as
/// the policy of jobs reads them. A job that says nothing of anybody needs none.
///
/// # Errors
/// The annotation that cannot be read, and why.
pub fn rights(job: &BatchJob) -> Result<Vec<(Person, Right)>, (&'static str, String)> {
    let annotations = job.annotations();
    let submitter = person(annotations, meta::SUBMITTER)?;
    let mover = person(annotations, meta::MOVED_BY)?;
    let namespace = job.namespace().unwrap_or_default();
    let right = |verb, group, resource, name: &str| Right {
        namespace: namespace.clone(),
        verb,
        group,
        resource,
        name: name.to_owned(),
    };
    let queue = right("submit", OURS, "jobqueues", name::resource(&job.spec.job_queue));
    let submits = mover.or_else(|| submitter.clone()).map(|person| (person, queue));
    let mut rights: Vec<_> = submits.into_iter().collect();
    let Some(submitter) = submitter else { return Ok(rights) };
    let definition = job.spec.job_definition.as_deref().map(name::resource);
    let definition = definition.and_then(|definition| definition.split(':').next());
    let definition = definition.filter(|name| !name.is_empty());
    let mut needs = |right| rights.push((submitter.clone(), right));
    definition.into_iter().for_each(|name| needs(right("use", OURS, "jobdefinitions", name)));
    if let Some(inline) = convert::inline_definition(&job.spec) {
        let asked = Asked::by(&JobDefinitionSpec { parameters: job.spec.parameters.clone(), ..inline });
        asked.accounts.iter().for_each(|name| needs(right("use", "", "serviceaccounts", name)));
        asked.log_groups.iter().for_each(|name| needs(right("use", OURS, "loggroups", name)));
        asked.privileges.iter().for_each(|name| needs(right("privilege", OURS, "containers", name)));
    }
    Ok(rights)
}

fn person(
    annotations: &BTreeMap<String, String>,
    name: &'static str,
) -> Result<Option<Person>, (&'static str, String)> {
    let Some(text) = annotations.get(name) else { return Ok(None) };
    let written: Written<'_> = serde_json::from_str(text).map_err(|error| (name, error.to_string()))?;
    let (user, groups) = (written.user.into_owned(), written.groups.into_owned());
    Ok(Some(Person { user, groups, ..Person::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(annotations: Value, spec: Value) -> BatchJob {
        let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "a", "namespace": "team", "annotations": annotations}, "spec": spec});
        serde_json::from_value(object).expect("a job")
    }

    fn ann() -> Person {
        Person { user: "an\"n\\".into(), groups: vec!["a\nb".into()], ..Person::default() }
    }

    /// The right to something, as `user verb resource name`.
    fn asked(job: &BatchJob) -> Vec<String> {
        let rights = rights(job).expect("it can be read");
        let told = |(person, right): &(Person, Right)| {
            assert_eq!(right.namespace, "team");
            format!("{} {} {} {}", person.user, right.verb, right.resource, right.name)
        };
        rights.iter().map(told).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (name, text) = annotation(&ann());
        assert_eq!(text, r#"{"user":"an\"n\\","groups":["a\nb"]}"#, "as the policy writes it");
        let read = person(&[(name, text)].into(), meta::SUBMITTER).expect("it can be read");
        assert_eq!(read, Some(ann()));
        for wrong in ["", "ann", "{}", r#"{"user":"ann"}"#, r#"{"user":"ann","groups":"a"}"#] {
            let job = job(json!({"batchyard.io/moved-by": wrong}), json!({"jobQueue": "q"}));
            assert_eq!(rights(&job).expect_err(wrong).0, meta::MOVED_BY);
        }
    }

    /// Its author is who submitted it, as the author of a definition is asked when it is written.
    #[test]
    fn what_a_job_without_a_definition_asks_for_is_asked_again() {
        let (ann, bob) = (r#"{"user":"ann","groups":[]}"#, r#"{"user":"bob","groups":[]}"#);
        let signed = json!({"batchyard.io/submitter": ann, "batchyard.io/moved-by": bob});
        let container = json!({"image": "busybox", "privileged": true, "jobRoleArn": "role",
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/aws/g"}}});
        let inline = json!({"jobQueue": "q", "containerProperties": container});
        let all = [
            "bob submit jobqueues q",
            "ann use serviceaccounts role",
            "ann use loggroups /aws/g",
            "ann privilege containers privileged",
        ];
        assert_eq!(asked(&job(signed.clone(), inline.clone())), all);
        assert_eq!(asked(&job(json!({}), inline)), [""; 0], "nobody is named");
        let options =
            json!({"jobQueue": "q", "parameters": {"command": "docker run --network=host busybox"}});
        let all = ["bob submit jobqueues q", "ann privilege containers host-network"];
        assert_eq!(asked(&job(signed, options)), all);
    }

    #[test]
    fn each_is_asked_for_what_the_admission_asked_of_them() {
        let (by, bob) = (r#"{"user":"ann","groups":[]}"#, r#"{"user":"bob","groups":[]}"#);
        let submitted = json!({"batchyard.io/submitter": by});
        let moved = json!({"batchyard.io/submitter": by, "batchyard.io/moved-by": bob});
        let arn = |kind: &str, name: &str| format!("arn:aws:batch:eu-west-1:123456789012:{kind}/{name}");
        let inline = json!({"jobQueue": arn("job-queue", "HighPriority")});
        assert_eq!(asked(&job(json!({}), inline.clone())), [""; 0], "nobody is named");
        assert_eq!(asked(&job(submitted.clone(), inline)), ["ann submit jobqueues HighPriority"]);
        for definition in ["d", "d:3", &arn("job-definition", "d"), &arn("job-definition", "d:3")] {
            let named = json!({"jobQueue": "q", "jobDefinition": definition});
            let both = ["ann submit jobqueues q", "ann use jobdefinitions d"];
            assert_eq!(asked(&job(submitted.clone(), named.clone())), both);
            let both = ["bob submit jobqueues q", "ann use jobdefinitions d"];
            assert_eq!(asked(&job(moved.clone(), named)), both);
        }
    }
}
