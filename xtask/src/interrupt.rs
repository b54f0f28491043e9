//! Ctrl-C: remembered rather than obeyed at once, so that what was begun can be put back.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

static ASKED: AtomicBool = AtomicBool::new(false);
static CLEANING: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and SIGTERM) ends the next wait with an error instead of the program.
///
/// Programs that this one runs in the foreground get the signal themselves and end. Once
/// [`clean_up_begins`] was called, the signal ends the program after all.
pub fn watch() -> Result<()> {
    ctrlc::set_handler(|| {
        if CLEANING.load(Ordering::SeqCst) {
            eprintln!("\nnot cleaned up; `cargo xtask cluster down` does that");
            std::process::exit(130);
        }
        if !ASKED.swap(true, Ordering::SeqCst) {
            eprintln!("\ninterrupted; cleaning up (once more leaves everything as it is)");
        }
    })
    .context("cannot watch for Ctrl-C")
}

/// An error if somebody wants the program to end.
pub fn check() -> Result<()> {
    if was_asked() {
        bail!("interrupted");
    }
    Ok(())
}

/// Whether somebody wants the program to end.
pub fn was_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Waits succeed again, so that things can be put back.
pub fn clean_up_begins() {
    CLEANING.store(true, Ordering::SeqCst);
    ASKED.store(false, Ordering::SeqCst);
}

/// Cleaning up is over; `asked` says whether somebody had wanted the program to end before.
pub fn clean_up_ends(asked: bool) {
    CLEANING.store(false, Ordering::SeqCst);
    if asked {
        ASKED.store(true, Ordering::SeqCst);
    }
}
