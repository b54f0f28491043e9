//! Changed copies of examples. JSON is changed as JSON most of the time, so that what reads it gets further than to its parser.

use serde_json::{Value, json};

/// A generator of numbers (SplitMix64), the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, turn: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ turn.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Texts that mean something to somebody, or that somebody may not expect.
const TEXTS: &[&str] = &[
    "",
    "*",
    "**",
    "a*",
    "*a",
    ".",
    "..",
    "/",
    "//",
    "/../../etc",
    "a/b",
    "a:b:c",
    ":",
    "::",
    "#",
    "-",
    "--",
    "=",
    ",",
    ";",
    "\u{0}",
    "\n",
    "\r\n",
    "\t",
    "\u{7f}",
    "\u{202e}",
    "\u{feff}",
    "é",
    "漢字",
    "🦀",
    "\"",
    "'",
    "\\",
    "${HOME}",
    "$(X)",
    "$$",
    "{",
    "}",
    "[",
    "]",
    "{}",
    "[]",
    "null",
    "true",
    "~",
    "0",
    "-1",
    "00",
    "1e308",
    "0x1",
    "9999999999999999999",
    "4294967296",
    "-9223372036854775808",
    "1.5",
    "100m",
    "64Mi",
    "1e3Ki",
    "Ei",
    "i",
    "default",
    "batchyard.io/",
    "batchyard.io/job",
    "a/1",
    "Host EC2*",
    "2026-01-01T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "+999999-01-01T00:00:00Z",
    "arn:aws:batch:::",
    "arn:",
    "arn:aws:batch:us-east-1:1:job-definition/a:1",
    "Ref::",
    "Ref::x",
    "--network=host",
    "%2e%2e",
    "%",
    "%zz",
    "%00",
    "RETRY",
    "EXIT",
    "Evicted",
    "OOMKilled",
    "SUCCESS",
    "START",
    "Running",
    "Failed",
    "ALL",
    "CAP_SYS_ADMIN",
];

/// Up to eight changes of one of the examples.
pub(super) fn changed(random: &mut Random, examples: &[&str]) -> Vec<u8> {
    let example = *random.of(examples);
    let other = *random.of(examples);
    let changes = 1 + random.below(8);
    // As bytes, one time in five, and what is no JSON always.
    let as_json = random.below(5) > 0;
    let (Ok(mut value), true) = (serde_json::from_str::<Value>(example), as_json) else {
        let mut bytes = example.as_bytes().to_vec();
        (0..changes).for_each(|_| change_bytes(random, &mut bytes, other.as_bytes()));
        return bytes;
    };
    let other = serde_json::from_str(other).unwrap_or_else(|_| json!(other));
    (0..changes).for_each(|_| change_value(random, &mut value, &other));
    value.to_string().into_bytes()
}

fn change_bytes(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    match random.below(6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 => bytes.truncate(at),
        3 => {
            let text = random.of(TEXTS).as_bytes().iter().copied();
            bytes.splice(at..at, text);
        }
        4 => {
            let from = random.below(other.len() + 1);
            let piece = &other[from..(from + random.below(40)).min(other.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        _ => {
            let byte = u8::try_from(random.below(256)).unwrap_or(0);
            bytes.insert(at, byte);
        }
    }
}

/// Changes a value at a place by chance.
fn change_value(random: &mut Random, value: &mut Value, other: &Value) {
    let deeper = random.below(8) > 0;
    match value {
        Value::Object(members) if deeper && !members.is_empty() => {
            let key = members.keys().nth(random.below(members.len())).cloned().unwrap_or_default();
            match random.below(12) {
                0 => drop(members.remove(&key)),
                1 => {
                    let moved = members.remove(&key).unwrap_or_default();
                    members.insert(text(random), moved);
                }
                2 => drop(members.insert(text(random), leaf(random))),
                3 => drop(members.insert(key, piece(random, other))),
                _ => {
                    if let Some(member) = members.get_mut(&key) {
                        change_value(random, member, other);
                    }
                }
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(10) {
                0 => drop(items.remove(at)),
                1 => {
                    let item = items[at].clone();
                    (0..random.below(30)).for_each(|_| items.push(item.clone()));
                }
                2 => items.insert(at, leaf(random)),
                _ => change_value(random, &mut items[at], other),
            }
        }
        Value::String(said) if deeper => match random.below(4) {
            0 => said.push_str(random.of::<&str>(TEXTS)),
            1 => said.insert_str(0, random.of::<&str>(TEXTS)),
            2 => *said = said.chars().rev().take(random.below(20)).collect(),
            _ => *said = text(random),
        },
        Value::Number(number) if deeper => {
            let near = number.as_i64().unwrap_or(0);
            let change = i64::try_from(random.below(5)).unwrap_or(0) - 2;
            *value = json!(near.saturating_add(change));
        }
        other => *other = leaf(random),
    }
}

/// Something that stands in another example.
fn piece(random: &mut Random, value: &Value) -> Value {
    let below = match value {
        Value::Object(members) if !members.is_empty() => members.values().nth(random.below(members.len())),
        Value::Array(items) if !items.is_empty() => items.get(random.below(items.len())),
        _ => None,
    };
    match below {
        Some(below) if random.below(3) > 0 => piece(random, below),
        _ => value.clone(),
    }
}

fn text(random: &mut Random) -> String {
    let text = *random.of(TEXTS);
    match random.below(12) {
        0 => text.repeat(random.below(3_000)),
        _ => text.to_owned(),
    }
}

fn leaf(random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(*random.of(&[
            0,
            1,
            -1,
            9,
            10,
            10_000,
            i64::from(i32::MAX),
            i64::from(i32::MIN),
            i64::MAX,
            i64::MIN
        ])),
        3 => json!(*random.of(&[0.5, -0.0, 1e300, f64::MIN_POSITIVE])),
        4 => json!([]),
        5 => json!({}),
        6 => (0..random.below(120)).fold(json!("x"), |inner, _| json!([inner])),
        _ => json!(text(random)),
    }
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let examples = [r#"{"a": [1, "x", {"b": null}]}"#, "plain"];
    let all = |seed: u64| -> Vec<_> {
        (0..200).map(|turn| changed(&mut Random::new(seed, turn), &examples)).collect()
    };
    assert_eq!(all(3), all(3));
    assert_ne!(all(3), all(4));
}
