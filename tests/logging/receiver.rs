//! Sinks on this machine: they take what Fluent Bit sends, by HTTP, as lines or by fluentd's forward protocol, and can be
//! down and up again.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rmpv::Value as Packed;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How a sink speaks.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// HTTP, answered with this status and body.
    Http(u16, &'static str),
    /// Pieces that end with this byte.
    Ended(u8),
    /// fluentd's forward protocol.
    Forward,
}

/// What came: a request, a piece, or an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    /// The request's line and headers, or a message's tag.
    pub(crate) head: String,
    /// What was in it, uncompressed.
    pub(crate) body: Vec<u8>,
    /// The record of an entry.
    pub(crate) record: Vec<(String, Vec<u8>)>,
    /// An entry's own time in nanoseconds, if it has more than seconds.
    pub(crate) nanoseconds: Option<i128>,
    /// The number of the message in which an entry was.
    pub(crate) message: usize,
}

impl Item {
    /// A member of the record.
    pub(crate) fn member(&self, name: &str) -> &[u8] {
        let found = self.record.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice()).unwrap_or_else(|| panic!("no {name} in {:?}", self.record))
    }

    /// When the runtime took the line.
    pub(crate) fn time(&self) -> jiff::Timestamp {
        std::str::from_utf8(self.member("time")).expect("text").parse().expect("a time")
    }
}

#[derive(Default)]
struct Shared {
    items: Mutex<Vec<Item>>,
    /// Messages of the forward protocol, as they came: taking them apart costs more than sending them, and waits.
    messages: Mutex<Vec<Packed>>,
    count: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
    down: AtomicBool,
}

/// A sink.
pub(crate) struct Receiver {
    kind: Kind,
    tls: Option<Arc<ServerConfig>>,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

impl Receiver {
    /// On loopback.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), kind)
    }

    /// At an address of this machine.
    pub(crate) fn at(address: IpAddr, kind: Kind) -> Self {
        Self::start_with(address, kind, None)
    }

    /// One that speaks TLS.
    pub(crate) fn start_tls(kind: Kind, config: Arc<ServerConfig>) -> Self {
        Self::start_with(Ipv4Addr::LOCALHOST.into(), kind, Some(config))
    }

    fn start_with(address: IpAddr, kind: Kind, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port is free");
        let address = listener.local_addr().expect("an address");
        let mut receiver = Self { kind, tls, address, shared: Arc::default(), accepts: None };
        receiver.serve(listener);
        receiver
    }

    /// Takes what comes by a unix socket, too, until the test's end.
    pub(crate) fn also_at(&self, path: &Path) {
        let listener = UnixListener::bind(path).expect("a socket");
        let (shared, kind) = (self.shared.clone(), self.kind);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || take(kind, stream, &shared));
            }
        });
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    fn serve(&mut self, listener: TcpListener) {
        let (shared, kind, tls) = (self.shared.clone(), self.kind, self.tls.clone());
        shared.down.store(false, Ordering::SeqCst);
        self.accepts = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.down.load(Ordering::SeqCst) {
                    return;
                }
                let known = stream.try_clone().expect("a socket");
                shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(known);
                let (shared, tls) = (shared.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => take(kind, stream, &shared),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a connection");
                        take(kind, StreamOwned::new(connection, stream), &shared);
                    }
                });
            }
        }));
    }

    /// Connections are cut and refused from now on.
    pub(crate) fn down(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.drain(..).for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    }

    /// It is back at the same address.
    pub(crate) fn up(&mut self) {
        self.serve(TcpListener::bind(self.address).expect("the address is free"));
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    pub(crate) fn items(&self) -> Vec<Item> {
        let mut items = self.shared.items.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let messages = self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner);
        items.extend(messages.iter().enumerate().flat_map(|(number, message)| entries(message, number)));
        items
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.down();
    }
}

impl Shared {
    fn keep(&self, item: Item) {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).push(item);
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

fn take(kind: Kind, stream: impl Read + Write, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    match kind {
        Kind::Http(status, body) => while http(&mut reader, status, body, shared).is_some() {},
        Kind::Ended(end) => {
            let mut piece = Vec::new();
            while reader.read_until(end, &mut piece).is_ok_and(|read| read > 0) {
                piece.pop_if(|last| *last == end);
                shared.keep(Item { body: std::mem::take(&mut piece), ..Item::default() });
            }
        }
        Kind::Forward => {
            while let Ok(message) = rmpv::decode::read_value(&mut reader) {
                let (count, chunk) = (option(&message, "size"), option(&message, "chunk").cloned());
                // Without a receipt a message does not say how many entries it has.
                let stated = count.and_then(Packed::as_u64).and_then(|count| usize::try_from(count).ok());
                let count = stated.unwrap_or_else(|| entries(&message, 0).len());
                shared.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                shared.count.fetch_add(count, Ordering::SeqCst);
                let Some(chunk) = chunk else { continue };
                let answer = Packed::Map(vec![("ack".into(), chunk)]);
                // At once: Fluent Bit takes what comes first for the whole of it, and sends again what it could not read.
                let mut bytes = Vec::new();
                rmpv::encode::write_value(&mut bytes, &answer).expect("it is encoded");
                let stream = reader.get_mut();
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
            }
        }
    }
}

fn http(reader: &mut BufReader<impl Read + Write>, status: u16, answer: &str, shared: &Shared) -> Option<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap_or(0));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if header("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
        body = plain;
    }
    shared.keep(Item { head: head.clone(), body, ..Item::default() });
    let length = answer.len();
    let type_ = "Content-Type: application/json\r\nETag: \"x\"";
    let stream = reader.get_mut();
    write!(stream, "HTTP/1.1 {status} X\r\n{type_}\r\nContent-Length: {length}\r\n\r\n{answer}").ok()?;
    stream.flush().ok()
}

/// An option of a message: how many entries it has, or the chunk whose receipt it asks for.
fn option<'a>(message: &'a Packed, name: &str) -> Option<&'a Packed> {
    let mut options = message.as_array()?.last()?.as_map()?.iter();
    options.find(|(known, _)| known.as_str() == Some(name)).map(|(_, value)| value)
}

/// The entries of a message.
fn entries(message: &Packed, number: usize) -> Vec<Item> {
    let Some([tag, rest @ ..]) = message.as_array().map(Vec::as_slice) else { return Vec::new() };
    let tag = tag.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    match &rest[0] {
        Packed::Array(entries) => all.clone_from(entries),
        packed => {
            let mut bytes = packed.as_slice().unwrap_or_default();
            while !bytes.is_empty() {
                all.push(rmpv::decode::read_value(&mut bytes).expect("an entry"));
            }
        }
    }
    let text =
        |value: &Packed| value.as_slice().map_or_else(|| value.to_string().into_bytes(), <[u8]>::to_vec);
    let item = |entry: &Packed| {
        let record = entry.as_array().and_then(|entry| entry.get(1)?.as_map());
        let members = record.into_iter().flatten();
        let record = members.map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), text(value)));
        let record = record.collect();
        Item {
            head: tag.clone(),
            record,
            nanoseconds: nanoseconds(entry),
            message: number,
            ..Item::default()
        }
    };
    all.iter().map(item).collect()
}

/// The time of an entry: seconds and nanoseconds in a type of fluentd's own, with what else is known of the entry or alone.
fn nanoseconds(entry: &Packed) -> Option<i128> {
    let first = entry.as_array()?.first()?;
    let Packed::Ext(0, bytes) = first.as_array().and_then(|both| both.first()).unwrap_or(first) else {
        return None;
    };
    let (seconds, rest) = bytes.split_at_checked(4)?;
    let number = |bytes: &[u8]| Some(i128::from(u32::from_be_bytes(bytes.try_into().ok()?)));
    Some(number(seconds)? * 1_000_000_000 + number(rest)?)
}

/// A sink for datagrams.
pub(crate) struct Datagrams(UdpSocket);

impl Datagrams {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port is free");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        Self(socket)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    pub(crate) fn next(&self) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        let length = self.0.recv(&mut bytes).expect("a datagram comes");
        bytes.truncate(length);
        bytes
    }
}
