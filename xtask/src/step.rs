//! Progress: one line when a step starts to take long, one when it is done, each with the time.

use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A step that takes longer than this says so, again and again, so that nobody (and no CI
/// system with an idle limit) takes a long build for a hanging one.
const REMINDER: Duration = Duration::from_secs(30);

/// A step that is done sooner prints a single line.
const QUIET: Duration = Duration::from_secs(1);

/// When the program printed its first step; every line shows the time since then.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

/// The time since the first line, as it stands in front of each.
pub fn elapsed() -> String {
    let seconds = beginning().elapsed().as_secs();
    format!("[{:>2}:{:02}]", seconds / 60, seconds % 60)
}

/// Prints a line with the time since the first one in front.
pub fn say(line: impl AsRef<str>) {
    println!("{} {}", elapsed(), line.as_ref());
}

/// Runs one step, says how long it took, and names it in the error if it fails.
pub fn step<T>(title: impl AsRef<str>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let title = title.as_ref();
    beginning();
    let start = Instant::now();
    let (finished, waiting) = mpsc::channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || remind(title, start, &waiting));
        let result = work();
        drop(finished);
        result
    });
    match &result {
        Ok(_) => say(format!("✓ {title} ({:.1} s)", start.elapsed().as_secs_f32())),
        Err(_) => say(format!("✗ {title} ({:.1} s)", start.elapsed().as_secs_f32())),
    }
    result.with_context(|| title.to_owned())
}

fn remind(title: &str, start: Instant, waiting: &mpsc::Receiver<()>) {
    let mut pause = QUIET;
    while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        if pause == QUIET {
            say(format!("… {title}"));
        } else {
            say(format!("… {title}: {} s so far", start.elapsed().as_secs()));
        }
        pause = REMINDER;
    }
}
