//! `awslogs`: CloudWatch Logs
//! (<https://docs.aws.amazon.com/batch/latest/userguide/using_awslogs.html>,
//! <https://docs.docker.com/engine/logging/drivers/awslogs/>).

use super::super::AwslogsDefaults;
use super::super::multiline::Multiline;
use super::super::options::{COMMON, Entry, Options, Rule};
use super::super::route::{Awslogs, Output, Tls};
use super::super::value::{Address, Literal};
use super::{Reading, region};

/// The log group of jobs that name none.
const GROUP: &str = "/aws/batch/job";

const OWN_STREAM: &str = "each attempt has a stream of its own, which is named by AWS Batch's scheme; awslogs-stream-prefix \
                          says how its name begins";
const BATCHES: &str = "Fluent Bit sends what it has each second, or when it has enough for a request";

pub(super) const TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("awslogs-region", Rule::Honoured),
        ("awslogs-group", Rule::Honoured),
        ("awslogs-stream-prefix", Rule::Honoured),
        ("awslogs-create-group", Rule::Honoured),
        ("awslogs-create-stream", Rule::Honoured),
        ("awslogs-datetime-format", Rule::Honoured),
        ("awslogs-multiline-pattern", Rule::Honoured),
        ("awslogs-endpoint", Rule::Honoured),
        ("awslogs-format", Rule::Honoured),
        ("awslogs-capath", Rule::File),
        ("awslogs-insecureskipverify", Rule::Honoured),
        ("awslogs-stream", Rule::Refused(OWN_STREAM)),
        ("tag", Rule::Refused(OWN_STREAM)),
        ("awslogs-force-flush-interval-seconds", Rule::Refused(BATCHES)),
        ("awslogs-max-buffered-events", Rule::Refused(BATCHES)),
        (
            "awslogs-credentials-endpoint",
            Rule::Refused(
                "credentials are those of the pod's role or of logging.awslogs.credentialsSecret of the environment",
            ),
        ),
    ],
    super::super::options::DOCKER,
];

pub(super) fn read(options: &mut Options<'_>, defaults: &AwslogsDefaults) -> Reading {
    let multiline = multiline(options);
    let embedded_metrics = options.word("awslogs-format", &[("json/emf", true)]).unwrap_or(false);
    if embedded_metrics && multiline.is_some() {
        options
            .refuse("awslogs-format", "an event of metrics is one line; it goes with no multi-line option");
    }
    if options.boolean("awslogs-create-stream") == Some(false) {
        options.refuse("awslogs-create-stream", "\"false\" is not possible: the stream of an attempt is new");
    }
    let stated = options.read("awslogs-endpoint", endpoint);
    let endpoint_of_environment = options.raw("awslogs-endpoint").is_none();
    let endpoint = stated.or_else(|| default(options, "endpoint", defaults.endpoint.as_deref(), endpoint));
    let tls = tls(options, defaults);
    let region = match options.raw("awslogs-region") {
        Some(_) => options.read("awslogs-region", region),
        None => default(options, "region", defaults.region.as_deref(), region),
    };
    if region.is_none() && options.raw("awslogs-region").is_none() && defaults.region.is_none() {
        options.refuse(
            "awslogs-region",
            "it is required where logging.awslogs of the environment has no region",
        );
    }
    let group = match options.raw("awslogs-group") {
        Some(_) => options.read("awslogs-group", group),
        None => default(options, "group", Some(defaults.group.as_deref().unwrap_or(GROUP)), group),
    };
    let prefix = options.read("awslogs-stream-prefix", prefix);
    let create_group = options.boolean("awslogs-create-group").unwrap_or(false);
    let output = region.zip(group).map(|(region, group)| {
        Output::Awslogs(Awslogs {
            region,
            group,
            prefix,
            create_group,
            endpoint,
            tls,
            endpoint_of_environment,
            embedded_metrics,
        })
    });
    (output, multiline)
}

/// What the environment says; if that is wrong, it is said at the job, whose option could mend it.
fn default<T>(
    options: &mut Options<'_>,
    member: &str,
    text: Option<&str>,
    reader: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match reader(text?) {
        Ok(value) => Some(value),
        Err(why) => {
            options.refuse(
                &format!("awslogs-{member}"),
                format!("logging.awslogs.{member} of the environment: {why}"),
            );
            None
        }
    }
}

/// An endpoint other than AWS's. Fluent Bit's output takes no `tls`: once it has set up its credentials, it has TLS on
/// and nothing turns it off.
fn endpoint(text: &str) -> Result<Address, String> {
    if text.starts_with("http://") {
        return Err(format!("{text:?} is not possible: Fluent Bit speaks to CloudWatch Logs by TLS only"));
    }
    super::endpoint(text)
}

/// How the endpoint proves who it is. What the environment says of its own does not hold for another.
fn tls(options: &mut Options<'_>, defaults: &AwslogsDefaults) -> Tls {
    let stated = options.raw("awslogs-endpoint").is_some();
    let unverified = options.boolean("awslogs-insecureskipverify");
    let authority = options.file("awslogs-capath");
    if !stated && unverified.is_some() {
        options.refuse("awslogs-insecureskipverify", "it goes with awslogs-endpoint only");
    }
    if !stated && authority.is_some() {
        options.refuse("awslogs-capath", "it goes with awslogs-endpoint only");
    }
    match (stated, defaults.endpoint.is_some()) {
        (true, _) => Tls { on: true, unverified: unverified.unwrap_or(false), authority, ..Tls::default() },
        (false, true) => Tls {
            on: true,
            unverified: defaults.unverified,
            authority: defaults.authority.clone(),
            ..Tls::default()
        },
        (false, false) => Tls { on: true, ..Tls::default() },
    }
}

fn multiline(options: &mut Options<'_>) -> Option<Multiline> {
    let both = ["awslogs-datetime-format", "awslogs-multiline-pattern"];
    if both.iter().all(|name| options.raw(name).is_some()) {
        options.refuse(both[1], format!("it cannot stand beside {}", both[0]));
    }
    let datetime = options.read(both[0], Multiline::datetime);
    options.read(both[1], Multiline::pattern).or(datetime)
}

/// A log group's name
/// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html>). Fluent Bit puts it
/// into JSON as it is, so that no other character may be in it.
fn group(text: &str) -> Result<Literal, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '#');
    if text.is_empty() || text.len() > 512 || !text.chars().all(allowed) {
        return Err(format!("{text:?} is no log group: 1 to 512 letters, digits and _ - / . #"));
    }
    Literal::read(text)
}

/// The beginning of a stream's name
/// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogStream.html>).
fn prefix(text: &str) -> Result<Literal, String> {
    if text.contains([':', '*', '"', '\\', '}']) || text.len() > 200 {
        return Err(format!(
            "{text:?} does not begin a stream: up to 200 characters, none of them : * \" \\ }}"
        ));
    }
    Literal::without_dollar(text)
}
