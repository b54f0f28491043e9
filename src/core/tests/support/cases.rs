//! How many cases a randomized test tries.

/// `normal` cases, or ten times as many where `BATCHYARD_LONG` is set, as `cargo xtask test
/// --long` does.
pub(crate) fn cases(normal: u32) -> u32 {
    if std::env::var_os("BATCHYARD_LONG").is_some() { normal * 10 } else { normal }
}
