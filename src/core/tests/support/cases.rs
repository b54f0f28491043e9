//! How randomized tests are run: how many cases they try, and that a case that failed is told and not written to a file.

use proptest::prelude::ProptestConfig;

/// `normal` cases, or ten times as many where `BATCHYARD_LONG` is set, as `cargo xtask test
/// --long` does.
pub(crate) fn config(normal: u32) -> ProptestConfig {
    let times = if std::env::var_os("BATCHYARD_LONG").is_some() { 10 } else { 1 };
    ProptestConfig { cases: normal * times, failure_persistence: None, ..ProptestConfig::default() }
}
