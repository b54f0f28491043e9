//! All lines, in order, once each: at full speed and an end at once, beyond rotations, with a sink that is down.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use batchyard_core::logging::Driver;

use super::receiver::{Item, Kind, Receiver};
use super::{Job, cri, until};

fn forward(sink: &Receiver) -> Option<Job> {
    let address = format!("127.0.0.1:{}", sink.port());
    Job::start(Driver::Fluentd, &[("fluentd-address", &address), ("fluentd-request-ack", "true")])
}

fn lines(from: u32, to: u32) -> Vec<u8> {
    (from..to)
        .flat_map(|number| cri("stdout", format!("{number:07} {}", "x".repeat(60)).as_bytes()))
        .collect()
}

/// The number of a line.
fn number(item: &Item) -> u32 {
    let text = item.member("log").get(..7).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).expect("a number")
}

/// What is wrong with what came, in words: all lines, once each, and in order by the time that each of them has. Messages
/// go by several connections, so that the order in which they come says nothing (docs/design/0008).
fn wrong(items: &[Item], wanted: u32) -> Option<String> {
    let mut by_time: Vec<(jiff::Timestamp, u32)> =
        items.iter().map(|item| (item.time(), number(item))).collect();
    by_time.sort_by_key(|(time, _)| *time);
    let known: BTreeSet<u32> = by_time.iter().map(|(_, number)| *number).collect();
    let (came, known) = (items.len(), known.len());
    let disorder = by_time.windows(2).filter(|two| two[0].1 >= two[1].1).count();
    (disorder > 0 || known != wanted as usize || came != known)
        .then(|| format!("{came} lines, {known} of {wanted} different ones, {disorder} out of order"))
}

/// Places within a message at which something else than the next line follows.
fn gaps(items: &[Item]) -> usize {
    let same = |two: &&[Item]| two[0].message == two[1].message;
    items.windows(2).filter(same).filter(|two| number(&two[0]) + 1 != number(&two[1])).count()
}

/// Three runs; ten with BATCHYARD_LONG.
fn runs() -> u32 {
    if std::env::var_os("BATCHYARD_LONG").is_some() { 10 } else { 3 }
}

/// More wants to run than there are processors. The `preStop` sleep is a time and no condition (docs/design/0008).
fn busy() -> bool {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    load > f64::from(u32::try_from(processors).unwrap_or(1))
}

/// Writes lines at full speed, with one rotation in the middle.
fn burst(job: &mut Job, from: u32, to: u32) {
    let text = lines(from, to);
    let half = &text[text.len() / 2..];
    let middle = text.len() - half.len() + half.iter().position(|c| *c == b'\n').expect("a line") + 1;
    job.log.write(&text[..middle]);
    job.log.rotate();
    job.log.write(&text[middle..]);
}

#[test]
fn four_hundred_thousand_lines_from_a_job_that_ends_at_once() {
    for run in 0..runs() {
        let sink = Receiver::start(Kind::Forward);
        let Some(mut job) = forward(&sink) else { return };
        burst(&mut job, 0, 400_000);
        if busy() {
            println!(
                "run {run}: the machine is busy, so that reading may take longer than the sidecar is left alone"
            );
            until("all lines", || sink.count() == 400_000);
        }
        job.end();
        let items = sink.items();
        assert_eq!((wrong(&items, 400_000), gaps(&items)), (None, 0), "run {run}");
    }
}

/// Where no connection is between, lines come as they were written.
#[test]
fn order_at_an_output_without_connections() {
    for run in 0..runs() {
        let Some(mut job) = Job::start(Driver::Stdout, &[]) else { return };
        burst(&mut job, 0, 100_000);
        job.end();
        let numbers: Vec<u32> = job
            .said("stdout")
            .split("\"log\":\"")
            .skip(1)
            .map(|text| text.get(..7).and_then(|text| text.parse().ok()).expect("a number"))
            .collect();
        assert!(numbers.iter().copied().eq(0..100_000), "run {run}: {} lines", numbers.len());
    }
}

/// Fluent Bit knows the file before and is behind when it is rotated: it reads both in turns then, and only the times of the
/// lines tell their order.
#[test]
fn four_hundred_thousand_lines_after_the_first_ones() {
    for run in 0..runs() {
        let sink = Receiver::start(Kind::Forward);
        let Some(mut job) = forward(&sink) else { return };
        job.log.write(&lines(0, 1));
        until("the first line", || sink.count() == 1);
        burst(&mut job, 1, 400_000);
        until("all lines", || sink.count() >= 400_000);
        job.end();
        let items = sink.items();
        println!("run {run}: at {} places within messages the next line is not the next one", gaps(&items));
        assert_eq!(wrong(&items, 400_000), None, "run {run}");
    }
}

#[test]
fn one_line_and_the_end_at_once() {
    let sink = Receiver::start(Kind::Forward);
    let Some(mut job) = forward(&sink) else { return };
    job.log.line("stdout", b"0000000 x");
    job.end();
    assert_eq!(wrong(&sink.items(), 1), None);
}

/// Twelve files, older ones compressed and gone from sight, and none of it twice.
#[test]
fn a_log_that_is_rotated_again_and_again() {
    let sink = Receiver::start(Kind::Forward);
    let Some(mut job) = forward(&sink) else { return };
    for file in 0..12 {
        job.log.write(&lines(file * 5_000, (file + 1) * 5_000));
        // The kubelet looks each 10 s; what it compresses has been read by then.
        until("what was written", || sink.count() >= (file as usize) * 5_000);
        job.log.rotate();
    }
    job.end();
    assert_eq!(wrong(&sink.items(), 60_000), None);
}

#[test]
fn a_sink_that_is_down_for_half_a_minute() {
    let mut sink = Receiver::start(Kind::Forward);
    let Some(mut job) = forward(&sink) else { return };
    job.log.write(&lines(0, 1_000));
    until("the first lines", || sink.count() == 1_000);
    sink.down();
    job.log.write(&lines(1_000, 2_000));
    let begun = Instant::now();
    let mut wanted = 2_000;
    while begun.elapsed() < Duration::from_secs(30) {
        let tries = || job.said("stderr").matches("failed to flush chunk").count();
        let before = tries();
        until("a vain try", || tries() > before);
        job.log.write(&lines(wanted, wanted + 1_000));
        wanted += 1_000;
    }
    sink.up();
    until("all lines", || sink.count() >= wanted as usize);
    job.end();
    assert_eq!(wrong(&sink.items(), wanted), None);
}

/// What docs/design/0008 says of it, with room.
#[test]
fn what_a_sidecar_costs() {
    let sink = Receiver::start(Kind::Forward);
    let Some(mut job) = forward(&sink) else { return };
    job.log.write(&lines(0, 1));
    until("the first line", || sink.count() == 1);
    let idle = job.costs();
    job.log.write(&lines(1, 400_000));
    until("all lines", || sink.count() == 400_000);
    let busy = job.costs();
    println!(
        "idle {} KiB and {} s of CPU; after 400,000 lines {} KiB at most and {} s",
        idle.0, idle.1, busy.0, busy.1
    );
    assert!(busy.0 < 200 << 10, "{busy:?}");
}
