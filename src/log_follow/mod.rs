//! A program of its own in a job's pod, beside its log sidecar (`batchyard log-follow`): it follows the output of the
//! pod's containers through the API server and hands it to Fluent Bit, where the pod may see nothing of its node.
//!
//! `lines` makes lines of what the API tells, `forward` gives them to Fluent Bit and takes receipts, `position`
//! remembers what was receipted. Only that counts: whatever breaks, a connection, Fluent Bit or this program, the log
//! is asked for again from there.
//!
//! It works until the kubelet tells it to end, which is when the job's containers have ended. A stream that is under way
//! is read on then, for it may have what is in a rotated file, of which the API knows nothing any more; and each log is
//! looked at once more, to its end. Its right is to read logs of pods (`get` of `pods/log`) and no more, so that it does not
//! know which containers run: one that has not begun is asked for again and again.

mod forward;
mod lines;
mod position;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use batchyard_core::logging::sidecar::tag_of;
use clap::Args;
use futures::AsyncBufReadExt as _;
use futures::io::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::k8s::error::{chain, status};
use crate::program::{connect, signalled};
use forward::{Batch, Sender};
use lines::Splitter;
use position::{Known, Position};

/// Lines wait so long for others to go with.
const TOGETHER: Duration = Duration::from_millis(100);
/// A stream that says nothing for so long after the containers' end has nothing more.
const SILENT: Duration = Duration::from_secs(1);
/// A stream that says nothing for so long is asked for anew: what is between may have dropped it without a word.
const QUIET: Duration = Duration::from_secs(240);
/// A log that may not be read is asked for so often before this program ends and says so.
const REFUSALS: u32 = 5;
/// The longest pause before a container is asked for that has not begun, or after something broke.
const SHORT: Duration = Duration::from_secs(4);
/// The longest pause before the log of a container is looked at again that has probably ended.
const LONG: Duration = Duration::from_secs(60);

/// What it follows, and to where.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The pod's namespace.
    #[arg(long, env = "BATCHYARD_POD_NAMESPACE")]
    pub namespace: String,
    /// The pod's name.
    #[arg(long, env = "BATCHYARD_POD_NAME")]
    pub pod: String,
    /// A container whose output is followed.
    #[arg(long = "container", required = true, value_name = "NAME")]
    pub containers: Vec<String>,
    /// The unix socket where Fluent Bit listens.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// A folder for how far everything is delivered.
    #[arg(long, value_name = "PATH")]
    pub state: PathBuf,
    /// How long reading to the end of all logs may take once it is told to end.
    #[arg(long, value_name = "SECONDS")]
    pub reads_seconds: u64,
    /// How long it stays after that, for what Fluent Bit holds back of records of several lines.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub settle_seconds: u64,
}

/// Follows until SIGTERM, and then to the end of all logs.
///
/// # Errors
/// When logs may not be read, or not all of them could be read in time.
pub async fn run(settings: Settings) -> Result<()> {
    // First of all: the first process of a container is not ended by a signal that it does not wait for, and would only
    // be killed after the pod's whole grace.
    let stop = CancellationToken::new();
    tokio::spawn(signalled(stop.clone()));
    let client = connect().await?;
    let mut all = JoinSet::new();
    for container in &settings.containers {
        all.spawn(Follower::new(&settings, container, &client, &stop)?.follow());
    }
    let limit = Duration::from_secs(settings.reads_seconds);
    let end = async {
        stop.cancelled().await;
        sleep(limit).await;
    };
    let done = async {
        while let Some(ended) = all.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        outcome = done => outcome?,
        () = end => bail!("not all output was read within {} s", limit.as_secs()),
    }
    sleep(Duration::from_secs(settings.settle_seconds)).await;
    Ok(())
}

/// How a look at a log ended.
enum End {
    /// There is no more of the log yet.
    Read,
    /// It was asked for no more.
    Stopped,
    /// The container has not begun.
    Waiting,
    /// There is no such pod any more.
    Gone,
    /// Its log may not be read.
    Refused(String),
    /// Something else.
    Broken(String),
}

/// Follows one container.
struct Follower {
    pods: Api<Pod>,
    pod: String,
    container: String,
    position: Position,
    sender: Sender,
    stop: CancellationToken,
}

impl Follower {
    fn new(settings: &Settings, container: &str, client: &Client, stop: &CancellationToken) -> Result<Self> {
        let file = settings.state.join(format!("follow-{container}"));
        let position = Position::open(&file).with_context(|| file.display().to_string())?;
        Ok(Self {
            pods: Api::namespaced(client.clone(), &settings.namespace),
            pod: settings.pod.clone(),
            container: container.to_owned(),
            position,
            sender: Sender::new(settings.socket.clone(), tag_of(container)),
            stop: stop.clone(),
        })
    }

    async fn follow(mut self) -> Result<()> {
        let (mut refusals, mut pause) = (0, Duration::ZERO);
        loop {
            // Only a look that began after the containers' end tells all.
            let is_last = self.stop.is_cancelled();
            let (end, new) = self.look(is_last).await;
            if new > 0 {
                pause = Duration::ZERO;
            }
            refusals = if matches!(end, End::Refused(_)) { refusals + 1 } else { 0 };
            let longest = match end {
                End::Gone => return Ok(()),
                End::Read | End::Waiting if is_last => return Ok(()),
                End::Refused(why) if refusals >= REFUSALS => {
                    return Err(anyhow!("the log of container {} may not be read: {why}", self.container));
                }
                End::Refused(why) | End::Broken(why) => {
                    warn!(container = self.container, "its log cannot be read: {why}");
                    SHORT
                }
                End::Read => LONG,
                End::Waiting => SHORT,
                End::Stopped => {
                    pause = Duration::ZERO;
                    SHORT
                }
            };
            pause = (pause * 2).clamp(Duration::from_millis(250), longest);
            if is_last {
                sleep(pause.min(Duration::from_millis(500))).await;
                continue;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => pause = Duration::ZERO,
            }
        }
    }

    /// Reads what is new, to the end of what there is or for as long as the container runs; and how many lines that were.
    async fn look(&mut self, is_last: bool) -> (End, usize) {
        let asked = LogParams {
            container: Some(self.container.clone()),
            follow: !is_last,
            since_time: self.position.since(),
            timestamps: true,
            ..LogParams::default()
        };
        let known = self.position.known();
        let stop = self.stop.clone();
        let stream = tokio::select! {
            stream = self.pods.log_stream(&self.pod, &asked) => stream,
            // It may be long in coming where a container says nothing, and has nothing then.
            () = silence(&stop), if !is_last => return (End::Stopped, 0),
            () = sleep(QUIET) => return (End::Stopped, 0),
        };
        match stream {
            Ok(stream) => Look::new(self, known, is_last).read(Box::pin(stream)).await,
            Err(error) => {
                let why = chain(&error);
                let end = match status(&error).map(|status| status.code) {
                    Some(404) => End::Gone,
                    Some(400) => End::Waiting,
                    Some(401 | 403) => End::Refused(why),
                    _ => End::Broken(why),
                };
                (end, 0)
            }
        }
    }

    /// Delivers, whatever it takes: what Fluent Bit does not take now it takes later.
    async fn deliver(&mut self, batch: &Batch) {
        let mut tries = 0_u32;
        while let Err(error) = self.sender.send(batch).await {
            tries += 1;
            if tries.is_power_of_two() && tries > 2 {
                warn!(container = self.container, "Fluent Bit takes nothing: {error}");
            }
            sleep(Duration::from_millis(200)).await;
        }
        if let Err(error) = self.position.advance(&batch.ends) {
            warn!(container = self.container, "how far it is delivered cannot be written down: {error}");
        }
    }
}

/// Some time after the containers' end.
async fn silence(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(SILENT).await;
}

/// One look at a log.
struct Look<'f> {
    follower: &'f mut Follower,
    known: Known,
    is_last: bool,
    splitter: Splitter,
    /// The line that is under way came before.
    again: bool,
    batch: Batch,
    /// When what is in the batch goes.
    goes: Instant,
    new: usize,
}

impl<'f> Look<'f> {
    fn new(follower: &'f mut Follower, known: Known, is_last: bool) -> Self {
        Self {
            follower,
            known,
            is_last,
            splitter: Splitter::default(),
            again: false,
            batch: Batch::default(),
            goes: Instant::now(),
            new: 0,
        }
    }

    async fn read(mut self, mut stream: impl AsyncBufRead + Unpin) -> (End, usize) {
        let stop = self.follower.stop.clone();
        loop {
            let has_some = !self.batch.is_empty();
            let came = tokio::select! {
                biased;
                // What was told before it was too late is taken first.
                bytes = stream.fill_buf() => match bytes {
                    Ok([]) => Some(End::Read),
                    Ok(bytes) => {
                        let length = bytes.len();
                        let mut pieces = Vec::new();
                        self.splitter.push(bytes, |piece| pieces.push(piece));
                        stream.consume_unpin(length);
                        self.take(pieces).await;
                        None
                    }
                    Err(error) => Some(End::Broken(error.to_string())),
                },
                () = sleep_until(self.goes), if has_some => {
                    self.go().await;
                    None
                }
                () = silence(&stop), if !has_some && !self.is_last => Some(End::Stopped),
                () = sleep(QUIET), if !has_some => Some(End::Stopped),
            };
            let Some(end) = came else { continue };
            if self.is_last && matches!(end, End::Read) {
                let mut pieces = Vec::new();
                self.splitter.end(|piece| pieces.push(piece));
                self.take(pieces).await;
            }
            self.go().await;
            return (end, self.new);
        }
    }

    async fn take(&mut self, pieces: Vec<lines::Piece>) {
        for piece in pieces {
            if piece.begins {
                self.again = self.known.take(piece.stamp.nanoseconds);
            }
            if self.again {
                continue;
            }
            if self.batch.is_empty() {
                self.goes = Instant::now() + TOGETHER;
            }
            match self.batch.push(&piece) {
                Ok(()) => self.new += 1,
                Err(error) => warn!(container = self.follower.container, "a line is left out: {error}"),
            }
            if self.batch.is_full() {
                self.go().await;
            }
        }
        if !self.batch.is_empty() && self.goes <= Instant::now() {
            self.go().await;
        }
    }

    async fn go(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.follower.deliver(&batch).await;
        }
    }
}
