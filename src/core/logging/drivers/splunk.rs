//! `splunk`: the HTTP event collector of Splunk
//! (<https://docs.docker.com/engine/logging/drivers/splunk/>).

use super::super::options::{COMMON, DOCKER, Entry, Options, Rule};
use super::super::route::Splunk;
use super::super::tag::Tag;
use super::super::value::{self, Literal};
use super::service;

pub(super) const TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("splunk-url", Rule::Honoured),
        ("splunk-token", Rule::Secret),
        ("splunk-source", Rule::Honoured),
        ("splunk-sourcetype", Rule::Honoured),
        ("splunk-index", Rule::Honoured),
        ("splunk-capath", Rule::File),
        ("splunk-caname", Rule::Honoured),
        ("splunk-insecureskipverify", Rule::Honoured),
        ("splunk-format", Rule::Honoured),
        ("splunk-verify-connection", Rule::Honoured),
        ("splunk-gzip", Rule::Honoured),
        ("splunk-gzip-level", Rule::Honoured),
        ("splunk-index-acknowledgment", Rule::Refused("Fluent Bit does not ask whether events were indexed")),
        ("tag", Rule::Honoured),
    ],
    DOCKER,
];

pub(super) fn read(options: &mut Options<'_>) -> Option<Splunk> {
    let url = service(options, "splunk-url");
    if url.as_ref().is_some_and(|(_, _, path)| !path.is_empty()) {
        options.refuse("splunk-url", "it has a path; only https://host:port is expected");
    }
    options.missing("splunk-token");
    let token = options.secret("splunk-token");
    let raw = options.read("splunk-format", |text| match text {
        "inline" => Ok(false),
        "raw" => Ok(true),
        "json" => Err(
            "\"json\" is not possible: the members of a line would stand beside those that tell of the job; Splunk reads \
             JSON itself in events of format raw"
                .to_owned(),
        ),
        _ => Err(format!("{text:?} is none of inline, raw")),
    });
    let raw = raw.unwrap_or(false);
    let tag = options.read("tag", Tag::read);
    if raw && tag.is_some() {
        options.refuse("tag", "an event of format raw is the line alone");
    }
    // True and false are the same: the job starts either way, and the sidecar's own log tells of a collector that does not
    // answer.
    options.boolean("splunk-verify-connection");
    options.read("splunk-gzip-level", |text| match value::number(text, -1, 9)? {
        -1 => Ok(()),
        _ => Err("only -1 is possible: Fluent Bit has one level of compression".to_owned()),
    });
    let unverified = options.boolean("splunk-insecureskipverify").unwrap_or(false);
    let gzip = options.boolean("splunk-gzip").unwrap_or(false);
    let name = options.read("splunk-caname", host_name);
    let authority = options.file("splunk-capath");
    let index = options.text("splunk-index");
    let source = options.plain_text("splunk-source");
    let source_type = options.text("splunk-sourcetype");
    let (place, mut tls, _) = url?;
    if !tls.on {
        for name in ["splunk-caname", "splunk-insecureskipverify"] {
            if options.raw(name).is_some() {
                options.refuse(name, "it goes with https:// only");
            }
        }
        if authority.is_some() {
            options.refuse("splunk-url", "splunk-capath goes with https:// only");
        }
    }
    (tls.unverified, tls.name, tls.authority) = (unverified, name, authority);
    Some(Splunk { place, tls, token: token?, index, source, source_type, raw, gzip, tag })
}

/// The name that a server proves by its certificate.
fn host_name(text: &str) -> Result<Literal, String> {
    match value::host_and_port(text)? {
        (_, None) => Literal::read(text),
        (_, Some(_)) => Err(format!("{text:?} has a port")),
    }
}
