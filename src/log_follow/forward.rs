//! To Fluent Bit by fluentd's forward protocol, over a unix socket
//! (<https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>): a message of many records, and its
//! receipt before the next one.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rmp::encode::{write_array_len, write_ext_meta, write_map_len, write_str, write_str_len};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::lines::Piece;

/// A message has about so many bytes. Fluent Bit reads a message from its beginning whenever more of it comes.
const FULL: usize = 256 << 10;
/// So long a receipt is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records that go together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<u8>,
    count: u32,
    /// The times of the lines that end in it.
    pub(super) ends: Vec<i64>,
}

impl Batch {
    /// With one more: the members of a line that Fluent Bit reads from a file, but for `stream`, which the API does not
    /// tell.
    pub(super) fn push(&mut self, piece: &Piece) -> io::Result<()> {
        let nanoseconds = piece.stamp.nanoseconds;
        let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
        let part = |number: i64| u32::try_from(number).unwrap_or(0).to_be_bytes();
        let to = &mut self.entries;
        write_array_len(to, 2)?;
        // fluentd's own type of a time.
        write_ext_meta(to, 8, 0)?;
        to.extend(part(seconds).into_iter().chain(part(rest)));
        write_map_len(to, 2)?;
        write_str(to, "log")?;
        // Text in the sense of the protocol, whatever bytes it has.
        write_str_len(to, u32::try_from(piece.text.len()).map_err(io::Error::other)?)?;
        to.extend_from_slice(&piece.text);
        write_str(to, "time")?;
        write_str(to, &piece.stamp.text)?;
        self.count += 1;
        self.ends.extend(piece.ends.then_some(nanoseconds));
        Ok(())
    }

    /// True if nothing is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if it is to go.
    pub(super) const fn is_full(&self) -> bool {
        self.entries.len() >= FULL
    }

    fn message(&self, tag: &str, chunk: &str) -> io::Result<Vec<u8>> {
        let mut message = Vec::with_capacity(self.entries.len() + 128);
        write_array_len(&mut message, 3)?;
        write_str(&mut message, tag)?;
        write_array_len(&mut message, self.count)?;
        message.extend_from_slice(&self.entries);
        write_map_len(&mut message, 1)?;
        write_str(&mut message, "chunk")?;
        write_str(&mut message, chunk)?;
        Ok(message)
    }
}

/// A connection that is made when it is needed.
#[derive(Debug)]
pub(super) struct Sender {
    socket: PathBuf,
    tag: String,
    stream: Option<UnixStream>,
}

impl Sender {
    pub(super) const fn new(socket: PathBuf, tag: String) -> Self {
        Self { socket, tag, stream: None }
    }

    /// Sends records and waits for the receipt. Without one nobody knows whether they came, and the next try makes a
    /// new connection.
    pub(super) async fn send(&mut self, batch: &Batch) -> io::Result<()> {
        let chunk = BASE64_STANDARD.encode(Uuid::new_v4().as_bytes());
        let message = batch.message(&self.tag, &chunk)?;
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket).await?,
        };
        timeout(PATIENCE, exchange(&mut stream, &message, &receipt(&chunk)?)).await??;
        self.stream = Some(stream);
        Ok(())
    }
}

fn receipt(chunk: &str) -> io::Result<Vec<u8>> {
    let mut receipt = Vec::new();
    write_map_len(&mut receipt, 1)?;
    write_str(&mut receipt, "ack")?;
    write_str(&mut receipt, chunk)?;
    Ok(receipt)
}

/// There is one way to write the receipt for a message, so that its bytes are known before.
async fn exchange(stream: &mut UnixStream, message: &[u8], receipt: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    let mut answer = vec![0; receipt.len()];
    stream.read_exact(&mut answer).await?;
    if answer == receipt { Ok(()) } else { Err(io::Error::other("the receipt is for something else")) }
}
