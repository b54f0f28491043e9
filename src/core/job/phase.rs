//! The seven phases of an AWS Batch job and the moves between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job is in its life, with AWS's names
/// (<https://docs.aws.amazon.com/batch/latest/userguide/job_states.html>).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// Accepted; what it names (queue, definition, …) may still be missing.
    #[default]
    Submitted,
    /// Waits for another job.
    Pending,
    /// Ready to run; waits for its turn and for room.
    Runnable,
    /// A pod is bound to a node; images are pulled here.
    Starting,
    /// The job's container runs; the timeout clock runs too.
    Running,
    /// Ended with exit code 0. Terminal.
    Succeeded,
    /// Ended in any other way. Terminal.
    Failed,
}

impl Phase {
    /// All phases, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Submitted,
        Self::Pending,
        Self::Runnable,
        Self::Starting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
    ];

    /// True for SUCCEEDED and FAILED: nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// AWS's spelling, as in `status.phase`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Pending => "PENDING",
            Self::Runnable => "RUNNABLE",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    /// The allowed graph. A phase may be skipped when it was too short to be seen, so every
    /// phase reaches every later one; the only way back is to RUNNABLE, for a retry or for a
    /// placement that started nothing.
    pub fn may_become(self, next: Self) -> bool {
        !self.is_terminal() && (next > self || next == Self::Runnable && self >= Self::Runnable)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graph_in_full() {
        use Phase::{Failed, Pending, Runnable, Running, Starting, Submitted, Succeeded};
        let forward_of = |phase| match phase {
            Submitted => vec![Pending, Runnable, Starting, Running, Succeeded, Failed],
            Pending => vec![Runnable, Starting, Running, Succeeded, Failed],
            // To RUNNABLE again: for a retry, or for a pod that started nothing.
            Runnable => vec![Runnable, Starting, Running, Succeeded, Failed],
            Starting => vec![Runnable, Running, Succeeded, Failed],
            Running => vec![Runnable, Succeeded, Failed],
            Succeeded | Failed => vec![],
        };
        for from in Phase::ALL {
            let allowed: Vec<_> = Phase::ALL.into_iter().filter(|to| from.may_become(*to)).collect();
            assert_eq!(allowed, forward_of(from), "from {from}");
            assert_eq!(from.is_terminal(), forward_of(from).is_empty(), "{from}");
        }
    }

    #[test]
    fn spelled_as_aws_does() {
        for phase in Phase::ALL {
            let json = serde_json::to_string(&phase).expect("a phase is a string");
            assert_eq!(json, format!("\"{phase}\""));
            assert_eq!(phase.to_string(), phase.as_str());
            assert_eq!(serde_json::from_str::<Phase>(&json).expect("reads its own"), phase);
        }
        assert_eq!(Phase::default(), Phase::Submitted);
    }
}
