//! `attempts[].decision.rule` where no retry rule was asked
//! (<https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html>).

/// Exit code 0 is never evaluated.
pub const SUCCEEDED: &str = "exit code 0";
/// Terminated jobs are never retried.
pub const TERMINATED: &str = "terminated: never retried";
/// Cancelled jobs are never retried.
pub const CANCELLED: &str = "cancelled: never retried";
/// Jobs that ran out of time are never retried.
pub const TIMED_OUT: &str = "timed out: never retried";
/// Sessions that nobody used are never retried.
pub const IDLE: &str = "idle: never retried";
