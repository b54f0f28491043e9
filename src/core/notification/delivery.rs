//! How notifications are delivered: after which pauses, for how long, and what an answer means.

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

/// Up to which version of the objects of a kind everything is delivered: all that was heard of, less the oldest that
/// still waits. Whoever begins there misses nothing.
///
/// Times would not do, since an operator that was away writes down what happened meanwhile with its old time.
pub fn mark(heard: u64, waiting: impl IntoIterator<Item = u64>) -> u64 {
    waiting.into_iter().map(|version| version.saturating_sub(1)).fold(heard, u64::min)
}
