//! Who wants to be told what.

use jiff::{SignedDuration, Timestamp};

use super::moment::{Moment, What};
use crate::name;

/// Clocks of nodes and of the API server may differ by so much.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// What a NotificationRule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Patterns for queues; none: all.
    pub queues: Vec<String>,
    /// Patterns for jobs; none: all.
    pub job_names: Vec<String>,
    /// The moments.
    pub whats: Vec<What>,
    /// Queues that are blocked.
    pub blocked: bool,
    /// When the rule was made: it tells of nothing before that.
    pub since: Timestamp,
}

impl Rule {
    /// True if the rule is about such a job: by its queue (a name, slug or ARN) and by either of its names.
    pub fn is_about(&self, queue: &str, names: [&str; 2]) -> bool {
        self.is_about_queue(queue) && matches_any(&self.job_names, names)
    }

    /// True if the rule is about a queue.
    pub fn is_about_queue(&self, queue: &str) -> bool {
        let name = name::resource(queue);
        matches_any(&self.queues, [name, &name::slug(name)])
    }

    /// True if the rule wants to hear of such a moment.
    pub fn wants(&self, moment: &Moment) -> bool {
        self.whats.contains(&moment.what) && self.is_since(moment.at)
    }

    /// True for what happened since the rule was made, give or take how far clocks differ.
    pub fn is_since(&self, at: Timestamp) -> bool {
        at.duration_since(self.since) >= -SKEW
    }
}

fn matches_any(patterns: &[String], names: [&str; 2]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| names.iter().any(|name| matches(pattern, name)))
}

/// Whether a name matches a pattern, in which `*` stands for any characters, also none.
///
/// ```
/// use batchyard_core::notification::rule::matches;
/// assert!(matches("dcv-*", "dcv-gpu-queue"));
/// assert!(matches("*gpu*", "dcv-gpu-queue"));
/// assert!(!matches("dcv", "dcv-gpu-queue"));
/// ```
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    // The earliest place leaves the most for what follows.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
