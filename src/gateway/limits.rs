//! What one caller may ask for: so many requests a second, a part of those under way, and nothing twice that would be
//! carried out twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::failure::Failure;
use super::sigv4::SKEW;

/// A key may save up the requests of so many seconds.
const BURST_SECONDS: f64 = 2.0;
/// How exactly signatures state the time.
const SECOND: Duration = Duration::from_secs(1);
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

/// How many requests may be under way at a time, and of one key: never more than there is room left, so that whoever
/// comes next finds some.
#[derive(Debug)]
pub(super) struct Permits {
    most: usize,
    under_way: Mutex<(usize, HashMap<String, usize>)>,
}

/// A request that is under way until this goes.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    of: &'a Permits,
    key: String,
}

impl Permits {
    /// So many requests at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, under_way: Mutex::default() }
    }

    /// Lets a request of a key begin.
    ///
    /// # Errors
    /// When its key has as many under way as there is room left.
    pub(super) fn take(&self, key: &str) -> Result<Permit<'_>, Failure> {
        let mut under_way = lock(&self.under_way);
        let (all, keys) = &mut *under_way;
        let own = keys.get(key).copied().unwrap_or(0);
        if own >= self.most.saturating_sub(*all) {
            return Err(Failure::throttled("Too Many Requests"));
        }
        *all += 1;
        keys.insert(key.to_owned(), own + 1);
        Ok(Permit { of: self, key: key.to_owned() })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.of.under_way);
        let (all, keys) = &mut *under_way;
        *all -= 1;
        if let Some(own) = keys.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

/// Work of which little is done at a time, and less of it for one key. Whoever comes waits for a turn; of one key no more
/// wait for one that others could have than may have one.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    of_a_key: usize,
    keys: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn; it is over when this goes. Nothing closes the semaphores, so that both are there.
pub(super) type Turn<'a> = (Option<OwnedSemaphorePermit>, Option<SemaphorePermit<'a>>);

impl Turns {
    /// So many at a time, and so many of a key.
    pub(super) fn new(all: usize, of_a_key: usize) -> Self {
        Self { all: Semaphore::new(all), of_a_key, keys: Mutex::default() }
    }

    /// Waits for a turn of a key.
    pub(super) async fn take(&self, key: &str) -> Turn<'_> {
        let own = {
            let mut keys = lock(&self.keys);
            if !keys.contains_key(key) {
                // Nobody has or waits for a turn of the others.
                keys.retain(|_, known| Arc::strong_count(known) > 1);
            }
            let own = keys.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.of_a_key)));
            own.clone()
        };
        (own.acquire_owned().await.ok(), self.all.acquire().await.ok())
    }
}

/// Requests that changed something, by their signatures.
#[derive(Debug, Default)]
pub(super) struct Seen {
    inner: Mutex<(HashMap<String, Request>, VecDeque<String>)>,
}

/// A request that was taken before.
#[derive(Debug)]
pub(super) struct Repeated {
    pub(super) answer: Failure,
    /// When that is answered.
    pub(super) after: Duration,
}

#[derive(Debug)]
struct Request {
    at: Instant,
    /// What it said beside what is signed.
    unsigned: String,
}

impl Seen {
    /// Takes a request. Its signature is good for as long as clocks may differ, in both directions, and is remembered
    /// for that long. What is not signed can be changed by whoever repeats it, and so makes no other request of it.
    ///
    /// # Errors
    /// When it was taken before. An SDK that signs two calls of a second alike hears that when the second is over: it tries
    /// again, and its signature is another one.
    pub(super) fn take(&self, signature: &str, unsigned: &str, now: Instant) -> Result<(), Repeated> {
        let kept = Duration::try_from(SKEW).unwrap_or_default() * 2;
        let mut inner = lock(&self.inner);
        let (seen, order) = &mut *inner;
        while let Some(oldest) = order.front() {
            let over = seen.get(oldest).is_none_or(|request| now.duration_since(request.at) > kept);
            if !over && order.len() < REMEMBERED {
                break;
            }
            seen.remove(oldest);
            order.pop_front();
        }
        if let Some(known) = seen.get(signature) {
            let says = "This very request was carried out before. Sign it again to repeat it.";
            return Err(match known.unsigned == unsigned {
                true => Repeated {
                    answer: Failure::auth("InvalidSignatureException", says),
                    after: Duration::ZERO,
                },
                false => Repeated {
                    answer: Failure::throttled(says),
                    after: SECOND.saturating_sub(now.duration_since(known.at)),
                },
            });
        }
        seen.insert(signature.to_owned(), Request { at: now, unsigned: unsigned.to_owned() });
        order.push_back(signature.to_owned());
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
        assert!(seen.take("a", "1", start).is_ok() && seen.take("b", "1", start).is_ok());
        let later = start + Duration::from_secs(599);
        let refused = |unsigned: &str, at: Instant| {
            let repeated = seen.take("a", unsigned, at).expect_err("it was there before");
            (repeated.answer.kind(), repeated.after.as_millis())
        };
        assert_eq!(refused("1", later), ("InvalidSignatureException", 0));
        assert_eq!(
            refused("2", later),
            ("TooManyRequestsException", 0),
            "anybody can change what is not signed"
        );
        assert_eq!(refused("2", start + Duration::from_millis(300)), ("TooManyRequestsException", 700));
        let later = start + Duration::from_secs(601);
        assert!(seen.take("a", "1", later).is_ok(), "nothing so old is let in anyway");
        (0..REMEMBERED + 10).for_each(|n| seen.take(&n.to_string(), "", start).expect("new"));
        assert!(lock(&seen.inner).0.len() <= REMEMBERED);
    }

    #[test]
    fn a_key_leaves_room_for_others() {
        let permits = Permits::new(12);
        let some = |key: &str| -> Vec<_> { std::iter::from_fn(|| permits.take(key).ok()).collect() };
        let count = |key: &str| some(key).len();
        let greedy = some("a");
        let next = some("b");
        assert_eq!((greedy.len(), next.len()), (6, 3));
        assert_eq!((count("c"), count("c")), (2, 2), "what is done is free again");
        drop((greedy, next));
        assert_eq!(count("b"), 6);
        assert_eq!(lock(&permits.under_way).clone(), (0, HashMap::new()));
        let only = Permits::new(1);
        let first = only.take("a").expect("one fits");
        only.take("b").expect_err("it is taken");
        drop(first);
        only.take("b").expect("it is free");
    }

    #[tokio::test]
    async fn a_key_that_waits_for_turns_leaves_some_to_others() {
        use futures::FutureExt as _;
        let turns = Turns::new(4, 2);
        let greedy = [turns.take("a").await, turns.take("a").await];
        assert!(turns.take("a").now_or_never().is_none(), "these are all that it may have");
        let other = turns.take("b").now_or_never().expect("there are turns left");
        assert!(other.0.is_some() && other.1.is_some());
        drop(greedy);
        assert!(turns.take("a").now_or_never().is_some());
        drop(other);
        drop(turns.take("c").await);
        assert_eq!(lock(&turns.keys).len(), 1, "keys without turns are forgotten");
    }
}
