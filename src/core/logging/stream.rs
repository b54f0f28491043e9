//! Names of log streams, as AWS Batch gives them: `<prefix or definition's name>/default/<id>`
//! (<https://docs.aws.amazon.com/batch/latest/userguide/using_awslogs.html>).
//!
//! On AWS the id is that of the ECS task. Here it is the pod's name, which is another for each attempt, placement, child
//! and node, is known before the pod is made, and is what people know the pod by.

/// So much of a definition's name begins a stream's.
const LONGEST: usize = 200;
/// What AWS calls the only container of a job.
pub const ONLY: &str = "default";

/// The name of a stream. `definition` may have a revision, which does not count; `container` is [`ONLY`] for a job of
/// one container.
///
/// ```
/// use batchyard_core::logging::stream::{ONLY, name};
/// assert_eq!(name(None, Some("alpine-env:1"), ONLY, "test-0f8b3c1a-1"), "alpine-env/default/test-0f8b3c1a-1");
/// assert_eq!(name(Some("team-a"), None, ONLY, "test-0f8b3c1a-1"), "team-a/default/test-0f8b3c1a-1");
/// assert_eq!(name(None, None, ONLY, "test-0f8b3c1a-1"), "job/default/test-0f8b3c1a-1");
/// ```
pub fn name(prefix: Option<&str>, definition: Option<&str>, container: &str, pod: &str) -> String {
    let definition =
        definition.map(|name| name.split(':').next().unwrap_or(name)).filter(|name| !name.is_empty());
    // A job with an inline definition has no name but its own, and that is in the pod's.
    let start: String = prefix.or(definition).unwrap_or("job").chars().take(LONGEST).collect();
    format!("{start}/{container}/{pod}")
}
