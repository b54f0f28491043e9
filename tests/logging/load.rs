//! All lines, in order, once each: at full speed and an end at once, beyond rotations, with a sink that is down.

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
    let log = item.record.iter().find(|(name, _)| name == "log").map(|(_, value)| &value[..7]);
    log.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).expect("a number")
}

/// What is wrong with what came, in words.
fn wrong(items: &[Item], wanted: u32) -> Option<String> {
    let numbers: Vec<u32> = items.iter().map(number).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let (came, known) = (numbers.len(), sorted.len());
    let disorder = numbers.windows(2).filter(|two| two[0] >= two[1]).count();
    (disorder > 0 || known != wanted as usize || came != known)
        .then(|| format!("{came} lines, {known} of {wanted} different ones, {disorder} out of order"))
}

/// Three runs; ten with BATCHYARD_LONG.
#[test]
fn four_hundred_thousand_lines_from_a_job_that_ends_at_once() {
    let runs = if std::env::var_os("BATCHYARD_LONG").is_some() { 10 } else { 3 };
    for run in 0..runs {
        let sink = Receiver::start(Kind::Forward);
        let Some(mut job) = forward(&sink) else { return };
        let text = lines(0, 400_000);
        // One rotation falls into it.
        let middle =
            text.len() / 2 + text[text.len() / 2..].iter().position(|c| *c == b'\n').expect("a line") + 1;
        job.log.write(&text[..middle]);
        job.log.rotate();
        job.log.write(&text[middle..]);
        job.end();
        assert_eq!(wrong(&sink.items(), 400_000), None, "run {run}");
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
    for part in 1..31 {
        job.log.write(&lines(part * 1_000, (part + 1) * 1_000));
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    sink.up();
    until("all lines", || sink.count() >= 31_000);
    job.end();
    let numbers: std::collections::BTreeSet<u32> = sink.items().iter().map(number).collect();
    assert_eq!((numbers.len(), sink.count()), (31_000, 31_000), "lost or twice");
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
