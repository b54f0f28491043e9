//! FilterLogEvents (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>): the
//! events of many streams in the order of their times. This is what `aws logs tail` asks, again and again.
//!
//! Streams are taken a batch at a time, by name. Of a batch every stream is read until it has no more events among the
//! first of all; those are the page. Memory is bounded by the page and a line of each stream that is read.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::name::fnv1a;
use futures::{AsyncBufRead, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::super::call::{Call, input};
use super::super::failure::Failure;
use super::super::page::{open, seal};
use super::events::{BYTES, MOST};
use super::lines::{DISORDER, Event, Lines};
use super::pattern::Pattern;
use super::read::Unread;
use super::streams::Stream;
use super::{Group, Window, limit};

/// So many streams may be named, and are read for one page.
const BATCH: usize = 100;
/// So many of a call are read at a time.
const AT_ONCE: usize = 8;
/// When so much was read, or for so long, no other stream is begun for this page.
const ENOUGH: u64 = 64 * 1024 * 1024;
const LONG: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    #[serde(default)]
    filter_pattern: String,
    next_token: Option<String>,
    limit: Option<i64>,
    /// AWS takes it as true whatever is said.
    #[serde(rename = "interleaved")]
    _interleaved: Option<bool>,
    /// Nothing is masked.
    #[serde(rename = "unmask")]
    _unmask: Option<bool>,
}

/// By which events of several streams are in order, whenever they are read.
type Key = (i64, String, u32);

/// Where a list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    /// The batch begins with this stream,
    from: String,
    /// and ends before this one.
    to: Option<String>,
    /// Behind this event of the batch.
    after: Option<Key>,
}

/// Which events are wanted.
struct Wanted {
    window: Window,
    pattern: Pattern,
    most: usize,
    after: Option<Key>,
}

impl Wanted {
    fn has(&self, stream: &str, event: &Event) -> bool {
        let millis = event.millis();
        let is_new = self.after.as_ref().is_none_or(|(nanos, name, same)| {
            (event.nanos, stream, event.same) > (*nanos, name.as_str(), *same)
        });
        is_new
            && self.window.start.is_none_or(|start| start <= millis)
            && self.window.end.is_none_or(|end| millis <= end)
            && self.pattern.matches(&event.text)
    }

    /// The second from which on there may be something.
    fn from(&self) -> i64 {
        let start = self.window.start.map_or(0, |start| start.div_euclid(1000));
        let after = self.after.as_ref().map_or(0, |(nanos, ..)| nanos.div_euclid(1_000_000_000));
        start.max(after)
    }

    /// True if a stream may have something.
    fn may_have(&self, stream: &Stream) -> bool {
        let from = self.from();
        let ends = stream.stopped.map(|stopped| stopped.as_second().saturating_add(DISORDER));
        ends.is_none_or(|ends| ends >= from)
            && self.window.end.is_none_or(|end| stream.started.as_second() <= end.div_euclid(1000))
    }
}

/// The first events of those that were read.
#[derive(Default)]
struct Page {
    events: BTreeMap<Key, Event>,
    bytes: usize,
    /// Some did not fit.
    cut: bool,
}

impl Page {
    fn take(&mut self, stream: &str, event: Event, most: usize) {
        self.bytes += event.size();
        self.events.insert((event.nanos, stream.to_owned(), event.same), event);
        while self.events.len() > most || (self.events.len() > 1 && self.bytes > BYTES) {
            self.bytes -= self.events.pop_last().map_or(0, |(_, event)| event.size());
            self.cut = true;
        }
    }

    /// True if nothing behind an event has room.
    fn is_past(&self, event: &Event) -> bool {
        let last = self.events.last_key_value().filter(|_| self.cut);
        last.is_some_and(|((nanos, ..), _)| event.nanos > nanos.saturating_add(DISORDER * 1_000_000_000))
    }
}

pub(super) async fn filter_log_events(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Filter = input(body)?;
    let group = Group::read(call, asked.log_group_name, asked.log_group_identifier)?;
    let names = asked.log_stream_names.as_deref();
    if names.is_some_and(|names| names.is_empty() || names.len() > BATCH) {
        return Err(Failure::client(format!("logStreamNames must have 1 to {BATCH} elements")));
    }
    if names.is_some() && asked.log_stream_name_prefix.is_some() {
        return Err(Failure::client("logStreamNames and logStreamNamePrefix cannot both be given"));
    }
    let list = format!("filter {:016x}", fnv1a(group.0.as_bytes()));
    let token = match asked.next_token.as_deref() {
        None => Token::default(),
        Some(text) => open(&list, text)
            .and_then(|key| serde_json::from_str(&key).ok())
            .ok_or_else(|| Failure::client("The specified nextToken is invalid."))?,
    };
    let wanted = Wanted {
        window: Window::read(asked.start_time, asked.end_time)?,
        pattern: Pattern::read(&asked.filter_pattern)?,
        most: limit(asked.limit, MOST)?.unwrap_or(MOST),
        after: token.after.clone(),
    };
    let mut streams = match names {
        Some(names) => call.named_streams(&group, names).await?,
        None => call.streams_of(&group, asked.log_stream_name_prefix.as_deref().unwrap_or_default()).await?,
    };
    streams.retain(|stream| stream.name >= token.from && wanted.may_have(stream));
    if let Some(to) = &token.to {
        streams.retain(|stream| stream.name < *to);
    }
    let beyond = streams.get(BATCH).map(|stream| stream.name.clone()).or_else(|| token.to.clone());
    streams.truncate(BATCH);
    let (page, unread) = read(call, &streams, &wanted, names.is_some()).await?;
    let to = unread.or(beyond);
    let next = match page.events.last_key_value().filter(|_| page.cut) {
        Some((last, _)) => Some(Token { from: token.from, to, after: Some(last.clone()) }),
        None => to.map(|from| Token { from, ..Token::default() }),
    };
    let next = next.map(|token| seal(&list, &json!(token).to_string()));
    let events: Vec<Value> = page.events.iter().map(|((_, stream, _), event)| told(stream, event)).collect();
    // AWS tells of no streams any more.
    Ok(json!({"events": events, "searchedLogStreams": [], "nextToken": next}))
}

/// Reads a batch. If it is enough before its end, the first stream that was not begun comes along.
async fn read(
    call: &Call,
    streams: &[Stream],
    wanted: &Wanted,
    named: bool,
) -> Result<(Page, Option<String>), Failure> {
    let page = Mutex::new(Page::default());
    let (read, enough, began) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let unread = Mutex::new(None);
    let failed = Mutex::new(None);
    stream::iter(streams)
        .for_each_concurrent(AT_ONCE, |stream| async {
            if enough.load(Ordering::Relaxed)
                || read.load(Ordering::Relaxed) > ENOUGH
                || began.elapsed() > LONG
            {
                // Whoever comes later in the order of names has not begun either.
                enough.store(true, Ordering::Relaxed);
                locked(&unread).get_or_insert_with(|| stream.name.clone());
                return;
            }
            let outcome = async {
                let (lines, _turn) = call.read(stream, wanted.from()).await?;
                let bytes = one(lines, stream, wanted, &page).await;
                bytes.map_err(|error| super::broken(stream, &error))
            };
            match outcome.await {
                Ok(bytes) => drop(read.fetch_add(bytes, Ordering::Relaxed)),
                // One node that does not answer hides nothing of the others.
                Err(Unread::Stream(failure)) if !named => {
                    info!(stream = stream.name, why = failure.message(), "a stream is left out");
                }
                Err(unread) => drop(locked(&failed).get_or_insert(unread.into())),
            }
        })
        .await;
    let inner = |failed: Mutex<Option<_>>| failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match inner(failed) {
        Some(failure) => Err(failure),
        None => Ok((
            page.into_inner().unwrap_or_else(PoisonError::into_inner),
            unread.into_inner().unwrap_or_else(PoisonError::into_inner),
        )),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads one stream as far as it matters, and says how much that was.
async fn one<R: AsyncBufRead + Unpin>(
    mut lines: Lines<R>,
    stream: &Stream,
    wanted: &Wanted,
    page: &Mutex<Page>,
) -> io::Result<u64> {
    while let Some(event) = lines.next().await? {
        if wanted.window.is_over(&event) || locked(page).is_past(&event) {
            break;
        }
        if wanted.has(&stream.name, &event) {
            locked(page).take(&stream.name, event, wanted.most);
        }
    }
    Ok(lines.bytes)
}

/// An event has the same id whenever it is told: by that `aws logs tail` knows what it has shown.
fn told(stream: &str, event: &Event) -> Value {
    let id = format!("{:020}{:020}{:016}", event.nanos.max(0), fnv1a(stream.as_bytes()), event.same);
    json!({"logStreamName": stream, "timestamp": event.millis(), "message": event.text,
        "ingestionTime": event.millis(), "eventId": id})
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::BufReader;
    use jiff::Timestamp;

    use super::*;

    fn stream(name: &str) -> Stream {
        Stream { name: name.to_owned(), ..Stream::default() }
    }

    fn wanted(most: usize, after: Option<Key>) -> Wanted {
        Wanted { window: Window::default(), pattern: Pattern::default(), most, after }
    }

    /// Line n of the stream with number m is n × 3 + m: together they count.
    fn output(number: i64, from: i64) -> String {
        let line = |n: i64| {
            let at = Timestamp::from_millisecond((n * 3 + number) * 100).expect("a time");
            (at.as_second() >= from).then(|| format!("{at} {}\n", n * 3 + number))
        };
        (0..100).filter_map(line).collect()
    }

    fn page(wanted: &Wanted) -> Page {
        let page = Mutex::new(Page::default());
        for (number, name) in ["c", "a", "b"].iter().enumerate() {
            let text = output(number as i64, wanted.from());
            let lines = Lines::of(BufReader::new(text.as_bytes()), wanted.from(), true);
            block_on(one(lines, &stream(name), wanted, &page)).expect("it does not break off");
        }
        page.into_inner().expect("nobody panicked")
    }

    #[test]
    fn events_of_streams_are_told_in_the_order_of_their_times() {
        for most in [1, 10, 299, 300, 1000] {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = page(&wanted(most, after));
                all.extend(page.events.values().map(|event| event.text.parse::<i64>().expect("a number")));
                if !page.cut {
                    break;
                }
                after = page.events.last_key_value().map(|(key, _)| key.clone());
            }
            assert_eq!(all, (0..300).collect::<Vec<_>>(), "by {most}");
        }
    }

    #[test]
    fn what_is_not_wanted_is_left_out() {
        let mut some = wanted(1000, None);
        some.window = Window { start: Some(1000), end: Some(3000) };
        some.pattern = Pattern::read("?2 ?7").expect("a pattern");
        let texts: Vec<String> = page(&some).events.into_values().map(|event| event.text).collect();
        assert_eq!(texts, ["12", "17", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29"]);
        // The end is part of it.
        some.pattern = Pattern::default();
        assert_eq!(page(&some).events.len(), 21);
    }

    #[test]
    fn streams_that_ended_before_are_not_read() {
        let second = |second| Timestamp::from_second(second).expect("a time");
        let mut some = wanted(1, None);
        some.window = Window { start: Some(100_000), end: Some(200_000) };
        for (started, stopped, may) in [
            (50, Some(97), false),
            (50, Some(99), true),
            (50, None, true),
            (150, None, true),
            (201, None, false),
        ] {
            let stream = Stream { started: second(started), stopped: stopped.map(second), ..stream("s") };
            assert_eq!(some.may_have(&stream), may, "{started} to {stopped:?}");
        }
    }

    #[test]
    fn ids_stay_the_same() {
        let text = "2026-11-27T08:00:01.000000005Z a\n2026-11-27T08:00:01.000000005Z b\n";
        let ids = |stream: &str| -> Vec<Value> {
            let events = super::super::lines::tests::events(text, 0, true, 64);
            events.iter().map(|event| told(stream, event)["eventId"].clone()).collect()
        };
        let found = ids("s");
        assert_eq!(found, ids("s"));
        assert!(found[0] != found[1] && ids("t")[0] != found[0], "{found:?}");
        assert_eq!(found[0].as_str().map(str::len), Some(56));
    }
}
