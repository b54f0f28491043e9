//! Drivers that Docker has and AWS passes on: fluentd, gelf, syslog and json-file.

use super::super::options::{COMMON, DOCKER, Entry, Options, Rule};
use super::super::route::{Fluentd, Gelf, JsonFile, Listener, Place, Syslog, Tls, Transport};
use super::super::tag::Tag;
use super::super::value::{self, Kilo, Literal};

const RETRIES: &str =
    "Fluent Bit tries again as long as it has the output in its buffer, with pauses of 1 to 30 s";
const TIMEOUTS: &str = "a sink that does not answer stops no job; Fluent Bit has its own deadlines";

/// <https://docs.docker.com/engine/logging/drivers/fluentd/>
pub(super) const FLUENTD: &[&[Entry]] = &[
    COMMON,
    &[
        ("fluentd-address", Rule::Honoured),
        ("fluentd-async", Rule::Honoured),
        ("fluentd-buffer-limit", Rule::Honoured),
        ("fluentd-request-ack", Rule::Honoured),
        ("fluentd-sub-second-precision", Rule::Honoured),
        ("tag", Rule::Honoured),
        ("fluentd-async-connect", Rule::Refused("Docker calls it fluentd-async now")),
        ("fluentd-async-reconnect-interval", Rule::Refused(RETRIES)),
        ("fluentd-retry-wait", Rule::Refused(RETRIES)),
        ("fluentd-max-retries", Rule::Refused(RETRIES)),
        ("fluentd-write-timeout", Rule::Refused(TIMEOUTS)),
        ("fluentd-read-timeout", Rule::Refused(TIMEOUTS)),
    ],
    DOCKER,
];

/// <https://docs.docker.com/engine/logging/drivers/gelf/>
pub(super) const GELF: &[&[Entry]] = &[
    COMMON,
    &[
        ("gelf-address", Rule::Honoured),
        ("gelf-compression-type", Rule::Honoured),
        ("tag", Rule::Honoured),
        ("gelf-compression-level", Rule::Refused("Fluent Bit has one level of compression")),
        ("gelf-tcp-max-reconnect", Rule::Refused(RETRIES)),
        ("gelf-tcp-reconnect-delay", Rule::Refused(RETRIES)),
    ],
    DOCKER,
];

/// <https://docs.docker.com/engine/logging/drivers/syslog/>
pub(super) const SYSLOG: &[&[Entry]] = &[
    COMMON,
    &[
        ("syslog-address", Rule::Honoured),
        ("syslog-facility", Rule::Honoured),
        ("syslog-format", Rule::Honoured),
        ("syslog-tls-ca-cert", Rule::File),
        ("syslog-tls-cert", Rule::File),
        ("syslog-tls-key", Rule::File),
        ("syslog-tls-skip-verify", Rule::Honoured),
        ("tag", Rule::Honoured),
    ],
    DOCKER,
];

/// <https://docs.docker.com/engine/logging/drivers/json-file/>
pub(super) const JSON_FILE: &[&[Entry]] = &[
    COMMON,
    &[
        ("max-size", Rule::Honoured),
        ("max-file", Rule::Honoured),
        ("compress", Rule::Honoured),
        ("tag", Rule::Honoured),
    ],
    DOCKER,
];

pub(super) fn fluentd(options: &mut Options<'_>) -> Option<Fluentd> {
    options.missing("fluentd-address");
    let listener = options.read("fluentd-address", |text| {
        if let Some(path) = text.strip_prefix("unix://") {
            return socket(path).map(Listener::Unix);
        }
        let text = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
        let address = value::address(&text, &["tcp", "tls", "unix"])?;
        if !address.path.is_empty() {
            return Err(format!("{text:?} has a path"));
        }
        let tls = Tls { on: address.scheme == "tls", ..Tls::default() };
        Ok(Listener::Tcp(Place { host: address.host, port: address.port.unwrap_or(24224) }, tls))
    });
    // Both are the same here: the job never waits.
    options.boolean("fluentd-async");
    let acknowledged = options.boolean("fluentd-request-ack").unwrap_or(false);
    let sub_second = options.boolean("fluentd-sub-second-precision").unwrap_or(false);
    let tag = options.read("tag", Tag::read).unwrap_or_else(Tag::id);
    if options.raw("max-buffer-size").is_some() && options.raw("fluentd-buffer-limit").is_some() {
        options.refuse("fluentd-buffer-limit", "it cannot stand beside max-buffer-size");
    }
    Some(Fluentd { listener: listener?, tag, acknowledged, sub_second })
}

/// The path of a unix socket. It must be a plain absolute path, since a folder of the node is mounted for it.
fn socket(path: &str) -> Result<Literal, String> {
    let parts: Vec<&str> = path.split('/').collect();
    let wrong = parts.iter().skip(1).any(|part| part.is_empty() || *part == "." || *part == "..");
    // A socket in the root would need the whole file system; the kernel takes 107 bytes.
    if !path.starts_with('/') || parts.len() < 3 || wrong || path.len() > 107 {
        return Err(format!("{path:?} is no absolute path of a socket in a folder, of up to 107 characters"));
    }
    Literal::without_dollar(path)
}

pub(super) fn gelf(options: &mut Options<'_>) -> Option<Gelf> {
    options.missing("gelf-address");
    let address = options.read("gelf-address", |text| {
        let address = value::address(text, &["udp", "tcp"])?;
        let port = address.port.filter(|_| address.path.is_empty());
        let port =
            port.ok_or_else(|| format!("{text:?} is not of the form udp://host:port or tcp://host:port"))?;
        let transport = if address.scheme == "udp" { Transport::Udp } else { Transport::Tcp };
        Ok((Place { host: address.host, port }, transport))
    });
    let gzip = options.read("gelf-compression-type", |text| match text {
        "gzip" => Ok(true),
        "none" => Ok(false),
        "zlib" => Err("\"zlib\" is not possible: Fluent Bit compresses with gzip".to_owned()),
        _ => Err(format!("{text:?} is none of gzip, none")),
    });
    let tag = options.read("tag", Tag::read);
    let (place, transport) = address?;
    if transport == Transport::Tcp && options.raw("gelf-compression-type").is_some() {
        options.refuse("gelf-compression-type", "it goes with udp:// only");
    }
    Some(Gelf { place, transport, gzip: transport == Transport::Udp && gzip.unwrap_or(true), tag })
}

/// The facilities by name, in the order of their numbers (RFC 5424, 6.2.1); those from 12 to 15 have none.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "",
    "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
/// Docker's default, `daemon`.
const DAEMON: u8 = 3;

pub(super) fn syslog(options: &mut Options<'_>) -> Option<Syslog> {
    options.missing("syslog-address");
    let address = options.read("syslog-address", |text| {
        if text.starts_with("unix://") || text.starts_with("unixgram://") {
            return Err("a unix socket is not possible: Fluent Bit has none for syslog".to_owned());
        }
        let address = value::address(text, &["udp", "tcp", "tcp+tls"])?;
        if !address.path.is_empty() {
            return Err(format!("{text:?} has a path"));
        }
        let transport = match address.scheme.as_str() {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            _ => Transport::Tls,
        };
        Ok((Place { host: address.host, port: address.port.unwrap_or(514) }, transport))
    });
    let facility = options.read("syslog-facility", |text| {
        let named = FACILITIES.iter().position(|name| *name == text).filter(|_| !text.is_empty());
        let number = named.or_else(|| text.parse().ok().filter(|number| *number < FACILITIES.len()));
        number.and_then(|number| u8::try_from(number).ok()).ok_or_else(|| format!("{text:?} is no facility"))
    });
    let rfc5424 =
        options.word("syslog-format", &[("rfc3164", false), ("rfc5424", true), ("rfc5424micro", true)]);
    let unverified = options.boolean("syslog-tls-skip-verify").unwrap_or(false);
    let tag = options.read("tag", Tag::read).unwrap_or_else(Tag::id);
    let (authority, certificate, key) =
        (options.file("syslog-tls-ca-cert"), options.file("syslog-tls-cert"), options.file("syslog-tls-key"));
    if certificate.is_some() != key.is_some() {
        let (missing, there) = if key.is_none() {
            ("syslog-tls-key", "syslog-tls-cert")
        } else {
            ("syslog-tls-cert", "syslog-tls-key")
        };
        options.missing_beside(missing, there);
    }
    let (place, transport) = address?;
    let on = transport == Transport::Tls;
    if !on
        && (options.raw("syslog-tls-skip-verify").is_some() || authority.is_some() || certificate.is_some())
    {
        options.refuse("syslog-address", "options of TLS go with tcp+tls:// only");
    }
    let tls = Tls { on, unverified, name: None, authority, certificate, key };
    Some(Syslog {
        place,
        transport,
        tls,
        facility: facility.unwrap_or(DAEMON),
        rfc5424: rfc5424.unwrap_or(false),
        tag,
    })
}

/// Where Docker has no bound, the kubelet's holds: nobody must fill a node's disk by saying nothing.
const MAX_BYTES: u64 = 10 << 20;
const MAX_FILES: u32 = 5;
/// The files of one container together: no limit of its pod counts them.
const MOST_GIB: u64 = 1;

pub(super) fn json_file(options: &mut Options<'_>) -> Option<JsonFile> {
    let max_bytes = options.read("max-size", |text| match text {
        "-1" => Err("\"-1\" is not possible: a node's disk has an end".to_owned()),
        _ => value::size(text, Kilo::Thousand),
    });
    let max_files = options.read("max-file", |text| {
        let number = value::number(text, 1, 1000)?;
        let more = u32::try_from(number).ok().filter(|number| *number > 1);
        more.ok_or_else(|| "\"1\" is not possible: Fluent Bit keeps at least one file besides".to_owned())
    });
    let compress = options.boolean("compress").unwrap_or(false);
    let tag = options.read("tag", Tag::read);
    // What cannot be read was refused already.
    let is_read = |name, value: bool| options.raw(name).is_some() == value;
    let both = is_read("max-size", max_bytes.is_some()) && is_read("max-file", max_files.is_some());
    let (bytes, files) = (max_bytes.unwrap_or(MAX_BYTES), max_files.unwrap_or(MAX_FILES));
    if both && bytes.saturating_mul(files.into()) > MOST_GIB << 30 {
        let name = if max_bytes.is_some() { "max-size" } else { "max-file" };
        options.refuse(
            name,
            format!("{files} files (max-file) of {bytes} bytes (max-size) are more than {MOST_GIB} GiB"),
        );
    }
    Some(JsonFile { max_bytes: bytes, max_files: files, compress, tag })
}
