//! Bugs that the tests of faults switch on, to see that they would find them: `tests/faults/bugs.rs`.
//!
//! They exist only in programs that are built with the feature `fault-tests`; everywhere else
//! [`has`] is false, and the compiler leaves nothing of them.

/// Something that an operator could do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "fault-tests", derive(clap::ValueEnum))]
pub enum Bug {
    /// Pods have no finalizer.
    NoFinalizer,
    /// The finalizer comes off before the outcome is recorded.
    ReleasesFirst,
    /// It does not know which pods it has recorded.
    ForgetsRecords,
    /// Pods get a name that chance has a part in.
    RandomNames,
    /// A pod that exists already is taken for a refusal.
    ExistsIsFinal,
    /// Statuses are written whatever they were meanwhile.
    WritesByForce,
    /// The finalizer never comes off.
    NeverReleases,
    /// `maxvCpus` has no effect.
    AdmitsTooMuch,
    /// terminate and cancel have no effect.
    ForgetsOrders,
    /// Of the entries of `evaluateOnExit` the last one that matches decides.
    LastRuleWins,
    /// Each job has one attempt more than it should.
    OneAttemptMore,
    /// Pods of deleted jobs are left alone.
    KeepsOrphans,
    /// What failed once is not tried again.
    ErrorsAreFinal,
    /// Every failure has exit code 1.
    LosesExitCodes,
    /// Only the last attempt stays in the record.
    ShortMemory,
}

/// True if this program has the bug.
#[cfg(feature = "fault-tests")]
pub fn has(bug: Bug) -> bool {
    SEEDED.get() == Some(&bug)
}

/// True if this program has the bug: never.
#[cfg(not(feature = "fault-tests"))]
pub fn has(_: Bug) -> bool {
    false
}

#[cfg(feature = "fault-tests")]
static SEEDED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Gives this program a bug.
#[cfg(feature = "fault-tests")]
pub fn seed(bug: Bug) {
    let _ = SEEDED.set(bug);
}
