//! What texts about `dependsOn` mean.

use super::{Explanation, entry};

pub(super) const TABLE: &[Explanation] = &[
    entry(
        "Dependent Job failed: BatchJob … did not exist within …",
        "A job that this one depends on did not come in time.",
        "The job's dependencyTimeoutSeconds ended: a name or id that is wrong, or a job that was deleted before.",
        "Submit the other job first, or correct dependsOn; then submit this one again.",
    ),
    entry(
        "Dependent Job failed",
        "A job that this one depends on failed or was deleted before it ended, so this one never ran.",
        "dependsOn: a dependency is met only by success. The condition Failed says which job it was.",
        "Look at the jobs that it depends on, and submit it again after them.",
    ),
    entry(
        "Invalid job: dependsOn leads back to the job itself: …",
        "Jobs wait for each other in a circle, so that none of them could ever run.",
        "dependsOn of the jobs that the text names.",
        "Take one of these dependencies away, and submit the jobs again.",
    ),
    entry(
        "Invalid job: dependsOn needs a jobId or job, …",
        "An entry of dependsOn names no job.",
        "SEQUENTIAL or N_TO_N without a job, where the job is no array.",
        "Name the job that must succeed first.",
    ),
    entry(
        "Invalid job: dependsOn names …",
        "The job depends on a child of an array that has no such child, or of a job that is no array.",
        "The number behind the colon of the jobId.",
        "Children are numbered from 0 to one less than the array's size.",
    ),
    entry(
        "Waiting for BatchJob …, which does not exist",
        "The job depends on another one that is not there yet.",
        "It was applied first, or its dependsOn has a name or id that is wrong.",
        "Submit the other job. dependencyTimeoutSeconds says how long to wait for it.",
    ),
    entry(
        "Waiting for … BatchJobs that do not exist: …",
        "The job depends on others that are not there yet.",
        "It was applied first, or its dependsOn has names or ids that are wrong.",
        "Submit the other jobs. dependencyTimeoutSeconds says how long to wait for them.",
    ),
    entry(
        "Waiting for BatchJob … to succeed",
        "The job depends on another one that has not ended.",
        "dependsOn of the job.",
        "Look what that one does: kubectl batch why with its name.",
    ),
    entry(
        "Waiting for … BatchJobs to succeed: …",
        "The job depends on others that have not ended.",
        "dependsOn of the job.",
        "Look what they do: kubectl batch why with their names.",
    ),
];
