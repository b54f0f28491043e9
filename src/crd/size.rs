//! How large jobs and definitions may be. The schema bounds each member, generously; together they may have no more than
//! this, because the operator holds all of them in memory and each becomes a pod. AWS's own bounds, 30 KiB for a job and
//! 24 KiB for a definition, are those of its API, and the gateway's.

use std::io::{self, Write};

use batchyard_core::reason::resources;
use serde::Serialize;
use serde_json::Value;

use super::{BatchJobSpec, JobDefinitionSpec};

/// The bound, in bytes of JSON.
pub const MAX_BYTES: usize = 100 * 1024;

/// Looks at a job.
///
/// # Errors
/// A sentence that names the member with most of it.
pub fn check_job(job: &BatchJobSpec) -> Result<(), String> {
    check("the job", job, 0)
}

/// Looks at a definition. Which revisions are deregistered is no part of any of them.
///
/// # Errors
/// A sentence that names the member with most of it.
pub fn check_definition(definition: &JobDefinitionSpec) -> Result<(), String> {
    let beside = if definition.deregistered.is_empty() { 0 } else { bytes(&definition.deregistered) };
    check("the job definition", definition, beside)
}

fn check(what: &str, spec: &impl Serialize, beside: usize) -> Result<(), String> {
    let all = bytes(spec).saturating_sub(beside);
    if all <= MAX_BYTES {
        return Ok(());
    }
    let value = serde_json::to_value(spec).unwrap_or_default();
    let (path, here) = largest(&value);
    Err(resources::too_large(&path, what, all, here, MAX_BYTES))
}

/// The innermost member that has most of a value, and how large it is.
fn largest(value: &Value) -> (String, usize) {
    let (mut path, mut at, mut size) = (String::new(), value, bytes(value));
    loop {
        let members: Vec<(String, &Value)> = match at {
            Value::Object(members) => {
                let name = |name: &String| if path.is_empty() { name.clone() } else { format!(".{name}") };
                members.iter().map(|(key, member)| (name(key), member)).collect()
            }
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (format!("[{index}]"), item)).collect()
            }
            _ => return (path, size),
        };
        let most = members.into_iter().map(|(name, member)| (bytes(member), name, member));
        let most =
            most.max_by_key(|(bytes, ..)| *bytes).filter(|(bytes, ..)| *bytes > size / 2 || path.is_empty());
        let Some((bytes, name, member)) = most else { return (path, size) };
        path.push_str(&name);
        (at, size) = (member, bytes);
    }
}

/// How many bytes a value has as JSON; nothing is stored for that.
fn bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0 += buffer.len();
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Plain data can be written.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::convert;

    fn job(spec: Value) -> BatchJobSpec {
        serde_json::from_value(spec).expect("a job")
    }

    fn of_container(container: Value) -> BatchJobSpec {
        job(json!({"jobQueue": "q", "containerProperties": container}))
    }

    #[test]
    fn the_member_that_has_most_of_it_is_named() {
        let many: Vec<_> =
            (0..400).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(300)})).collect();
        let long = json!({"name": "LONG", "value": "x".repeat(200_000)});
        let words = vec!["x".repeat(1000); 200];
        for (container, path) in [
            (json!({"image": "i", "environment": many}), "containerProperties.environment"),
            (
                json!({"image": "i", "environment": [many[0], long]}),
                "containerProperties.environment[1].value",
            ),
            (json!({"image": "i", "command": words}), "containerProperties.command"),
        ] {
            let why = check_job(&of_container(container)).expect_err("too large");
            assert!(why.starts_with(&format!("{path}: the job has ")), "{why}");
            assert!(why.ends_with("it may have 102400"), "{why}");
        }
        // Nothing has most of it: then what has more than anything else.
        let parameters: serde_json::Map<_, _> =
            (0..200).map(|n| (format!("p{n}"), json!("x".repeat(600)))).collect();
        let spread = json!({"jobQueue": "q", "jobDefinition": "d", "parameters": parameters});
        let why = check_job(&job(spread)).expect_err("too large");
        assert!(why.starts_with("parameters: "), "{why}");
    }

    #[test]
    fn what_is_as_large_as_it_may_be_is_taken() {
        let of = |length: usize| of_container(json!({"image": "i", "command": ["x".repeat(length)]}));
        let room = MAX_BYTES - bytes(&of(0));
        assert_eq!(check_job(&of(room)), Ok(()));
        assert!(check_job(&of(room + 1)).is_err());
        // As the letters of JSON have it.
        assert!(
            check_job(&of_container(json!({"image": "i", "command": ["\u{1}".repeat(room / 6 + 1)]})))
                .is_err()
        );
    }

    #[test]
    fn a_definition_is_looked_at_beside_the_job_and_revisions_do_not_count() {
        let definition = |more: Value| -> JobDefinitionSpec {
            let mut spec =
                json!({"type": "container", "containerProperties": {"image": "i", "vcpus": 1, "memory": 64}});
            more.as_object().into_iter().flatten().for_each(|(name, value)| spec[name] = value.clone());
            serde_json::from_value(spec).expect("a definition")
        };
        let numbers: Vec<i32> = (1_000_000..1_020_000).collect();
        assert_eq!(check_definition(&definition(json!({"deregistered": numbers}))), Ok(()));
        let large = definition(json!({"parameters": {"p": "x".repeat(MAX_BYTES)}}));
        let small = job(json!({"jobQueue": "q", "jobDefinition": "d"}));
        let why = convert::bounded_plan(&small, &large).effective.expect_err("too large");
        assert!(why.starts_with("parameters.p: the job definition has "), "{why}");
        let large =
            job(json!({"jobQueue": "q", "jobDefinition": "d", "parameters": {"p": "x".repeat(MAX_BYTES)}}));
        let why = convert::bounded_plan(&large, &definition(json!({}))).effective.expect_err("too large");
        assert!(why.starts_with("parameters.p: the job has "), "{why}");
    }
}
