//! `propagateTags`: which tags a job's pods bear
//! (<https://docs.aws.amazon.com/batch/latest/userguide/using-tags.html>).

use std::collections::BTreeMap;

use batchyard_core::reason;

use crate::crd::{BatchJobSpec, JobDefinitionSpec};

/// The most tags that a job may hand on.
const MOST: usize = 50;

/// The definition's tags with the job's over them, if they are handed on to the pods: the job says so, else its
/// definition.
///
/// # Errors
/// A sentence if there are too many of them, for which AWS fails the job, too.
pub(super) fn propagated(
    job: &BatchJobSpec,
    definition: &JobDefinitionSpec,
) -> Result<Option<BTreeMap<String, String>>, String> {
    if !job.propagate_tags.or(definition.propagate_tags).unwrap_or(false) {
        return Ok(None);
    }
    let mut tags = definition.tags.clone();
    tags.extend(job.tags.clone());
    match tags.len() {
        0 => Ok(None),
        count if count > MOST => Err(reason::too_many_tags(count, MOST)),
        _ => Ok(Some(tags)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(job: Value, definition: Value) -> Result<Value, String> {
        let mut spec = json!({"jobQueue": "q", "jobDefinition": "d"});
        job.as_object().expect("an object").iter().for_each(|(k, v)| spec[k] = v.clone());
        let mut def = json!({"type": "container"});
        definition.as_object().expect("an object").iter().for_each(|(k, v)| def[k] = v.clone());
        let (spec, def) = (serde_json::from_value(spec), serde_json::from_value(def));
        Ok(json!(propagated(&spec.expect("a job"), &def.expect("a definition"))?))
    }

    #[test]
    fn whose_tags_are_handed_on() {
        let (job, definition) = (json!({"a": "job", "b": "1"}), json!({"a": "definition", "c": "2"}));
        let both = json!({"a": "job", "b": "1", "c": "2"});
        for (of_job, of_definition, want) in [
            (Value::Null, Value::Null, Value::Null),
            (json!(true), Value::Null, both.clone()),
            (Value::Null, json!(true), both.clone()),
            (json!(false), json!(true), Value::Null),
            (json!(true), json!(false), both),
        ] {
            let job = json!({"tags": job, "propagateTags": of_job});
            let definition = json!({"tags": definition, "propagateTags": of_definition});
            assert_eq!(told(job.clone(), definition), Ok(want), "{job}");
        }
        assert_eq!(told(json!({"propagateTags": true}), json!({})), Ok(Value::Null), "no tags at all");
        let many = |from: u32| {
            (from..from + 30).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>()
        };
        let (job, other) = (json!({"tags": many(0), "propagateTags": true}), json!({"tags": many(30)}));
        let why =
            "propagateTags: the job and its definition have 60 tags together, and at most 50 are handed on";
        assert_eq!(told(job.clone(), other), Err(why.to_owned()));
        assert!(told(job, json!({"tags": many(10)})).is_ok(), "the same keys count once");
    }
}
