//! GetLogEvents (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html>): one stream,
//! from its beginning or its end, in either direction.

use std::collections::VecDeque;
use std::io;

use batchyard_core::name::fnv1a;
use futures::AsyncBufRead;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, input};
use super::super::failure::Failure;
use super::super::page::{open, seal};
use super::lines::{DISORDER, Event, Lines, Position};
use super::{Group, Window, limit};

/// So many events an answer has at most, and so many bytes.
pub(super) const MOST: usize = 10_000;
pub(super) const BYTES: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Get {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    start_from_head: bool,
    /// Nothing is masked.
    #[serde(rename = "unmask")]
    _unmask: Option<bool>,
}

/// Where a reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Forward(Position),
    Backward(Position),
}

impl Token {
    fn read(stream: &str, text: &str) -> Result<Self, Failure> {
        let position = |text: &str| {
            let key = open(&list(stream), text)?;
            let (second, lines) = key.split_once('/')?;
            Some(Position { second: second.parse().ok()?, lines: lines.parse().ok()? })
        };
        let found = match text.split_once('/') {
            Some(("f", rest)) => position(rest).map(Self::Forward),
            Some(("b", rest)) => position(rest).map(Self::Backward),
            _ => None,
        };
        found.ok_or_else(|| Failure::client("The specified nextToken is invalid."))
    }

    fn show(self, stream: &str) -> String {
        let (direction, Position { second, lines }) = match self {
            Self::Forward(position) => ("f", position),
            Self::Backward(position) => ("b", position),
        };
        format!("{direction}/{}", seal(&list(stream), &format!("{second}/{lines}")))
    }
}

fn list(stream: &str) -> String {
    format!("events {:016x}", fnv1a(stream.as_bytes()))
}

pub(super) async fn get_log_events(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Get = input(body)?;
    let group = Group::read(call, asked.log_group_name, asked.log_group_identifier)?;
    // AWS wants the time after which there is nothing to be left out here, and told in FilterLogEvents.
    let window = Window::read(asked.start_time, asked.end_time)?;
    let most = limit(asked.limit, MOST)?.unwrap_or(MOST);
    let name = asked.log_stream_name.as_str();
    let token = asked.next_token.as_deref().map(|text| Token::read(name, text)).transpose()?;
    let stream = call.stream(&group, name).await?;
    let first = window.start.map_or(0, |start| start.div_euclid(1000));
    let from = match token {
        Some(Token::Forward(position)) => position.second,
        Some(Token::Backward(position)) => first.min(position.second),
        None => first,
    };
    let (lines, _turn) = call.read(&stream, from).await?;
    let page = match (token, asked.start_from_head) {
        (Some(Token::Forward(position)), _) => forward(lines, position.lines, &window, most).await,
        (Some(Token::Backward(position)), _) => backward(lines, Some(position), &window, most).await,
        (None, true) => forward(lines, 0, &window, most).await,
        (None, false) => backward(lines, None, &window, most).await,
    };
    let page = page.map_err(|error| super::broken(&stream, &error))?;
    let at = match token {
        Some(Token::Forward(position) | Token::Backward(position)) => position,
        None => Position { second: from, lines: 0 },
    };
    let forward = Token::Forward(page.last().map_or(at, |event| event.after)).show(name);
    let backward = Token::Backward(page.first().map_or(at, |event| event.before)).show(name);
    let events: Vec<Value> = page.iter().map(told).collect();
    Ok(json!({"events": events, "nextForwardToken": forward, "nextBackwardToken": backward}))
}

/// There is no telling when a line came to the kubelet, but that it was at once.
fn told(event: &Event) -> Value {
    json!({"timestamp": event.millis(), "message": event.text, "ingestionTime": event.millis()})
}

/// The first events behind so many others.
async fn forward<R: AsyncBufRead + Unpin>(
    mut lines: Lines<R>,
    skip: u64,
    window: &Window,
    most: usize,
) -> io::Result<Vec<Event>> {
    let (mut page, mut bytes, mut seen) = (Vec::new(), 0, 0);
    while let Some(event) = lines.next().await? {
        seen += 1;
        if seen <= skip {
            continue;
        }
        if window.is_over(&event) {
            break;
        }
        if !window.has(&event) {
            continue;
        }
        bytes += event.size();
        if !page.is_empty() && bytes > BYTES {
            break;
        }
        page.push(event);
        if page.len() == most {
            break;
        }
    }
    Ok(page)
}

/// The last events before a position, or before the end.
async fn backward<R: AsyncBufRead + Unpin>(
    mut lines: Lines<R>,
    end: Option<Position>,
    window: &Window,
    most: usize,
) -> io::Result<Vec<Event>> {
    let (mut page, mut bytes, mut seen) = (VecDeque::new(), 0, 0);
    while let Some(event) = lines.next().await? {
        if window.is_over(&event) {
            break;
        }
        if let Some(end) = end.filter(|end| event.nanos.div_euclid(1_000_000_000) >= end.second) {
            if seen == end.lines {
                break;
            }
            seen += 1;
        }
        if !window.has(&event) {
            continue;
        }
        bytes += event.size();
        page.push_back(event);
        while page.len() > most || (page.len() > 1 && bytes > BYTES) {
            bytes -= page.pop_front().map_or(0, |event| event.size());
        }
    }
    Ok(page.into())
}

impl Window {
    /// True if it has an event. Its end is none of it.
    fn has(&self, event: &Event) -> bool {
        let millis = event.millis();
        self.start.is_none_or(|start| start <= millis) && self.end.is_none_or(|end| millis < end)
    }

    /// True if no later event is in it.
    pub(super) fn is_over(&self, event: &Event) -> bool {
        self.end.is_some_and(|end| event.millis().saturating_sub(DISORDER * 1000) > end)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::BufReader;

    use super::*;

    /// 100 lines, ten a second from second 1000 on.
    fn output(from: i64) -> String {
        let stamp = |line: i64| {
            jiff::Timestamp::from_millisecond(1_000_000 + line * 100).expect("a time").to_string()
        };
        let lines = (0..100).filter(|line| 1000 + line / 10 >= from);
        lines.map(|line| format!("{} {line}\n", stamp(line))).collect()
    }

    fn page(token: Option<Token>, head: bool, window: &Window, most: usize) -> Vec<Event> {
        let first = window.start.map_or(0, |start| start.div_euclid(1000));
        let read = |from| output(from);
        let found = match token {
            Some(Token::Forward(at)) => {
                let text = read(at.second);
                block_on(forward(
                    Lines::of(BufReader::new(text.as_bytes()), at.second, true),
                    at.lines,
                    window,
                    most,
                ))
            }
            Some(Token::Backward(at)) => {
                let from = first.min(at.second);
                let text = read(from);
                block_on(backward(
                    Lines::of(BufReader::new(text.as_bytes()), from, true),
                    Some(at),
                    window,
                    most,
                ))
            }
            None => {
                let text = read(first);
                let lines = Lines::of(BufReader::new(text.as_bytes()), first, true);
                if head {
                    block_on(forward(lines, 0, window, most))
                } else {
                    block_on(backward(lines, None, window, most))
                }
            }
        };
        found.expect("it does not break off")
    }

    fn numbers(page: &[Event]) -> Vec<i64> {
        page.iter().map(|event| event.text.parse().expect("a number")).collect()
    }

    #[test]
    fn pages_forward_and_backward_have_each_event_once() {
        let window = Window::default();
        for most in [1, 7, 33, 100, 1000] {
            let (mut all, mut token) = (Vec::new(), None);
            loop {
                let page = page(token, true, &window, most);
                let Some(last) = page.last() else { break };
                token = Some(Token::Forward(last.after));
                all.extend(numbers(&page));
            }
            assert_eq!(all, (0..100).collect::<Vec<_>>(), "forward by {most}");
            let (mut all, mut token) = (Vec::new(), None);
            loop {
                let page = page(token, false, &window, most);
                let Some(first) = page.first() else { break };
                token = Some(Token::Backward(first.before));
                all.splice(0..0, numbers(&page));
            }
            assert_eq!(all, (0..100).collect::<Vec<_>>(), "backward by {most}");
        }
        // And back from where one went.
        let forth = page(None, true, &window, 50);
        let forth = page(Some(Token::Forward(forth[49].after)), true, &window, 10);
        assert_eq!(numbers(&forth), (50..60).collect::<Vec<_>>());
        let back = page(Some(Token::Backward(forth[0].before)), true, &window, 10);
        assert_eq!(numbers(&back), (40..50).collect::<Vec<_>>());
    }

    #[test]
    fn only_what_is_in_the_window_is_told() {
        let window = Window { start: Some(1_002_300), end: Some(1_003_000) };
        for head in [true, false] {
            assert_eq!(numbers(&page(None, head, &window, 1000)), (23..30).collect::<Vec<_>>(), "{head}");
        }
        assert_eq!(numbers(&page(None, true, &window, 2)), [23, 24]);
        assert_eq!(numbers(&page(None, false, &window, 2)), [28, 29]);
    }

    #[test]
    fn an_answer_has_a_megabyte() {
        let line = "y".repeat(100_000);
        let text: String = (0..30).map(|n| format!("2026-11-27T08:00:{n:02}Z {line}\n")).collect();
        let lines = || Lines::of(BufReader::new(text.as_bytes()), 0, true);
        let window = Window::default();
        assert_eq!(block_on(forward(lines(), 0, &window, MOST)).expect("events").len(), 10);
        let last = block_on(backward(lines(), None, &window, MOST)).expect("events");
        assert_eq!((last.len(), last[9].millis() % 60_000), (10, 29_000));
    }

    #[test]
    fn tokens_are_of_one_stream() {
        let token = Token::Backward(Position { second: 5, lines: 7 });
        assert_eq!(Token::read("s", &token.show("s")), Ok(token));
        for wrong in [&token.show("t"), "", "f/", "b/x", "x/y", &token.show("s")[1..]] {
            Token::read("s", wrong).expect_err(wrong);
        }
    }
}
