//! The lines of a container's log, as the API tells them with `timestamps`: the time to the nanosecond, a space, the
//! text. What the runtime split the kubelet joins, and gives it the time of its first part.

use jiff::Timestamp;

/// A longer line becomes several records: Fluent Bit takes no message without end.
const LONGEST: usize = 1 << 20;

/// When the runtime took a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// As it was told.
    pub(super) text: String,
    /// In nanoseconds since 1970.
    pub(super) nanoseconds: i64,
}

/// A line, or a part of one that is too long for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// When the line was taken.
    pub(super) stamp: Stamp,
    /// The text.
    pub(super) text: Vec<u8>,
    /// The line begins with it.
    pub(super) begins: bool,
    /// The line ends with it.
    pub(super) ends: bool,
}

/// Makes lines of bytes.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// What came of a line that has not ended.
    held: Vec<u8>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// At the beginning of a line.
    #[default]
    Begins,
    /// In a line of which a part was given out.
    Within(Stamp),
    /// In something that is no line of the container.
    Foreign,
}

impl Splitter {
    /// Takes bytes and gives out what is whole. Text without a time is none of the container's: the end of a line that
    /// began before the time from which was asked, or a word of the kubelet.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(Piece)) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let room = LONGEST.saturating_sub(self.held.len()).max(1);
            let (text, rest, ends) = match end {
                Some(at) if at <= room => (&bytes[..at], &bytes[at + 1..], true),
                _ if bytes.len() > room => (&bytes[..room], &bytes[room..], false),
                _ => {
                    self.held.extend_from_slice(bytes);
                    return;
                }
            };
            self.held.extend_from_slice(text);
            self.give(ends, &mut take);
            bytes = rest;
        }
    }

    /// The log is at its end for good: what is held is a line, too.
    pub(super) fn end(&mut self, mut take: impl FnMut(Piece)) {
        if !self.held.is_empty() {
            self.give(true, &mut take);
        }
    }

    fn give(&mut self, ends: bool, take: &mut impl FnMut(Piece)) {
        let held = std::mem::take(&mut self.held);
        let (piece, stamp) = match std::mem::take(&mut self.state) {
            State::Begins => match parse(&held) {
                Some((stamp, text)) => (Some((text.to_vec(), true)), Some(stamp)),
                None => (None, None),
            },
            State::Within(stamp) => (Some((held, false)), Some(stamp)),
            State::Foreign => (None, None),
        };
        if let (Some((text, begins)), Some(stamp)) = (piece, stamp.clone()) {
            take(Piece { stamp, text, begins, ends });
        }
        if !ends {
            self.state = stamp.map_or(State::Foreign, State::Within);
        }
    }
}

/// A line's time, and its text.
fn parse(line: &[u8]) -> Option<(Stamp, &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&line[..at]).ok()?;
    let time: Timestamp = text.parse().ok()?;
    let nanoseconds = i64::try_from(time.as_nanosecond()).ok()?;
    Some((Stamp { text: text.to_owned(), nanoseconds }, &line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-03-01T00:00:00.000000001Z";

    fn pieces(splitter: &mut Splitter, chunks: &[&[u8]]) -> Vec<(String, bool, bool)> {
        let mut all = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |piece| {
                assert_eq!(piece.stamp.nanoseconds, 1_772_323_200_000_000_001);
                all.push((String::from_utf8_lossy(&piece.text).into_owned(), piece.begins, piece.ends));
            });
        }
        all
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let text = format!("{TIME} one\n{TIME} \n{TIME} a b \n");
        let want = ["one", "", "a b "].map(|line| (line.to_owned(), true, true));
        for size in 1..text.len() {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(pieces(&mut Splitter::default(), &chunks), want, "by {size}");
        }
    }

    #[test]
    fn what_has_no_time_is_nobody_s_line() {
        let text =
            format!("end of an older line\n{TIME} one\nfailed to watch the file\n\n{TIME}\n{TIME} two\n");
        let want = ["one", "two"].map(|line| (line.to_owned(), true, true));
        assert_eq!(pieces(&mut Splitter::default(), &[text.as_bytes()]), want);
    }

    #[test]
    fn a_part_of_a_line_is_one_only_at_the_end_of_all() {
        let mut splitter = Splitter::default();
        assert_eq!(pieces(&mut splitter, &[format!("{TIME} half").as_bytes()]), []);
        let mut last = Vec::new();
        splitter.end(|piece| last.push((piece.text, piece.ends)));
        assert_eq!(last, [(b"half".to_vec(), true)]);
        splitter.end(|piece| panic!("{piece:?}"));
    }

    #[test]
    fn a_line_without_end_becomes_several_records() {
        let mut splitter = Splitter::default();
        let mut line = format!("{TIME} ").into_bytes();
        line.extend(std::iter::repeat_n(b'x', 2 * LONGEST));
        line.extend_from_slice(format!("\n{TIME} next\n").as_bytes());
        let found = pieces(&mut splitter, &line.chunks(1000).collect::<Vec<_>>());
        let marks: Vec<_> = found.iter().map(|(_, begins, ends)| (*begins, *ends)).collect();
        assert_eq!(marks, [(true, false), (false, false), (false, true), (true, true)]);
        assert_eq!(found[..3].iter().map(|(text, ..)| text.len()).sum::<usize>(), 2 * LONGEST);
        // One that is not the container's is no more so when it is long.
        let foreign = vec![b'x'; 3 * LONGEST];
        let rest = format!("\n{TIME} next\n");
        let found = pieces(&mut Splitter::default(), &[&foreign, rest.as_bytes()]);
        assert_eq!(found, [("next".to_owned(), true, true)]);
    }
}
