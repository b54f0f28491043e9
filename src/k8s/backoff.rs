//! Backoff per object: one that keeps failing is tried less and less often, the others as ever.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause. A step of a job may need several writes in a row, and where every second one is
/// refused for a while none of its jobs should then wait for a minute.
const LONGEST: Duration = Duration::from_secs(15);

/// An object that did not fail for so long is gone, or begins anew.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Failures in a row, by uid.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Backoff {
    /// The object failed once more: how long to leave it alone.
    pub fn failed(&self, uid: &str) -> Duration {
        self.failed_at(uid, Instant::now())
    }

    fn failed_at(&self, uid: &str, now: Instant) -> Duration {
        let mut failures = self.lock();
        if !failures.contains_key(uid) {
            failures.retain(|_, known| now.duration_since(known.last) < FORGOTTEN);
        }
        let known = failures.entry(uid.to_owned()).or_insert(Failures { count: 0, last: now });
        *known = Failures { count: known.count.saturating_add(1), last: now };
        // The uid spreads objects that began to fail together.
        let spread = 1.0 + f64::from(uid.bytes().fold(0_u8, u8::wrapping_add)) / 1024.0;
        LONGEST.min(FIRST.saturating_mul(1 << (known.count - 1).min(16)).mul_f64(spread))
    }

    /// The object succeeded, or is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_limit_and_starts_again_after_success() {
        let backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.failed("a")).collect();
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&LONGEST));
        assert!(backoff.failed("b") < Duration::from_secs(1));
        backoff.forget("a");
        assert_eq!(backoff.failed("a"), pauses[0]);
    }

    /// An object may be deleted while it fails, and nobody tells of its success.
    #[test]
    fn failures_of_objects_that_are_gone_are_forgotten() {
        let backoff = Backoff::default();
        let begun = Instant::now();
        for object in 0..1000_u32 {
            backoff.failed_at(&object.to_string(), begun + FORGOTTEN / 10 * object);
        }
        assert!(backoff.lock().len() <= 11, "{} are remembered", backoff.lock().len());
    }
}
