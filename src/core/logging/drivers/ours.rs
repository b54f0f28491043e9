//! Drivers that AWS Batch does not have: s3, loki, opensearch, opentelemetry and stdout. Their options are named as AWS
//! names those of its own, after the driver.

use super::super::AwslogsDefaults;
use super::super::options::{COMMON, Entry, Options, Rule};
use super::super::route::{Credentials, Loki, Opensearch, Opentelemetry, S3, Stdout};
use super::super::value::{self, Kilo, Literal};
use super::{endpoint, region, service};

pub(super) const S3_TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("s3-bucket", Rule::Honoured),
        ("s3-region", Rule::Honoured),
        ("s3-prefix", Rule::Honoured),
        ("s3-endpoint", Rule::Honoured),
        ("s3-gzip", Rule::Honoured),
        ("s3-object-size", Rule::Honoured),
        ("s3-upload-timeout", Rule::Honoured),
        ("s3-storage-class", Rule::Honoured),
    ],
];

pub(super) const LOKI_TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("loki-url", Rule::Honoured),
        ("loki-tenant", Rule::Honoured),
        ("loki-labels", Rule::Honoured),
        ("loki-user", Rule::Honoured),
        ("loki-password", Rule::Secret),
        ("loki-token", Rule::Secret),
        ("loki-gzip", Rule::Honoured),
        ("loki-capath", Rule::File),
        ("loki-insecureskipverify", Rule::Honoured),
    ],
];

pub(super) const OPENSEARCH_TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("opensearch-url", Rule::Honoured),
        ("opensearch-index", Rule::Honoured),
        ("opensearch-pipeline", Rule::Honoured),
        ("opensearch-user", Rule::Honoured),
        ("opensearch-password", Rule::Secret),
        ("opensearch-aws-region", Rule::Honoured),
        ("opensearch-gzip", Rule::Honoured),
        ("opensearch-capath", Rule::File),
        ("opensearch-insecureskipverify", Rule::Honoured),
    ],
];

pub(super) const OPENTELEMETRY_TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("opentelemetry-url", Rule::Honoured),
        ("opentelemetry-header-name", Rule::Honoured),
        ("opentelemetry-header-value", Rule::Secret),
        ("opentelemetry-gzip", Rule::Honoured),
        ("opentelemetry-capath", Rule::File),
        ("opentelemetry-insecureskipverify", Rule::Honoured),
    ],
];

pub(super) const STDOUT_TABLES: &[&[Entry]] = &[COMMON, &[("stdout-format", Rule::Honoured)]];

/// An object is written by one request, for which Fluent Bit has a gigabyte at most.
const OBJECT: u64 = 50 << 20;
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 1000 * 1000 * 1000;
const UPLOAD_SECONDS: u64 = 60;

pub(super) fn s3(options: &mut Options<'_>, defaults: &AwslogsDefaults) -> Option<S3> {
    options.missing("s3-bucket");
    let bucket = options.read("s3-bucket", |text| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(3..=63).contains(&text.len()) || !text.chars().all(allowed) {
            return Err(format!("{text:?} is no bucket: 3 to 63 lower-case letters, digits, - and ."));
        }
        Literal::read(text)
    });
    let of_environment = defaults.region.as_deref().and_then(|text| region(text).ok());
    if options.raw("s3-region").is_none() && of_environment.is_none() {
        options.refuse("s3-region", "it is required where logging.awslogs of the environment has no region");
    }
    let region = options.read("s3-region", region).or(of_environment);
    let prefix = options.read("s3-prefix", |text| {
        let text = text.trim_matches('/');
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()/=%".contains(c);
        if !text.chars().all(allowed) || text.len() > 512 {
            return Err(format!(
                "{text:?} has more than letters, digits and ! - _ . * ' ( ) / = %, or is too long"
            ));
        }
        Literal::without_dollar(text)
    });
    let endpoint = options.read("s3-endpoint", |text| {
        let address = endpoint(text)?;
        if address.host.contains(':') {
            return Err(format!("{text:?} has an IPv6 address, which Fluent Bit does not take here"));
        }
        Ok(address)
    });
    let object_bytes = options.read("s3-object-size", |text| {
        let bytes = value::size(text, Kilo::Binary)?;
        Some(bytes)
            .filter(|bytes| (SMALLEST..=LARGEST).contains(bytes))
            .ok_or_else(|| format!("{text:?} is not from 1m to 953m"))
    });
    let upload_seconds = options.read("s3-upload-timeout", |text| {
        let seconds = value::seconds(text)?;
        Some(seconds)
            .filter(|seconds| (1..=86_400).contains(seconds))
            .ok_or_else(|| format!("{text:?} is not from 1s to 24h"))
    });
    let storage_class = options.word("s3-storage-class", &STORAGE_CLASSES.map(|class| (class, class)));
    let gzip = options.boolean("s3-gzip").unwrap_or(false);
    Some(S3 {
        bucket: bucket?,
        region: region?,
        prefix,
        endpoint,
        gzip,
        object_bytes: object_bytes.unwrap_or(OBJECT),
        upload_seconds: upload_seconds.unwrap_or(UPLOAD_SECONDS),
        storage_class: storage_class.map(Literal::fixed),
    })
}

/// The storage classes that Fluent Bit's output knows.
const STORAGE_CLASSES: [&str; 8] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "REDUCED_REDUNDANCY",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
];

/// The options that go with `https://` only.
fn https_only(options: &mut Options<'_>, on: bool, names: [&str; 2], capath: Option<&String>) {
    let [insecure, url] = names;
    if !on && (options.raw(insecure).is_some() || capath.is_some()) {
        options.refuse(url, "options of TLS go with https:// only");
    }
}

/// A path, or what stands for none.
fn path(options: &mut Options<'_>, name: &str, path: &str, none: &str) -> Option<Literal> {
    match Literal::without_dollar(if path.is_empty() { none } else { path }) {
        Ok(path) => Some(path),
        Err(why) => {
            options.refuse(name, why);
            None
        }
    }
}

pub(super) fn loki(options: &mut Options<'_>) -> Option<Loki> {
    let url = service(options, "loki-url");
    let tenant = options.text("loki-tenant");
    let labels = options.read("loki-labels", labels).unwrap_or_default();
    let user = options.text("loki-user");
    let (password, token) = (options.secret("loki-password"), options.secret("loki-token"));
    let gzip = options.boolean("loki-gzip").unwrap_or(false);
    let unverified = options.boolean("loki-insecureskipverify").unwrap_or(false);
    let authority = options.file("loki-capath");
    let credentials = match (user, password, token) {
        (Some(user), Some(password), None) => Credentials::User(user, password),
        (None, None, Some(token)) => Credentials::Token(token),
        (None, None, None) => Credentials::None,
        (_, _, Some(_)) => {
            options.refuse("loki-token", "it cannot stand beside loki-user and loki-password");
            Credentials::None
        }
        (user, _, None) => {
            let (missing, there) =
                if user.is_some() { ("loki-password", "loki-user") } else { ("loki-user", "loki-password") };
            options.missing_beside(missing, there);
            Credentials::None
        }
    };
    let (place, mut tls, stated) = url?;
    https_only(options, tls.on, ["loki-insecureskipverify", "loki-url"], authority.as_ref());
    let path = path(options, "loki-url", &stated, "/loki/api/v1/push");
    (tls.unverified, tls.authority) = (unverified, authority);
    Some(Loki { place, path: path?, tls, tenant, labels, credentials, gzip })
}

/// `name=value`, with commas between.
fn labels(text: &str) -> Result<Vec<(Literal, Literal)>, String> {
    let one = |pair: &str| {
        let wrong = || format!("{pair:?} is no label such as team=render");
        let (name, value) = pair.trim().split_once('=').ok_or_else(wrong)?;
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.starts_with("__") {
            return Err(wrong());
        }
        if ["queue", "definition", "job_name"].contains(&name) {
            return Err(format!("the label {name} is there already"));
        }
        // Fluent Bit takes the list apart at commas and at equal signs, and quotes at the ends off.
        if value.contains(['=', '"', '\'']) {
            return Err(wrong());
        }
        Ok((Literal::read(name)?, Literal::without_dollar(value)?))
    };
    let labels = text.split(',').map(one).collect::<Result<Vec<_>, String>>()?;
    let mut names: Vec<&Literal> = labels.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < labels.len() {
        return Err("states a label twice".to_owned());
    }
    Ok(labels)
}

pub(super) fn opensearch(options: &mut Options<'_>) -> Option<Opensearch> {
    let url = service(options, "opensearch-url");
    let index = options.read("opensearch-index", |text| {
        // The names that OpenSearch takes.
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.');
        if text.len() > 255 || !begins || !text.chars().all(allowed) {
            return Err(format!("{text:?} is no index: lower-case letters, digits, - _ ."));
        }
        Literal::read(text)
    });
    let pipeline = options.read("opensearch-pipeline", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.chars().all(allowed) {
            return Err(format!("{text:?} is no pipeline: letters, digits, - _ ."));
        }
        Literal::read(text)
    });
    let user = options.text("opensearch-user");
    let password = options.secret("opensearch-password");
    let aws = options.read("opensearch-aws-region", region);
    let gzip = options.boolean("opensearch-gzip").unwrap_or(false);
    let unverified = options.boolean("opensearch-insecureskipverify").unwrap_or(false);
    let authority = options.file("opensearch-capath");
    let credentials = match (user, password, aws) {
        (Some(user), Some(password), None) => Credentials::User(user, password),
        (None, None, Some(region)) => Credentials::Aws(region),
        (None, None, None) => Credentials::None,
        (_, _, Some(_)) => {
            options.refuse(
                "opensearch-aws-region",
                "it cannot stand beside opensearch-user and opensearch-password",
            );
            Credentials::None
        }
        (user, _, None) => {
            let (missing, there) = match user {
                Some(_) => ("opensearch-password", "opensearch-user"),
                None => ("opensearch-user", "opensearch-password"),
            };
            options.missing_beside(missing, there);
            Credentials::None
        }
    };
    let (place, mut tls, stated) = url?;
    https_only(options, tls.on, ["opensearch-insecureskipverify", "opensearch-url"], authority.as_ref());
    let path = if stated.is_empty() { None } else { path(options, "opensearch-url", &stated, "") };
    (tls.unverified, tls.authority) = (unverified, authority);
    let index =
        index.or_else(|| options.raw("opensearch-index").is_none().then(|| Literal::fixed("batchyard")));
    Some(Opensearch { place, path, tls, index: index?, pipeline, credentials, gzip })
}

pub(super) fn opentelemetry(options: &mut Options<'_>) -> Option<Opentelemetry> {
    let url = service(options, "opentelemetry-url");
    let name = options.read("opentelemetry-header-name", |text| {
        // Fluent Bit takes name and value apart at the first space.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!#%&*+-.^_|~".contains(c);
        if text.is_empty() || !text.chars().all(allowed) {
            return Err(format!("{text:?} is no name of a header"));
        }
        Literal::read(text)
    });
    let value = options.secret("opentelemetry-header-value");
    for (one, other, missing) in [
        (name.is_some(), value.is_some(), "opentelemetry-header-value"),
        (value.is_some(), name.is_some(), "opentelemetry-header-name"),
    ] {
        if one && !other {
            options.missing(missing);
        }
    }
    let gzip = options.boolean("opentelemetry-gzip").unwrap_or(false);
    let unverified = options.boolean("opentelemetry-insecureskipverify").unwrap_or(false);
    let authority = options.file("opentelemetry-capath");
    let (place, mut tls, stated) = url?;
    https_only(
        options,
        tls.on,
        ["opentelemetry-insecureskipverify", "opentelemetry-url"],
        authority.as_ref(),
    );
    let path = path(options, "opentelemetry-url", &stated, "/v1/logs");
    (tls.unverified, tls.authority) = (unverified, authority);
    Some(Opentelemetry { place, path: path?, tls, header: name.zip(value), gzip })
}

pub(super) fn stdout(options: &mut Options<'_>) -> Stdout {
    let json = options.word("stdout-format", &[("json", true), ("text", false)]);
    Stdout { json: json.unwrap_or(true) }
}
