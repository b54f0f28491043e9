//! What one caller may ask for: so many requests a second, and nothing twice that would be carried out twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::sigv4::SKEW;

/// A key may save up the requests of so many seconds.
const BURST_SECONDS: f64 = 2.0;
/// So many signatures are remembered at most.
const REMEMBERED: usize = 100_000;

/// How many requests each key still has.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: f64,
    keys: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Rates {
    /// So many a second for each key; 0 for any number.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), keys: Mutex::default() }
    }

    /// Takes a request of a key that is known to be its own.
    ///
    /// # Errors
    /// When the key has used up what it may.
    pub(super) fn take(&self, key: &str, now: Instant) -> Result<(), Failure> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let most = self.per_second * BURST_SECONDS;
        let mut keys = lock(&self.keys);
        let (left, last) = keys.entry(key.to_owned()).or_insert((most, now));
        *left = (*left + now.duration_since(*last).as_secs_f64() * self.per_second).min(most);
        *last = now;
        if *left < 1.0 {
            return Err(Failure::throttled("Too Many Requests"));
        }
        *left -= 1.0;
        Ok(())
    }
}

/// Requests that changed something, by what tells each from all others.
#[derive(Debug, Default)]
pub(super) struct Seen {
    inner: Mutex<(HashMap<String, Instant>, VecDeque<String>)>,
}

impl Seen {
    /// Takes a request. Its signature is good for as long as clocks may differ, in both directions, and is remembered
    /// for that long.
    ///
    /// # Errors
    /// When it was taken before.
    pub(super) fn take(&self, request: &str, now: Instant) -> Result<(), Failure> {
        let kept = Duration::try_from(SKEW).unwrap_or_default() * 2;
        let mut inner = lock(&self.inner);
        let (seen, order) = &mut *inner;
        while let Some(oldest) = order.front() {
            let over = seen.get(oldest).is_none_or(|at| now.duration_since(*at) > kept);
            if !over && order.len() < REMEMBERED {
                break;
            }
            seen.remove(oldest);
            order.pop_front();
        }
        if seen.contains_key(request) {
            return Err(Failure::auth(
                "InvalidSignatureException",
                "This very request was carried out before. Sign it again to repeat it.",
            ));
        }
        seen.insert(request.to_owned(), now);
        order.push_back(request.to_owned());
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_rate_and_a_burst() {
        let (rates, start) = (Rates::new(10), Instant::now());
        let allowed = |key: &str, at: u64| {
            let at = start + Duration::from_millis(at);
            (0..100).take_while(|_| rates.take(key, at).is_ok()).count()
        };
        assert_eq!((allowed("a", 0), allowed("b", 0)), (20, 20));
        assert_eq!(allowed("a", 500), 5);
        assert_eq!(allowed("a", 60_000), 20);
        let any = Rates::new(0);
        assert!((0..10_000).all(|_| any.take("a", start).is_ok()));
    }

    #[test]
    fn a_request_is_good_once() {
        let (seen, start) = (Seen::default(), Instant::now());
        assert!(seen.take("a", start).is_ok() && seen.take("b", start).is_ok());
        assert!(seen.take("a", start + Duration::from_secs(599)).is_err());
        assert!(seen.take("a", start + Duration::from_secs(601)).is_ok(), "nothing so old is let in anyway");
        (0..REMEMBERED + 10).for_each(|n| seen.take(&n.to_string(), start).expect("new"));
        assert!(lock(&seen.inner).0.len() <= REMEMBERED);
    }
}
