//! Live reads, each with a deadline.

use std::future::Future;
use std::time::Duration;

use super::error::Error;

/// How long an answer is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for the answer to a read; `what` is for people.
pub async fn read<T>(what: String, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| Error::Api { what, source: Box::new(source) }),
        Err(_) => Err(Error::Deadline { what, limit: DEADLINE }),
    }
}
