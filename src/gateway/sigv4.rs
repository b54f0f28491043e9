//! Signature Version 4: who signed a request, and whether it came as it was signed
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! The canonical form is made by AWS's own crate, which signs what it is given: the request is signed once more with
//! the key's secret, and both signatures are compared in constant time. What is signed twice is the body that was
//! read, never a hash that the caller states.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::http::{HeaderMap, Method, Uri, header};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq as _;

use super::failure::Failure;
use super::service::Service;
use crate::k8s::access_key::Hidden;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: &str = "x-amz-date";
const TOKEN: &str = "x-amz-security-token";
/// By how much a caller's clock may differ from ours.
pub(super) const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a request says of its signature; nothing of it is proved yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The id of the access key.
    pub(super) key: String,
    /// When it was signed.
    pub(super) signed_at: Timestamp,
    service: Service,
    headers: Vec<String>,
    /// In hexadecimal digits.
    pub(super) signature: String,
}

/// A request as it came.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

fn incomplete(what: &str) -> Failure {
    Failure::auth("IncompleteSignatureException", format!("Authorization header: {what}"))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::auth("InvalidSignatureException", message)
}

impl Claim {
    /// Reads the Authorization header, and checks all that needs no secret.
    ///
    /// # Errors
    /// When there is none, when something is missing in it, when it is for another service or region, or when it was
    /// signed too long ago.
    pub(super) fn read(
        headers: &HeaderMap,
        service: Service,
        region: &str,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return Err(Failure::auth("MissingAuthenticationTokenException", "Missing Authentication Token"));
        };
        let text = value.to_str().map_err(|_| incomplete("it is no text"))?;
        let rest = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '));
        let rest = rest.ok_or_else(|| incomplete("only AWS4-HMAC-SHA256 is supported"))?;
        let part = |name: &str| {
            let mut parts = rest.split(',').filter_map(|part| part.trim().split_once('='));
            let found = parts.find(|(found, _)| *found == name).map(|(_, value)| value);
            found.ok_or_else(|| incomplete(&format!("{name} is missing")))
        };
        let scope: Vec<&str> = part("Credential")?.split('/').collect();
        let [key, day, in_region, for_service, "aws4_request"] = scope[..] else {
            return Err(incomplete("Credential must be KEY/DATE/REGION/SERVICE/aws4_request"));
        };
        if in_region != region {
            return Err(invalid(format!("Credential should be scoped to a valid region: {region}.")));
        }
        if for_service != service.name() {
            return Err(invalid(format!(
                "Credential should be scoped to correct service: '{}'.",
                service.name()
            )));
        }
        let stamp = headers.get(DATE).and_then(|value| value.to_str().ok());
        let stamp = stamp.ok_or_else(|| incomplete("the header X-Amz-Date is missing"))?;
        let signed_at = time(stamp).ok_or_else(|| incomplete("X-Amz-Date is no time"))?;
        if !stamp.starts_with(day) || day.len() != 8 {
            return Err(invalid("Date in Credential scope does not match YYYYMMDD of X-Amz-Date."));
        }
        in_time(stamp, signed_at, now)?;
        let headers = signed_headers(part("SignedHeaders")?, headers)?;
        let signature = part("Signature")?.to_owned();
        Ok(Self { key: key.to_owned(), signed_at, service, headers, signature })
    }

    /// True if the signature covers the header of this name.
    pub(super) fn signs(&self, header: &str) -> bool {
        self.headers.iter().any(|signed| signed == header)
    }

    /// Compares the signature with the one that the secret makes.
    ///
    /// # Errors
    /// When they differ.
    pub(super) fn verify(&self, request: Signed<'_>, secret: &Hidden, region: &str) -> Result<(), Failure> {
        let mut headers = Vec::new();
        for name in &self.headers {
            let values = request.headers.get_all(name.as_str()).iter().map(|value| value.to_str());
            let values: Result<Vec<&str>, _> = values.collect();
            let values = values.map_err(|_| invalid(format!("the signed header {name} is no text")))?;
            headers.push((name.clone(), values.join(",")));
        }
        let expected = signature(&Input {
            request,
            headers: &headers,
            key: &self.key,
            secret,
            region,
            service: self.service.name(),
            at: self.signed_at,
        });
        let expected =
            expected.ok_or_else(|| invalid("the request cannot be brought into canonical form"))?;
        match bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            true => Ok(()),
            false => Err(invalid(
                "The request signature we calculated does not match the signature you provided. Check your AWS \
                 Secret Access Key and signing method.",
            )),
        }
    }
}

/// The headers that were signed. What says to whom, when and as whom the request goes must be among them.
fn signed_headers(list: &str, headers: &HeaderMap) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = list.split(';').map(str::to_ascii_lowercase).collect();
    for needed in
        [Some("host"), Some(DATE), headers.contains_key(TOKEN).then_some(TOKEN)].into_iter().flatten()
    {
        if !names.iter().any(|name| name == needed) {
            return Err(incomplete(&format!("{needed} must be a signed header")));
        }
    }
    match names.iter().find(|name| !headers.contains_key(name.as_str())) {
        Some(absent) => Err(invalid(format!("the signed header {absent} is missing"))),
        None => Ok(names),
    }
}

fn in_time(stamp: &str, signed_at: Timestamp, now: Timestamp) -> Result<(), Failure> {
    let show = |time: Timestamp| time.strftime("%Y%m%dT%H%M%SZ").to_string();
    if signed_at.saturating_add(SKEW).is_ok_and(|end| end < now) {
        let earliest = now.saturating_sub(SKEW).unwrap_or(now);
        let text = format!(
            "Signature expired: {stamp} is now earlier than {} ({} - 5 min.)",
            show(earliest),
            show(now)
        );
        return Err(invalid(text));
    }
    if now.saturating_add(SKEW).is_ok_and(|latest| latest < signed_at) {
        let latest = now.saturating_add(SKEW).unwrap_or(now);
        let text = format!(
            "Signature not yet current: {stamp} is still later than {} ({} + 5 min.)",
            show(latest),
            show(now)
        );
        return Err(invalid(text));
    }
    Ok(())
}

/// `20261127T034500Z`.
fn time(text: &str) -> Option<Timestamp> {
    let plain = text.strip_suffix('Z')?;
    let time = DateTime::strptime("%Y%m%dT%H%M%S", plain).ok()?;
    (text.len() == 16).then(|| time.to_zoned(TimeZone::UTC).ok()).flatten().map(|zoned| zoned.timestamp())
}

struct Input<'a> {
    request: Signed<'a>,
    headers: &'a [(String, String)],
    key: &'a str,
    secret: &'a Hidden,
    region: &'a str,
    service: &'a str,
    at: Timestamp,
}

/// The signature that a request should have; nothing if it has no canonical form.
fn signature(input: &Input<'_>) -> Option<String> {
    let credentials = Credentials::new(input.key, input.secret.reveal(), None, None, "batchyard");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    // Exactly what the caller says it signed.
    settings.excluded_headers = None;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(input.region)
        .name(input.service)
        .time(SystemTime::from(input.at))
        .settings(settings)
        .build()
        .ok()?
        .into();
    let target = input.request.uri.path_and_query().map_or("/", |path| path.as_str());
    let headers = input.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = SignableBody::Bytes(input.request.body);
    // The authority only fills in a Host header that is missing, and this one is not.
    let uri = format!("https://host{target}");
    let request = SignableRequest::new(input.request.method.as_str(), uri, headers, body).ok()?;
    sign(request, &params).ok().map(|signed| signed.into_parts().1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const KEY: &str = "AKIDEXAMPLE";
    const REGION: &str = "us-east-1";

    fn secret() -> Hidden {
        Hidden::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    }

    fn now() -> Timestamp {
        "2015-08-30T12:36:00Z".parse().expect("a time")
    }

    fn headers(more: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("host", "example.amazonaws.com".parse().expect("a value"));
        headers.insert(DATE, "20150830T123600Z".parse().expect("a value"));
        for (name, value) in more {
            headers.insert(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn of(method: &Method, uri: &str, headers: &HeaderMap, body: &[u8], service: &str) -> String {
        let uri: Uri = uri.parse().expect("a URI");
        let list: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        let request = Signed { method, uri: &uri, headers, body };
        let input = Input {
            request,
            headers: &list,
            key: KEY,
            secret: &secret(),
            region: REGION,
            service,
            at: now(),
        };
        signature(&input).expect("a signature")
    }

    /// From AWS's test suite for Signature Version 4, `get-vanilla` and `post-vanilla`.
    #[test]
    fn signatures_are_those_of_awss_own_examples() {
        assert_eq!(
            of(&Method::GET, "/", &headers(&[]), b"", "service"),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        assert_eq!(
            of(&Method::POST, "/", &headers(&[]), b"", "service"),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    fn signed(uri: &str, body: &[u8]) -> HeaderMap {
        let plain = headers(&[]);
        let signature = of(&Method::POST, uri, &plain, body, "batch");
        headers(&[(
            "authorization",
            format!(
                "{ALGORITHM} Credential={KEY}/20150830/{REGION}/batch/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
            ),
        )])
    }

    fn outcome(headers: &HeaderMap, uri: &str, body: &[u8], secret: &Hidden) -> Result<(), Failure> {
        let uri: Uri = uri.parse().expect("a URI");
        let claim = Claim::read(headers, Service::Batch, REGION, now())?;
        claim.verify(Signed { method: &Method::POST, uri: &uri, headers, body }, secret, REGION)
    }

    #[test]
    fn only_what_was_signed_is_let_in() {
        let uri = "/v1/tags/arn%3Aaws%3Abatch%3Ax%3A1%3Ajob-queue%2Fq?tagKeys=a&tagKeys=b%20c";
        let request = signed(uri, b"{}");
        assert_eq!(outcome(&request, uri, b"{}", &secret()), Ok(()));
        for (uri, body, secret) in [
            (uri, &b"{ }"[..], secret()),
            ("/v1/describejobs", b"{}", secret()),
            (&uri[..uri.len() - 1], b"{}", secret()),
            (uri, b"{}", Hidden::from("another secret")),
        ] {
            let failure = outcome(&request, uri, body, &secret).expect_err("refused");
            assert_eq!(failure.kind(), "InvalidSignatureException", "{uri}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        let good = signed("/", b"");
        let text = good["authorization"].to_str().expect("text").to_owned();
        let with = |text: &str| headers(&[("authorization", text.to_owned())]);
        let token = headers(&[("authorization", text.clone()), (TOKEN, "t".to_owned())]);
        let mut undated = good.clone();
        undated.remove(DATE);
        for (request, kind) in [
            (headers(&[]), "MissingAuthenticationTokenException"),
            (with("Bearer x"), "IncompleteSignatureException"),
            (with(&text.replace("us-east-1", "eu-west-1")), "InvalidSignatureException"),
            (with(&text.replace("/batch/", "/s3/")), "InvalidSignatureException"),
            (with(&text.replace("20150830", "20150831")), "InvalidSignatureException"),
            (with(&text.replace("host;", "")), "IncompleteSignatureException"),
            (with(&text.replace("host;", "host;x-absent;")), "InvalidSignatureException"),
            (with(&text.replace("Signature=", "Other=")), "IncompleteSignatureException"),
            (token, "IncompleteSignatureException"),
            (undated, "IncompleteSignatureException"),
        ] {
            let failure = outcome(&request, "/", b"", &secret()).expect_err(kind);
            assert_eq!(failure.kind(), kind, "{failure:?}");
            assert!(!failure.message().contains(secret().reveal()));
        }
    }

    #[test]
    fn a_signature_is_for_one_service() {
        let request = signed("/", b"{}");
        assert_eq!(outcome(&request, "/", b"{}", &secret()), Ok(()));
        let failure = Claim::read(&request, Service::Logs, REGION, now()).expect_err("it is for AWS Batch");
        assert!(failure.message().contains("correct service: 'logs'"), "{failure:?}");
    }

    #[test]
    fn clocks_may_differ_by_five_minutes() {
        let request = signed("/", b"");
        for (seconds, fine) in [(299, true), (301, false), (-299, true), (-301, false)] {
            let then = now() + SignedDuration::from_secs(seconds);
            assert_eq!(Claim::read(&request, Service::Batch, REGION, then).is_ok(), fine, "{seconds}");
        }
    }
}
