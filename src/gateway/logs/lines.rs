//! A container's output as events: each line has a time before it, as the kubelet tells it.
//!
//! Lines come in the order in which they were written; those of stdout and stderr may be some microseconds apart from
//! that of their times. What was read is known again by a [`Position`], which says how many of the lines from a second on
//! it was: output is only ever added to, so that a later reading from that second finds the same lines.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use jiff::Timestamp;

/// A longer line is several events, as with the log driver of Docker
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html>).
pub(super) const LONGEST: usize = 256 * 1024;
/// By how many seconds a line may be older than one before it.
pub(super) const DISORDER: i64 = 2;
/// The longest time before a line: `2026-11-27T08:29:52.123456789+00:00`.
const STAMP: usize = 40;
const SECOND: i64 = 1_000_000_000;
/// So many seconds with output are counted.
const SECONDS: usize = 16;
/// Of so many times it is known how many lines had them.
const TIMES: usize = 16;

/// Where in the output something is: behind so many of the lines that are of this second or later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) second: i64,
    pub(super) lines: u64,
}

/// A line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// When it was written, in nanoseconds.
    pub(super) nanos: i64,
    /// How many had the same time before it.
    pub(super) same: u32,
    pub(super) text: String,
    pub(super) before: Position,
    pub(super) after: Position,
}

impl Event {
    pub(super) fn millis(&self) -> i64 {
        self.nanos.div_euclid(1_000_000)
    }

    /// How much of an answer it takes up, as AWS counts.
    pub(super) fn size(&self) -> usize {
        self.text.len() + 26
    }
}

/// Reads the lines of an output.
pub(super) struct Lines<R> {
    source: R,
    /// The second from which on it is read.
    from: i64,
    /// What is not ended by a newline is a line: nothing follows.
    over: bool,
    line: Vec<u8>,
    /// When the line was written of which some was told.
    goes_on: Option<i64>,
    seconds: BTreeMap<i64, u64>,
    times: VecDeque<(i64, u32)>,
    /// So many bytes were read.
    pub(super) bytes: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Of an output that is read from a second on. `over` says that nothing is written any more.
    pub(super) fn of(source: R, from: i64, over: bool) -> Self {
        Self {
            source,
            from,
            over,
            line: Vec::new(),
            goes_on: None,
            seconds: BTreeMap::new(),
            times: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The next event. Lines that say nothing are none, and neither is what has no time before it: that the kubelet says,
    /// of an output that is gone.
    ///
    /// # Errors
    /// When the output breaks off.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            let ended = self.piece().await?;
            let line = std::mem::take(&mut self.line);
            if line.is_empty() && ended.is_none() {
                return Ok(None);
            }
            let known = self.goes_on.take();
            let (nanos, text) = match known {
                Some(nanos) => (Some(nanos), &line[..]),
                None => stamped(&line),
            };
            match ended {
                // More may be written to it, and then it is told whole.
                None if !self.over => return Ok(None),
                Some(false) => self.goes_on = nanos,
                _ => {}
            }
            if let Some(nanos) = nanos.filter(|_| !text.is_empty()) {
                return Ok(Some(self.event(nanos, String::from_utf8_lossy(text).into_owned())));
            }
        }
    }

    /// Reads to the end of a line: true; to the end of a part of it: false; or to that of the output.
    async fn piece(&mut self) -> io::Result<Option<bool>> {
        let most = LONGEST + if self.goes_on.is_none() { STAMP } else { 0 };
        loop {
            let chunk = self.source.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let chunk = &chunk[..chunk.len().min(most - self.line.len())];
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(chunk.len(), |at| at + 1);
            self.line.extend_from_slice(&chunk[..newline.unwrap_or(taken)]);
            self.source.consume_unpin(taken);
            self.bytes += taken as u64;
            if newline.is_some() {
                return Ok(Some(true));
            }
            if self.line.len() >= most {
                return Ok(Some(false));
            }
        }
    }

    fn event(&mut self, nanos: i64, text: String) -> Event {
        let second = nanos.div_euclid(SECOND);
        // Whoever goes on here reads a little more, and finds what comes late.
        let begin = (second - DISORDER).max(self.from);
        let position = |seconds: &BTreeMap<i64, u64>| Position {
            second: begin,
            lines: seconds.range(begin..).map(|(_, count)| count).sum(),
        };
        let before = position(&self.seconds);
        *self.seconds.entry(second).or_default() += 1;
        let after = position(&self.seconds);
        if self.seconds.len() > SECONDS {
            self.seconds.pop_first();
        }
        let same = match self.times.iter_mut().find(|(time, _)| *time == nanos) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.times.push_back((nanos, 0));
                if self.times.len() > TIMES {
                    self.times.pop_front();
                }
                0
            }
        };
        Event { nanos, same, text, before, after }
    }
}

/// The time before a line, and what follows it.
fn stamped(line: &[u8]) -> (Option<i64>, &[u8]) {
    let end = line.iter().take(STAMP).position(|byte| *byte == b' ').unwrap_or(line.len().min(STAMP));
    let stamp = std::str::from_utf8(&line[..end]).ok().and_then(|text| text.parse::<Timestamp>().ok());
    let nanos = stamp.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    (nanos, line.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests {
    use futures::io::BufReader;

    use super::*;

    /// All events of an output, read by so many bytes at a time.
    pub(in crate::gateway::logs) fn events(output: &str, from: i64, over: bool, buffer: usize) -> Vec<Event> {
        let reader = BufReader::with_capacity(buffer, output.as_bytes());
        let mut lines = Lines::of(reader, from, over);
        let mut found = Vec::new();
        while let Some(event) = futures::executor::block_on(lines.next()).expect("it does not break off") {
            found.push(event);
        }
        found
    }

    fn texts(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.text.as_str()).collect()
    }

    #[test]
    fn lines_are_events_with_times() {
        let output = "2026-11-27T08:00:01.123456789Z one\n2026-11-27T09:00:01.2+01:00 two  words \n\
                      2026-11-27T08:00:02Z \nunable to retrieve container logs\n2026-11-27T08:00:03Z half";
        for buffer in [1, 7, 4096] {
            let found = events(output, 0, true, buffer);
            assert_eq!(texts(&found), ["one", "two  words ", "half"]);
            assert_eq!(found[0].nanos % 1_000_000_000, 123_456_789);
            assert_eq!(found[1].millis() - found[0].millis(), 77);
            assert_eq!(texts(&events(output, 0, false, buffer)), ["one", "two  words "], "it may go on");
        }
    }

    #[test]
    fn long_lines_are_several_events_and_bytes_need_be_no_text() {
        let long = format!("2026-11-27T08:00:01.5Z {}\n2026-11-27T08:00:02Z next\n", "x".repeat(LONGEST * 2));
        let found = events(&long, 0, false, 4096);
        let total: usize = found.iter().map(|event| event.text.len()).sum();
        assert_eq!((total, texts(&found[found.len() - 1..])), (LONGEST * 2 + 4, vec!["next"]));
        assert!(found.iter().all(|event| event.text.len() <= LONGEST + STAMP));
        assert_eq!((found[0].same, found[1].same, found[1].nanos), (0, 1, found[0].nanos));
        let reader = BufReader::new(&b"2026-11-27T08:00:01Z a\xffb\n"[..]);
        let event =
            futures::executor::block_on(Lines::of(reader, 0, true).next()).expect("bytes").expect("one");
        assert_eq!(event.text, "a\u{fffd}b");
    }

    #[test]
    fn a_position_finds_the_same_line_again() {
        // 300 lines, 50 of a second, and now and then one that is older than that before it.
        let nanos =
            |line: i64| 1_000 * SECOND + line * (SECOND / 50) - if line % 7 == 0 { SECOND / 3 } else { 0 };
        let write = |from: i64| -> String {
            let stamp = |line| Timestamp::from_nanosecond(i128::from(nanos(line))).expect("a time");
            let lines = (0..300).filter(|line| nanos(*line) >= from * SECOND);
            lines.map(|line| format!("{} {line}\n", stamp(line))).collect()
        };
        let all = events(&write(0), 0, true, 4096);
        assert_eq!(all.len(), 300);
        for (at, event) in all.iter().enumerate() {
            let again = events(&write(event.after.second), event.after.second, true, 4096);
            let rest: Vec<&str> = texts(&again).split_off(event.after.lines as usize);
            assert_eq!(rest, texts(&all[at + 1..]), "behind {at}");
            assert_eq!(again[event.before.lines as usize].text, event.text);
        }
    }
}
