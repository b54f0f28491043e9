//! Backoff per object: one that keeps failing is tried less and less often, the others as ever.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row, by uid.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// The object failed once more: how long to leave it alone.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        // The uid spreads objects that began to fail together.
        let spread = 1.0 + f64::from(uid.bytes().fold(0_u8, u8::wrapping_add)) / 1024.0;
        LONGEST.min(FIRST.saturating_mul(1 << (*count - 1).min(16)).mul_f64(spread))
    }

    /// The object succeeded, or is gone.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(uid);
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
}
