//! How notifications are delivered: what waits, for how long, and what an answer means.

use std::collections::{BTreeMap, VecDeque};

use jiff::SignedDuration;

use crate::name::fnv1a;

/// The pause after the first failure.
const FIRST: SignedDuration = SignedDuration::from_secs(1);
/// The longest pause.
pub const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// What could not be delivered for so long is dropped, as EventBridge does it
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html>).
pub const GIVE_UP: SignedDuration = SignedDuration::from_hours(24);

/// How long to wait after so many failures in a row: twice as long each time, up to [`LONGEST`], and up to a fifth longer
/// by what `seed` is, so that rules whose sink died together do not come back together.
pub fn pause(failures: u32, seed: &str) -> SignedDuration {
    let doubled = 1_i64.checked_shl(failures.saturating_sub(1).min(20)).unwrap_or(i64::MAX);
    let whole = FIRST.as_millis().saturating_mul(i128::from(doubled)).min(LONGEST.as_millis()) as i64;
    let spread = (fnv1a(seed.as_bytes()) % 200) as i64;
    SignedDuration::from_millis(whole + whole / 1000 * spread)
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Delivered,
    /// Another time it may be taken.
    Later,
    /// It will never be: this one is dropped, so that it holds up no others.
    Never,
}

/// What an HTTP status means. Redirects are not followed: they could lead anywhere. What a wrong rule or a sink that is
/// being set up answers may heal.
pub fn http(status: u16) -> Answer {
    match status {
        200..=299 => Answer::Delivered,
        400 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 422 | 431 => Answer::Never,
        _ => Answer::Later,
    }
}

/// What an SMTP reply code means. 530 to 538 are about who we are, which may heal.
pub fn smtp(code: u16) -> Answer {
    match code {
        200..=299 => Answer::Delivered,
        530..=538 => Answer::Later,
        500..=599 => Answer::Never,
        _ => Answer::Later,
    }
}

/// What waits to be delivered, by rule.
///
/// It has a limit for each rule and one for all. Beyond its own limit a rule loses its oldest event; beyond that of all,
/// the rule with the most that wait loses its oldest. The newest tell how things stand.
#[derive(Clone, Debug)]
pub struct Outbox<E> {
    per_rule: usize,
    in_all: usize,
    waiting: BTreeMap<String, VecDeque<E>>,
    count: usize,
}

impl<E> Outbox<E> {
    /// With these limits.
    pub fn new(per_rule: usize, in_all: usize) -> Self {
        Self { per_rule: per_rule.max(1), in_all: in_all.max(1), waiting: BTreeMap::new(), count: 0 }
    }

    /// Adds an event. Returns what it pushed out, and whose that was.
    pub fn push(&mut self, rule: &str, event: E) -> Option<(String, E)> {
        if !self.waiting.contains_key(rule) {
            self.waiting.insert(rule.to_owned(), VecDeque::new());
        }
        let own = self.waiting.get_mut(rule)?;
        own.push_back(event);
        self.count += 1;
        let loser = if own.len() > self.per_rule {
            rule.to_owned()
        } else if self.count > self.in_all {
            let most = self.waiting.iter().max_by_key(|(_, events)| events.len())?;
            most.0.clone()
        } else {
            return None;
        };
        let dropped = self.pop(&loser)?;
        Some((loser, dropped))
    }

    /// The next event of a rule.
    pub fn front(&self, rule: &str) -> Option<&E> {
        self.waiting.get(rule)?.front()
    }

    /// Takes the next event of a rule out.
    pub fn pop(&mut self, rule: &str) -> Option<E> {
        let event = self.waiting.get_mut(rule)?.pop_front();
        self.count -= usize::from(event.is_some());
        event
    }

    /// Takes the next event of a rule out if it is this one: it may have been pushed out meanwhile.
    pub fn pop_if(&mut self, rule: &str, is_it: impl Fn(&E) -> bool) -> Option<E> {
        self.front(rule).filter(|event| is_it(event))?;
        self.pop(rule)
    }

    /// Takes all of a rule out.
    pub fn forget(&mut self, rule: &str) -> usize {
        let gone = self.waiting.remove(rule).map_or(0, |events| events.len());
        self.count -= gone;
        gone
    }

    /// How many of a rule wait.
    pub fn len(&self, rule: &str) -> usize {
        self.waiting.get(rule).map_or(0, VecDeque::len)
    }

    /// How many wait in all.
    pub fn total(&self) -> usize {
        self.count
    }

    /// All of a rule that wait.
    pub fn iter(&self, rule: &str) -> impl Iterator<Item = &E> {
        self.waiting.get(rule).into_iter().flatten()
    }
}

/// Up to which version of the objects of a kind everything is delivered: all that was heard of, less the oldest that
/// still waits. Whoever begins there misses nothing.
///
/// Times would not do, since an operator that was away writes down what happened meanwhile with its old time.
pub fn mark(heard: u64, waiting: impl IntoIterator<Item = u64>) -> u64 {
    waiting.into_iter().map(|version| version.saturating_sub(1)).fold(heard, u64::min)
}
