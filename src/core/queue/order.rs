//! Who is next: one total order over the jobs that wait.

use jiff::Timestamp;

/// The rank of a job within its queue; the smallest is first.
///
/// A retried job goes to the front of its queue
/// (<https://docs.aws.amazon.com/batch/latest/userguide/best-practices.html>), else the oldest is
/// first. The uid makes the order total, so that two dispatchers agree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// False sorts first: the job has run before.
    pub fresh: bool,
    /// When the job was accepted.
    pub created_at: Timestamp,
    /// The job's uid.
    pub uid: String,
}
