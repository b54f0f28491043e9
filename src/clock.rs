//! The time of day, for decisions.
//!
//! The machine's clock can jump: it is set, or a virtual machine sleeps. A jump must not end every
//! job that has a timeout, so that one is believed only after it has lasted. Until then time goes
//! on by the clock that never jumps.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Differences between the two clocks that are no jump: they drift, and are corrected.
const DRIFT: SignedDuration = SignedDuration::from_secs(5);
/// A jump that lasts so long is the truth.
const BELIEVED: Duration = Duration::from_secs(300);

/// A clock that does not jump.
#[derive(Debug, Default)]
pub struct Clock(Mutex<Option<Reading>>);

/// Both clocks at one moment in which they agreed.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    steady: Instant,
    /// Since when they have not.
    doubted: Option<Instant>,
}

impl Clock {
    /// Now.
    pub fn now(&self) -> Timestamp {
        self.read(Timestamp::now(), Instant::now())
    }

    fn read(&self, wall: Timestamp, steady: Instant) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let agreed = Reading { wall, steady, doubted: None };
        let known = last.get_or_insert(agreed);
        let passed = SignedDuration::try_from(steady.duration_since(known.steady)).unwrap_or_default();
        let expected = known.wall.checked_add(passed).unwrap_or(wall);
        if wall.duration_since(expected).abs() <= DRIFT {
            *known = agreed;
            return wall;
        }
        let doubted = *known.doubted.get_or_insert(steady);
        if steady.duration_since(doubted) >= BELIEVED {
            *known = agreed;
            return wall;
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour ahead, an hour or ten seconds back: it is the old time until the new one has lasted.
    #[test]
    fn l1_a_jump_of_the_clock_is_believed_only_when_it_lasts() {
        let (noon, begun): (Timestamp, _) = ("2026-03-01T12:00:00Z".parse().expect("a time"), Instant::now());
        for jump in [3600, -3600, -10] {
            let clock = Clock::default();
            let read = |steady: u64, ahead: i64| {
                let wall = noon + SignedDuration::from_secs(steady as i64 + ahead);
                clock.read(wall, begun + Duration::from_secs(steady)).duration_since(noon).as_secs()
            };
            assert_eq!(read(0, 0), 0);
            assert_eq!(read(100, 2), 102, "a correction");
            assert_eq!(read(110, jump), 112, "a jump");
            assert_eq!(read(400, jump), 402);
            assert_eq!(read(405, 2), 407, "and back");
            assert_eq!(read(500, jump), 502, "another one");
            assert_eq!(read(799, jump), 801);
            assert_eq!(read(800, jump), 800 + jump, "it has lasted");
            assert_eq!(read(900, jump), 900 + jump);
        }
    }
}
