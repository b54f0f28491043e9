//! The helper that follows output through the API (`batchyard log-follow`), with an API server that has logs as the kubelet
//! tells them, and breaks. What it sends comes to a sink on its socket here, and to a real Fluent Bit in `api`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rmpv::Value as Packed;

use super::{now, until};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kubelet has of a container.
#[derive(Default)]
struct Output {
    /// Times and text, with line breaks.
    lines: Vec<(Timestamp, Vec<u8>)>,
    /// What was in a file that was rotated: only a stream that was there before has it.
    rotated: usize,
    /// How often it was started; none is open in a log of an earlier time.
    starts: u32,
    ended: bool,
    refused: bool,
    /// The next streams end without their end after so many bytes.
    cuts: Vec<usize>,
    /// Streams that were asked for.
    asked: usize,
}

/// An API server with a pod of one container.
#[derive(Clone)]
pub(super) struct Api {
    port: u16,
    output: Arc<Mutex<Output>>,
}

impl Api {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let api = Self { port, output: Arc::default() };
        let served = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = served.clone();
                std::thread::spawn(move || api.answer(stream));
            }
        });
        api
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        lock(&self.output)
    }

    /// The container starts, or starts again.
    pub(super) fn begins(&self) {
        let mut output = self.output();
        let starts = output.starts + 1;
        *output = Output { starts, asked: output.asked, ..Output::default() };
    }

    /// Text of the container.
    pub(super) fn writes(&self, text: &str) {
        self.writes_at(&now(), text);
    }

    fn writes_at(&self, time: &str, text: &str) {
        self.output().lines.push((time.parse().expect("a time"), text.as_bytes().to_vec()));
    }

    fn numbered(&self, numbers: std::ops::Range<u32>) {
        numbers.for_each(|number| self.writes(&format!("{number:07}\n")));
    }

    pub(super) fn ends(&self) {
        self.output().ended = true;
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (reader.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let path = head.split(' ').nth(1)?;
        let (path, query) = path.split_once('?')?;
        assert_eq!(path, "/api/v1/namespaces/ns/pods/pod/log");
        let asked = |name: &str| query.split('&').find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        assert_eq!((asked("container"), asked("timestamps")), (Some("default"), Some("true")));
        let mut stream = reader.into_inner();
        let refusal = {
            let mut output = self.output();
            output.asked += 1;
            if output.refused {
                Some((403, "Forbidden", "may not get pods/log"))
            } else {
                (output.starts == 0).then_some((400, "BadRequest", "container is waiting to start"))
            }
        };
        if let Some((code, reason, message)) = refusal {
            let body = format!(
                r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","code":{code}}}"#
            );
            let length = body.len();
            let head =
                format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}");
            return write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}").ok();
        }
        // Whole seconds, whatever was asked for.
        let since = asked("sinceTime").map(|time| {
            let time: Timestamp = time.replace("%3A", ":").parse().expect("a time");
            Timestamp::from_second(time.as_second()).expect("a time")
        });
        self.tell(&mut stream, since, asked("follow") == Some("true"))
    }

    /// The log, as the kubelet reads it.
    fn tell(&self, stream: &mut TcpStream, since: Option<Timestamp>, follow: bool) -> Option<()> {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
            .ok()?;
        let (mut at, starts, cut) = {
            let mut output = self.output();
            let cut = if output.cuts.is_empty() { usize::MAX } else { output.cuts.remove(0) };
            (output.rotated, output.starts, cut)
        };
        let (mut told, mut is_new_line) = (0, true);
        loop {
            let (text, is_over) = {
                let output = self.output();
                let is_current = output.starts == starts;
                let lines = if is_current { &output.lines[at.min(output.lines.len())..] } else { &[] };
                let mut text = Vec::new();
                for (time, line) in lines {
                    if since.is_none_or(|since| *time >= since) {
                        if is_new_line {
                            text.extend_from_slice(format!("{time:.9} ").as_bytes());
                        }
                        text.extend_from_slice(line);
                    }
                    is_new_line = line.ends_with(b"\n");
                }
                at += lines.len();
                (text, !follow || output.ended || !is_current)
            };
            let text = &text[..text.len().min(cut - told)];
            told += text.len();
            if !text.is_empty() {
                write!(stream, "{:x}\r\n", text.len()).ok()?;
                stream.write_all(text).and_then(|()| stream.write_all(b"\r\n")).ok()?;
            }
            if told == cut {
                return None;
            }
            if is_over && text.is_empty() {
                return stream.write_all(b"0\r\n\r\n").ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The helper.
pub(super) struct Follower(Child);

impl Follower {
    /// Beside a sidecar whose buffer this is; it has asked for the log.
    pub(super) fn start(api: &Api, buffer: &Path, more: &[&str]) -> Self {
        let config = buffer.join("kubeconfig");
        let server = format!("http://127.0.0.1:{}", api.port);
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: x, clusters: [{{name: c, cluster: {{server: '{server}'}}}}], \
             users: [{{name: u, user: {{}}}}], contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"
        );
        fs::write(&config, text).expect("a file");
        let said = File::options().create(true).append(true).open(buffer.join("said")).expect("a file");
        let asked = api.output().asked;
        let child = Command::new(env!("CARGO_BIN_EXE_batchyard"))
            .args(["log-follow", "--namespace=ns", "--pod=pod", "--container=default"])
            .arg(format!("--socket={}", buffer.join("forward.sock").display()))
            .arg(format!("--state={}", buffer.display()))
            .arg("--reads-seconds=60")
            .args(more)
            .env("KUBECONFIG", config)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said)
            .spawn()
            .expect("it starts");
        let follower = Self(child);
        until("a question", || api.output().asked > asked);
        follower
    }

    fn signal(&self) {
        Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().expect("a signal");
    }

    fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        until("the end of the helper", || {
            code = self.0.try_wait().expect("a child");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// What the kubelet does when the job's containers have ended.
    pub(super) fn ends(&mut self) -> Option<i32> {
        self.signal();
        self.ended()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a sink's socket in it.
struct Sink {
    folder: PathBuf,
    lines: Arc<Mutex<Vec<(String, String)>>>,
    /// So many messages are taken without a receipt.
    loses: Arc<AtomicU32>,
}

impl Sink {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("follow").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        Self { folder, lines: Arc::default(), loses: Arc::default() }
    }

    fn open(&self) {
        let listener = UnixListener::bind(self.folder.join("forward.sock")).expect("a socket");
        let (lines, loses) = (self.lines.clone(), self.loses.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (lines, loses) = (lines.clone(), loses.clone());
                std::thread::spawn(move || take(stream, &lines, &loses));
            }
        });
    }

    fn started() -> Self {
        let sink = Self::new();
        sink.open();
        sink
    }

    fn lines(&self) -> Vec<String> {
        lock(&self.lines).iter().map(|(line, _)| line.clone()).collect()
    }

    fn count(&self) -> usize {
        lock(&self.lines).len()
    }

    fn follower(&self, api: &Api) -> Follower {
        Follower::start(api, &self.folder, &[])
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.join("said")).unwrap_or_default()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.folder.display(), self.said());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn take(mut stream: UnixStream, lines: &Mutex<Vec<(String, String)>>, loses: &AtomicU32) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    while let Ok(message) = rmpv::decode::read_value(&mut reader) {
        let parts = message.as_array().expect("a message");
        assert_eq!(parts[0].as_str(), Some("job.default"));
        for entry in parts[1].as_array().expect("entries") {
            let record = entry[1].as_map().expect("a record");
            assert!(matches!(&entry[0], Packed::Ext(0, bytes) if bytes.len() == 8), "{entry}");
            let text = |at: usize| record[at].1.as_str().expect("text").to_owned();
            assert_eq!((record[0].0.as_str(), record[1].0.as_str()), (Some("log"), Some("time")));
            lock(lines).push((text(0), text(1)));
        }
        let loses = loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
        if loses.is_ok() {
            return;
        }
        let chunk = parts[2].as_map().expect("options")[0].1.clone();
        let mut answer = Vec::new();
        let map = Packed::Map(vec![("ack".into(), chunk)]);
        rmpv::encode::write_value(&mut answer, &map).expect("it is encoded");
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn wanted(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{number:07}")).collect()
}

#[test]
fn a_burst_and_the_end_at_once() {
    let (api, sink) = (Api::start(), Sink::started());
    let mut follower = sink.follower(&api);
    api.begins();
    api.numbered(0..50_000);
    api.ends();
    assert_eq!(follower.ends(), Some(0));
    assert!(sink.lines() == wanted(0..50_000), "{} lines", sink.count());
    let first = api.output().lines[0].0;
    assert_eq!(lock(&sink.lines)[0].1, format!("{first:.9}"), "as the runtime told it");
}

/// Within lines, between them and before the first one; and what comes again is known by its time, of which there may be
/// two, or an earlier one behind a later.
#[test]
fn streams_that_break() {
    let (api, sink) = (Api::start(), Sink::started());
    api.begins();
    api.output().cuts = vec![0, 10, 39, 40, 1_000, 1_001, 10_007];
    let mut want = wanted(0..500);
    api.numbered(0..500);
    let time = now();
    for text in ["twice", "twice", "three", "three"] {
        api.writes_at(&time, &format!("{text}\n"));
        want.push(text.to_owned());
    }
    let earlier: Timestamp = time.parse().expect("a time");
    api.writes_at(&format!("{:.9}", earlier - Duration::from_millis(900)), "earlier\n");
    want.push("earlier".to_owned());
    let mut follower = sink.follower(&api);
    until("the lines", || sink.count() >= want.len());
    api.output().cuts = vec![0, 45];
    api.numbered(500..600);
    want.extend(wanted(500..600));
    api.ends();
    assert_eq!(follower.ends(), Some(0));
    assert_eq!(sink.lines(), want);
}

/// Nobody knows whether Fluent Bit has what it gave no receipt for: it comes again, and nothing else does.
#[test]
fn receipts_that_are_lost() {
    let (api, sink) = (Api::start(), Sink::started());
    api.begins();
    sink.loses.store(2, Ordering::SeqCst);
    api.numbered(0..100);
    let mut follower = sink.follower(&api);
    until("all of them", || sink.lines().iter().any(|line| line == "0000099"));
    api.numbered(100..200);
    api.ends();
    assert_eq!(follower.ends(), Some(0));
    let lines = sink.lines();
    let times = |number: &str| lines.iter().filter(|line| *line == number).count();
    assert_eq!((times("0000000"), times("0000100"), times("0000199")), (3, 1, 1));
    let different: BTreeSet<String> = lines.into_iter().collect();
    assert!(different.into_iter().eq(wanted(0..200)));
}

#[test]
fn a_helper_that_is_killed_and_starts_again() {
    let (api, sink) = (Api::start(), Sink::started());
    api.begins();
    for part in 0..4 {
        api.numbered(part * 100..(part + 1) * 100);
        let mut follower = sink.follower(&api);
        let state = sink.folder.join("follow-default");
        let bytes = u64::from(part + 1) * 800;
        until("what is written down", || fs::metadata(&state).is_ok_and(|file| file.len() >= bytes));
        drop(follower.0.kill());
    }
    api.ends();
    assert_eq!(sink.follower(&api).ends(), Some(0));
    assert_eq!(sink.lines(), wanted(0..400));
}

#[test]
fn a_container_that_starts_late_and_again() {
    let (api, sink) = (Api::start(), Sink::started());
    let mut follower = sink.follower(&api);
    until("some questions", || api.output().asked > 2);
    api.begins();
    api.numbered(0..10);
    until("its lines", || sink.count() == 10);
    api.begins();
    api.numbered(10..20);
    until("those of the second", || sink.count() >= 20);
    api.ends();
    assert_eq!(follower.ends(), Some(0));
    assert_eq!(sink.lines(), wanted(0..20));
}

/// A line whose rest may come is waited for; at the end of all it is one.
#[test]
fn a_last_line_without_its_end() {
    let (api, sink) = (Api::start(), Sink::started());
    api.begins();
    api.writes("whole\n");
    api.writes("in ");
    // The first stream breaks behind what there is.
    api.output().cuts = vec![71];
    let mut follower = sink.follower(&api);
    until("the first line", || sink.count() == 1);
    api.output().cuts = vec![30, 110];
    api.writes("parts\n");
    until("the second line", || sink.count() == 2);
    api.writes("no end");
    api.ends();
    assert_eq!(follower.ends(), Some(0));
    assert_eq!(sink.lines(), ["whole", "in parts", "no end"]);
}

/// What is in a rotated file only a stream has that was there before: it is read to its end.
#[test]
fn a_log_that_is_rotated_while_fluent_bit_is_away() {
    let (api, sink) = (Api::start(), Sink::new());
    api.begins();
    let mut follower = sink.follower(&api);
    let mut line = String::new();
    for number in 0..40_000 {
        line.clear();
        let _ = writeln!(line, "{number:07} {}", "x".repeat(200));
        api.writes(&line);
    }
    until("much", || sink.said().contains("Fluent Bit takes nothing"));
    {
        let mut output = api.output();
        output.rotated = output.lines.len();
    }
    api.writes("last\n");
    api.ends();
    follower.signal();
    sink.open();
    assert_eq!(follower.ended(), Some(0));
    let lines = sink.lines();
    let different: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(
        (lines.len(), different.len(), lines.last().map(String::as_str)),
        (40_001, 40_001, Some("last"))
    );
}

#[test]
fn a_log_that_may_not_be_read() {
    let (api, sink) = (Api::start(), Sink::started());
    api.begins();
    api.output().refused = true;
    let mut follower = sink.follower(&api);
    assert_eq!(follower.ended(), Some(1));
    let said = sink.said();
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("batchyard: the log of container default may not be read: ")
            && last.contains("may not get pods/log"),
        "{said}"
    );
}
