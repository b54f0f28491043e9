//! What a real Fluent Bit does with the configurations that core writes, on loopback: a container's log as the kubelet
//! keeps it, the end of its pod, and sinks that are there or not. It runs where `BATCHYARD_FLUENT_BIT` names the program;
//! some tests need others' services, too: `BATCHYARD_MOTO` names a Python that has moto[server] and boto3.

mod by_api;
mod certificates;
mod delivery;
mod follow;
mod health;
mod load;
mod receiver;
mod services;
mod wires;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::logging::health::ADDRESS_VARIABLE;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{
    Container, DRAIN_SECONDS, Member, Part, Pod, Settings, Sidecar, Source, environment, plan,
};
use batchyard_core::logging::stream::ONLY;
use batchyard_core::logging::{AwslogsDefaults, Configuration, Driver, SecretOption};

/// How long anything may take on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a sidecar whose output goes into its folder.
fn spawn(command: &mut Command, folder: &Path) -> Child {
    let output = |name: &str| {
        Stdio::from(File::options().create(true).append(true).open(folder.join(name)).expect("a file"))
    };
    command.stdout(output("stdout")).stderr(output("stderr")).spawn().expect("Fluent Bit starts")
}

/// Waits until it is so.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program, if it is there.
fn program() -> Option<OsString> {
    let program = std::env::var_os("BATCHYARD_FLUENT_BIT");
    if program.is_none() {
        println!("SKIPPED: BATCHYARD_FLUENT_BIT names no program of Fluent Bit");
    }
    program
}

/// What a job has beside its options.
#[derive(Default)]
struct Extra<'a> {
    /// Variables such as credentials.
    variables: &'a [(&'a str, &'a str)],
    /// What the Secret has that an option names: the certificate of an authority.
    authority: &'a str,
    /// Where its sidecar reads.
    source: Source,
}

/// A pod with a log folder and a sidecar.
struct Job {
    folder: PathBuf,
    /// The pod's address.
    address: Ipv4Addr,
    sidecar: Sidecar,
    command: Command,
    child: Child,
    log: Log,
}

impl Job {
    /// Its sidecar has started; nothing if there is no Fluent Bit. The container comes when its first line does.
    fn start(driver: Driver, options: &[(&str, &str)]) -> Option<Self> {
        Self::start_with(driver, options, &Extra::default())
    }

    /// The same, with what is not in options. An option of the form `name <-` comes from a Secret.
    fn start_with(driver: Driver, options: &[(&str, &str)], extra: &Extra<'_>) -> Option<Self> {
        let program = program()?;
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Each pod has one of its own, with the same port.
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 77, high, low + 1);
        let name = format!("{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("logging").join(name);
        for part in ["logs", "buffer", "files", "certificates"] {
            fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        let (secret, plain): (Vec<_>, Vec<_>) = options.iter().partition(|(name, _)| name.ends_with(" <-"));
        let secret = secret.into_iter().map(|(name, reference)| SecretOption {
            name: name.trim_end_matches(" <-").to_owned(),
            value_from: (*reference).to_owned(),
        });
        let configuration = Configuration {
            driver,
            options: plain
                .into_iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            secret_options: secret.collect(),
        };
        let route = Route::read(&configuration, &AwslogsDefaults::default()).expect("a route");
        let settings =
            Settings { source: extra.source, buffer_mib: 256, grace_seconds: 20, tells_health: true };
        let member = Member { container: "default", route: &route };
        let sidecar = plan(&[member], Part::Whole, &settings).expect("a container");
        let text = sidecar.document.to_yaml().replace("/batchyard/", &format!("{}/", folder.display()));
        fs::write(folder.join("fluent-bit.yaml"), text).expect("a file");
        for file in &sidecar.files {
            fs::write(folder.join("certificates").join(&file.name), extra.authority).expect("a file");
        }
        for (node, mounted) in &sidecar.needs.sockets {
            let mounted = folder.join(mounted.trim_start_matches("/batchyard/"));
            fs::create_dir_all(mounted.parent().expect("a folder")).expect("a folder");
            std::os::unix::fs::symlink(node, mounted).expect("a link");
        }
        let pod = Pod {
            name: "test-1",
            job_id: "0f8b3c1a-77aa",
            job_name: "test",
            queue: "jq",
            definition: Some("alpine-env:1"),
            attempt: 1,
            index: None,
        };
        let container = Container { member, stream: ONLY, image: "alpine:3.20" };
        let secrets = sidecar.secrets.iter().map(|secret| (secret.name.clone(), "s3cret".to_owned()));
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(folder.join("fluent-bit.yaml"))
            .envs(environment(&[container], Part::Whole, &pod).into_iter().chain(secrets))
            .env("BATCHYARD_NODE", "node-1")
            .env(ADDRESS_VARIABLE, address.to_string())
            .envs(extra.variables.iter().copied())
            .stdin(Stdio::null());
        let child = spawn(&mut command, &folder);
        let log = Log::new(&folder.join("logs/default"));
        Some(Self { folder, address, sidecar, command, child, log })
    }

    /// It is gone without a word.
    fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("its end");
    }

    /// The kubelet starts it again.
    fn start_again(&mut self) {
        self.child = spawn(&mut self.command, &self.folder);
    }

    /// The container has ended: the preStop sleep, SIGTERM, and the end of Fluent Bit.
    fn end(&mut self) {
        std::thread::sleep(Duration::from_secs(self.sidecar.drain_seconds(DRAIN_SECONDS)));
        self.terminate();
    }

    /// SIGTERM, and the end of Fluent Bit.
    fn terminate(&mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("a signal");
        until("the end of Fluent Bit", || self.child.try_wait().is_ok_and(|ended| ended.is_some()));
    }

    /// What the sidecar itself wrote.
    fn said(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join(name)).unwrap_or_default()).into_owned()
    }

    /// Most memory in KiB, and seconds of CPU, so far.
    fn costs(&self) -> (u64, f64) {
        let of =
            |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default();
        let status = of("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().split(' ').next()?.parse().ok()).unwrap_or(0);
        let stat = of("stat");
        let ticks: u64 = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|text| text.parse::<u64>().ok())
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
        let seconds = ticks as f64 / 100.0;
        (peak, seconds)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.folder.display(), self.said("stderr"));
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A container's log as the runtime writes it and the kubelet rotates it.
struct Log {
    folder: PathBuf,
    file: Option<File>,
    rotated: u32,
}

/// So much of a line the runtime puts into one of its own.
const PART: usize = 16 << 10;

impl Log {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, rotated: 0 }
    }

    fn file(&mut self) -> &mut File {
        let folder = &self.folder;
        self.file.get_or_insert_with(|| {
            fs::create_dir_all(folder).expect("a folder");
            File::options().create(true).append(true).open(folder.join("0.log")).expect("a log")
        })
    }

    fn write(&mut self, text: &[u8]) {
        self.file().write_all(text).expect("the log can be written");
    }

    /// A line of the container.
    fn line(&mut self, stream: &str, line: &[u8]) {
        self.write(&cri(stream, line));
    }

    /// What the kubelet does with a file of 10 MiB: all older ones are compressed, this one gets another name, and five are
    /// kept.
    fn rotate(&mut self) {
        for old in self.older() {
            let mut text = Vec::new();
            File::open(&old).and_then(|mut file| file.read_to_end(&mut text)).expect("a file");
            let (temporary, name) = (format!("{}.tmp", old.display()), format!("{}.gz", old.display()));
            let file = File::create(&temporary).expect("a file");
            let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            gzip.write_all(&text).and_then(|()| gzip.finish()).expect("a file");
            fs::rename(&temporary, name).expect("a name");
            fs::remove_file(&old).expect("it goes");
        }
        let mut name = String::from("0.log.20260301-");
        let _ = write!(name, "{:06}", self.rotated);
        self.rotated += 1;
        fs::rename(self.folder.join("0.log"), self.folder.join(name)).expect("a name");
        self.file = None;
        self.file();
    }

    /// Rotated files that are not compressed.
    fn older(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(&self.folder).expect("a folder").flatten().map(|entry| entry.path());
        all.filter(|path| path.extension().is_some_and(|end| end != "log" && end != "gz" && end != "tmp"))
            .collect()
    }
}

/// A line as the runtime writes it, in parts if it is long.
fn cri(stream: &str, line: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut parts = line.chunks(PART).peekable();
    if line.is_empty() {
        text.extend_from_slice(format!("{} {stream} F \n", now()).as_bytes());
    }
    while let Some(part) = parts.next() {
        let mark = if parts.peek().is_some() { 'P' } else { 'F' };
        text.extend_from_slice(format!("{} {stream} {mark} ", now()).as_bytes());
        text.extend_from_slice(part);
        text.push(b'\n');
    }
    text
}

/// The time, and never the same or an earlier one again.
fn now() -> String {
    static LAST: Mutex<jiff::Timestamp> = Mutex::new(jiff::Timestamp::UNIX_EPOCH);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = jiff::Timestamp::now().max(*last + Duration::from_nanos(1));
    format!("{:.9}", *last)
}
