//! The drivers: what options each has, and how they become a route.

mod awslogs;
mod docker;
mod firelens;
mod ours;
mod splunk;

use super::options::{Entry, Options};
use super::route::{Buffer, Output, Place, Route, Tls};
use super::value::{self, Address, Kilo, Literal};
use super::{AwslogsDefaults, Configuration, Driver, Refusal};
use crate::reason::logs;

/// The tables of a driver's options.
pub(super) fn tables(driver: Driver) -> &'static [&'static [Entry]] {
    match driver {
        Driver::Awslogs => awslogs::TABLES,
        Driver::Splunk => splunk::TABLES,
        Driver::Fluentd => docker::FLUENTD,
        Driver::Gelf => docker::GELF,
        Driver::Syslog => docker::SYSLOG,
        Driver::Journald => &[],
        Driver::JsonFile => docker::JSON_FILE,
        Driver::Awsfirelens => firelens::TABLES,
        Driver::S3 => ours::S3_TABLES,
        Driver::Loki => ours::LOKI_TABLES,
        Driver::Opensearch => ours::OPENSEARCH_TABLES,
        Driver::Opentelemetry => ours::OPENTELEMETRY_TABLES,
        Driver::Stdout => ours::STDOUT_TABLES,
    }
}

/// What a driver's options say, or nothing if something that it needs is refused.
type Reading = (Option<Output>, Option<super::multiline::Multiline>);

/// Reads a configuration.
pub(super) fn read(configuration: &Configuration, defaults: &AwslogsDefaults) -> Result<Route, Vec<Refusal>> {
    let driver = configuration.driver;
    let respelled;
    let configuration = match driver {
        Driver::Awsfirelens => {
            respelled = firelens::respell(configuration)?;
            &respelled
        }
        _ => configuration,
    };
    // The properties of an output of Fluent Bit are known when its name is.
    let of_output = match driver {
        Driver::Awsfirelens => firelens::entries(configuration),
        _ => Vec::new(),
    };
    let all: Vec<&[Entry]> = tables(driver).iter().copied().chain([of_output.as_slice()]).collect();
    let mut options = Options::open(configuration, &all);
    let plain = |output: Option<Output>| (output, None);
    let (output, multiline): Reading = match driver {
        Driver::Awslogs => awslogs::read(&mut options, defaults),
        Driver::Splunk => plain(splunk::read(&mut options).map(Output::Splunk)),
        // Whatever its options are.
        Driver::Journald => return Err(vec![logs::journald()]),
        Driver::Fluentd => plain(docker::fluentd(&mut options).map(Output::Fluentd)),
        Driver::Gelf => plain(docker::gelf(&mut options).map(Output::Gelf)),
        Driver::Syslog => plain(docker::syslog(&mut options).map(Output::Syslog)),
        Driver::JsonFile => plain(docker::json_file(&mut options).map(Output::JsonFile)),
        Driver::Awsfirelens => plain(firelens::read(&mut options, configuration).map(Output::Firelens)),
        Driver::S3 => plain(ours::s3(&mut options, defaults).map(Output::S3)),
        Driver::Loki => plain(ours::loki(&mut options).map(Output::Loki)),
        Driver::Opensearch => plain(ours::opensearch(&mut options).map(Output::Opensearch)),
        Driver::Opentelemetry => plain(ours::opentelemetry(&mut options).map(Output::Opentelemetry)),
        Driver::Stdout => plain(Some(Output::Stdout(ours::stdout(&mut options)))),
    };
    let waits = match driver {
        Driver::Fluentd => common(&mut options).or(buffer(&mut options, "fluentd-buffer-limit")),
        _ => common(&mut options),
    };
    let refusals = options.close();
    match output {
        Some(output) if refusals.is_empty() => Ok(Route { driver, output, multiline, buffer: waits }),
        _ => Err(refusals),
    }
}

/// The options that all drivers have.
fn common(options: &mut Options<'_>) -> Option<Buffer> {
    options.read("mode", |text| match text {
        "non-blocking" => Ok(()),
        "blocking" => Err("\"blocking\" is not possible: a job never waits for its log".to_owned()),
        _ => Err(format!("{text:?} is neither blocking nor non-blocking")),
    });
    // Without a mode it is non-blocking, as on AWS since 2025.
    buffer(options, "max-buffer-size")
}

/// An option for how much waits.
fn buffer(options: &mut Options<'_>, option: &'static str) -> Option<Buffer> {
    let bytes = options.read(option, |text| value::size(text, Kilo::Binary))?;
    Some(Buffer { option, bytes })
}

/// Reads an address of an HTTP service: where it is, whether by TLS, and its path without the last slash.
fn service(options: &mut Options<'_>, name: &str) -> Option<(Place, Tls, String)> {
    options.missing(name);
    let address = options.read(name, |text| value::address(text, &["https", "http"]))?;
    Some(split(address))
}

fn split(address: Address) -> (Place, Tls, String) {
    let on = address.scheme == "https";
    let port = address.port.unwrap_or(if on { 443 } else { 80 });
    let path = address.path.trim_end_matches('/').to_owned();
    (Place { host: address.host, port }, Tls { on, ..Tls::default() }, path)
}

/// An address that is a service's endpoint: it has no path.
fn endpoint(text: &str) -> Result<Address, String> {
    let address = value::address(text, &["https", "http"])?;
    match address.path.as_str() {
        "" | "/" => Ok(address),
        _ => Err(format!("{text:?} has a path")),
    }
}

/// The name of a region.
fn region(text: &str) -> Result<Literal, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 32 || !text.chars().all(allowed) {
        return Err(format!("{text:?} is no region"));
    }
    Literal::read(text)
}
