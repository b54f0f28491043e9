//! Chance that can be repeated: a seed and a request's number make a die.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::proxy::Request;

/// The variable with a seed; without it each day has its own.
const SEED: &str = "BATCHYARD_SEED";

/// A die for each request.
#[derive(Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Says with which seed it can be repeated.
    pub(crate) fn new(about: &str) -> Self {
        let today = || jiff::Timestamp::now().as_second().unsigned_abs() / 86_400;
        let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(today);
        println!("{about}: {SEED}={seed}");
        Self(seed)
    }

    /// From 0 to 99.
    pub(crate) fn roll(&self, request: &Request) -> usize {
        self.die(request, 0)
    }

    /// From 0 to 99, with nothing to do with the first.
    pub(crate) fn second_roll(&self, request: &Request) -> usize {
        self.die(request, 1)
    }

    fn die(&self, request: &Request, which: u8) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.0, request.number, which).hash(&mut hasher);
        usize::try_from(hasher.finish() % 100).unwrap_or(0)
    }

    /// True for so many of a hundred requests.
    pub(crate) fn of(&self, request: &Request, percent: usize) -> bool {
        self.roll(request) < percent
    }
}
