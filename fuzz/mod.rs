//! Input that nobody means well: whatever a tenant, a kubelet or a caller sends is read without a panic, and what comes of it
//! keeps its bounds.
//!
//! Each target is a function of bytes. It is fed with changed copies of honest examples ([`mutate`]), by a generator that is
//! the same in each run, so that the smoke run which is part of the unit tests always tries the same inputs. A longer search:
//!
//! ```text
//! BATCHYARD_FUZZ_RUNS=1000000 BATCHYARD_FUZZ_SEED=7 cargo test --lib --release fuzz:: -- --nocapture
//! ```
//!
//! A failure prints the seed and the number of the input, and the input itself. The targets of the AWS door stand in
//! `door.rs`, which is a part of the gateway, whose insides nobody else sees.

mod annotations;
mod logs;
mod mutate;
mod objects;
mod patterns;
mod pods;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) use mutate::Random;

/// How many inputs a smoke run tries of each target.
const SMOKE: u64 = 2_000;

/// A number from the environment, else this one.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Feeds a target with changed copies of examples; says how many it did not refuse at once.
pub(crate) fn run(name: &str, examples: &[&str], target: impl Fn(&[u8]) -> bool) {
    let seed = number("BATCHYARD_FUZZ_SEED", 1);
    let runs = number("BATCHYARD_FUZZ_RUNS", SMOKE);
    for example in examples {
        assert!(target(example.as_bytes()), "{name}: an honest example is refused: {example}");
    }
    let mut read = 0;
    for turn in 0..runs {
        let mut random = Random::new(seed, turn);
        let input = mutate::changed(&mut random, examples);
        match catch_unwind(AssertUnwindSafe(|| target(&input))) {
            Ok(understood) => read += u64::from(understood),
            Err(panic) => {
                println!("{name}: seed {seed}, input {turn}:\n{}", String::from_utf8_lossy(&input));
                resume_unwind(panic);
            }
        }
    }
    println!("{name}: {read} of {runs} inputs were understood");
    // Otherwise nothing but the parser is tried.
    assert!(read * 20 >= runs, "{name}: {read} of {runs} inputs were understood");
}
