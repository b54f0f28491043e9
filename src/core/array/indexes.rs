//! Sets of indexes as people write and read them: `0-4,7`.

use roaring::RoaringBitmap;

/// The most children that an array has
/// (<https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html>).
pub const MAX_SIZE: u32 = 10_000;

/// The set as numbers and ranges, in order.
///
/// ```
/// use batchyard_core::array::indexes::{parse, text};
/// assert_eq!(text(&parse("7,0-2,3,4").unwrap()), "0-4,7");
/// assert_eq!(text(&parse("").unwrap()), "");
/// ```
pub fn text(set: &RoaringBitmap) -> String {
    join(runs(set), usize::MAX)
}

/// The same in so many bytes at most: what is left out is told by `…`.
pub fn short_text(set: &RoaringBitmap, bytes: usize) -> String {
    join(runs(set), bytes)
}

/// Reads numbers and ranges.
///
/// # Errors
/// A sentence that names what is no index of an array.
pub fn parse(text: &str) -> Result<RoaringBitmap, String> {
    let number = |word: &str| match word.parse::<u32>() {
        Ok(number) if number < MAX_SIZE => Ok(number),
        _ => Err(format!("indexes: {word:?} is no index of an array")),
    };
    let mut set = RoaringBitmap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("indexes: {part:?} ends before it begins"));
        }
        set.insert_range(first..=last);
    }
    Ok(set)
}

/// What a text names, as far as it can be read: one that [`short_text`] cut short names fewer.
pub fn parse_cut(text: &str) -> RoaringBitmap {
    let parts = text.split(',').filter_map(|part| parse(part).ok());
    parts.fold(RoaringBitmap::new(), |all, part| all | part)
}

/// Runs of indexes that follow each other, first and last.
fn runs(set: &RoaringBitmap) -> impl Iterator<Item = (u32, u32)> {
    let mut indexes = set.iter().peekable();
    std::iter::from_fn(move || {
        let first = indexes.next()?;
        let mut last = first;
        while let Some(next) = indexes.next_if(|next| *next == last + 1) {
            last = next;
        }
        Some((first, last))
    })
}

fn join(runs: impl Iterator<Item = (u32, u32)>, bytes: usize) -> String {
    const MORE: &str = "…";
    let mut text = String::new();
    for (first, last) in runs {
        let comma = if text.is_empty() { "" } else { "," };
        let run = if first == last { format!("{comma}{first}") } else { format!("{comma}{first}-{last}") };
        if text.len().saturating_add(run.len()) > bytes.saturating_sub(MORE.len() + 1) {
            return format!("{text}{comma}{MORE}");
        }
        text.push_str(&run);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_set_of_indexes_is_told() {
        for (text, want) in [
            ("10000", "indexes: \"10000\" is no index of an array"),
            ("1-", "indexes: \"\" is no index of an array"),
            ("a", "indexes: \"a\" is no index of an array"),
            ("7-3", "indexes: \"7-3\" ends before it begins"),
            ("-1", "indexes: \"\" is no index of an array"),
        ] {
            assert_eq!(parse(text).expect_err(text), want);
        }
    }

    #[test]
    fn what_is_named_twice_is_there_once() {
        for read in [parse("1-3,2-4").expect("indexes"), parse_cut("1-3,2-4")] {
            assert_eq!(text(&read), "1-4");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_numbers() {
        let set: RoaringBitmap = (0..100).map(|n| n * 2).collect();
        let cut = short_text(&set, 16);
        assert_eq!(cut, "0,2,4,6,8,10,…");
        assert_eq!(parse_cut(&cut).len(), 6);
        assert_eq!(short_text(&set, 4096), text(&set));
    }

    proptest! {
        #![proptest_config(crate::cases::config(256))]

        #[test]
        fn a_set_is_what_its_text_says(set: std::collections::BTreeSet<u16>) {
            let set: RoaringBitmap = set.into_iter().map(u32::from).filter(|n| *n < MAX_SIZE).collect();
            prop_assert_eq!(parse(&text(&set)).unwrap(), set.clone());
            let cut = short_text(&set, 40);
            prop_assert!(cut.len() <= 40);
            prop_assert!(parse_cut(&cut).is_subset(&set));
        }
    }
}
