//! Live reads, each with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::error::Error;

/// How long an answer is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for the answer to a read; `what` is for people. A read that the API server puts off is asked
/// again when the server says so, since all that was read for the same decision would else be read
/// again, too.
///
/// # Errors
/// When the API server refuses, fails, or does not answer within 10 s.
pub async fn read<T, F>(what: String, call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    read_within(DEADLINE, what, call).await
}

async fn read_within<T, F>(limit: Duration, what: String, call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let Ok(answer) = timeout_at(deadline, call()).await else {
            return Err(Error::Deadline { what, limit });
        };
        let error = match answer {
            Ok(found) => return Ok(found),
            Err(source) => Error::Api { what: what.clone(), source: Box::new(source) },
        };
        match error.retry_after() {
            Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kube::core::Status;

    use super::*;

    fn refusal(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("a test", "Test").with_code(code)))
    }

    /// What comes of these answers, of which 0 is a success, within so many milliseconds; and how
    /// many were asked for.
    async fn outcome(limit: u64, answers: &[u16]) -> (Result<(), Error>, usize) {
        let asked = Mutex::new(0);
        let found = read_within(Duration::from_millis(limit), "get a thing".to_owned(), || {
            let mut asked = asked.lock().expect("nobody panics");
            *asked += 1;
            let answer = answers.get(*asked - 1).copied();
            async move {
                match answer {
                    Some(0) => Ok(()),
                    Some(code) => Err(refusal(code)),
                    None => std::future::pending().await,
                }
            }
        });
        let found = found.await;
        (found, asked.into_inner().expect("nobody panics"))
    }

    #[tokio::test]
    async fn only_what_is_put_off_is_asked_again() {
        assert!(matches!(outcome(5_000, &[0]).await, (Ok(()), 1)));
        assert!(matches!(outcome(5_000, &[429, 0]).await, (Ok(()), 2)));
        let (failed, asked) = outcome(5_000, &[500, 0]).await;
        assert!(failed.is_err_and(|error| error.kind() == "server") && asked == 1);
        let (put_off, asked) = outcome(500, &[429, 0]).await;
        assert!(put_off.is_err_and(|error| error.retry_after().is_some()) && asked == 1);
        assert!(matches!(outcome(10, &[]).await, (Err(Error::Deadline { .. }), 1)));
    }
}
