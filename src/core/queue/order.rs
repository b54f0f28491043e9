//! Who is next: one total order over the jobs that wait.

use jiff::Timestamp;

/// The rank of a job within its queue; the smallest is first.
///
/// A retried job goes to the front of its queue
/// (<https://docs.aws.amazon.com/batch/latest/userguide/best-practices.html>), else the oldest is
/// first. Creation times have no fractions, so that of jobs made in one second the object's version
/// when it was first seen tells which came first: it is stored with the job, and no restart changes
/// it. The uid makes the order total, so that two dispatchers agree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// False sorts first: the job has run before.
    pub fresh: bool,
    /// When the job was accepted.
    pub created_at: Timestamp,
    /// The job's version when it was first seen; versions grow with each write to the API server.
    pub sequence: u64,
    /// The job's uid.
    pub uid: String,
}
