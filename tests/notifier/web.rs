//! CloudEvents over HTTP.

use std::time::Duration;

use batchyard::notifier::sink::{Failure, Sink, http::sign};
use serde_json::json;

use super::receiver::Receiver;
use super::{deliver, later, rule, secrets, settings, sink};

#[tokio::test]
async fn an_event_arrives_with_its_headers_and_signature() {
    let receiver = Receiver::tls().await;
    let from = |key: &str| json!({"name": "hook", "key": key});
    let mut sink = sink(json!({"sessionReady": true, "http": {
        "url": receiver.url("/hook?team=a"), "caBundle": receiver.authority(), "signingKey": from("key"),
        "headers": [{"name": "Authorization", "valueFrom": from("token")}, {"name": "X-Team", "value": "a"}],
    }}));
    let secrets = secrets(&[("hook", "token", "Bearer sesame\n"), ("hook", "key", "whsec_c2VzYW1l")]);
    for _ in 0..2 {
        deliver(&mut sink, &secrets).await.expect("it is taken");
    }
    let received = receiver.received();
    let [one, two] = &received[..] else { panic!("two requests, not {received:?}") };
    assert_eq!((one.id(), two.id()), ("job-uid/1/SESSION_READY".to_owned(), one.id()), "the same id");
    assert_eq!(one.path, "/hook?team=a");
    assert_eq!(one.event()["data"]["session"]["url"], "https://203.0.113.7:8443/");
    let header = |name: &str| one.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!((header("authorization"), header("x-team")), ("Bearer sesame".to_owned(), "a".to_owned()));
    let signed = sign(b"sesame", &one.id(), &header("webhook-timestamp"), &one.body).expect("a key");
    assert_eq!((header("webhook-signature"), header("webhook-id")), (signed, one.id()));
}

/// The example of the specification.
#[test]
fn signatures_are_those_of_standard_webhooks() {
    let body = br#"{"test": 2432232314}"#;
    let key = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
    assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    assert_eq!(sign(b"whsec_?", "id", "1", body), None);
    assert_eq!(sign(b"\n", "id", "1", body), None);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (receiver, elsewhere) = (Receiver::plain().await, Receiver::plain().await);
    let mut sink = sink(json!({"phases": ["FAILED"], "http": {"url": receiver.url("/")}}));
    for status in [301, 302, 303, 307, 308] {
        receiver.answer(status, Some(("location", elsewhere.url("/"))));
        let why = later(deliver(&mut sink, &secrets(&[])).await);
        assert_eq!(why, format!("127.0.0.1 answered {status}: redirects are not followed"));
    }
    assert_eq!((receiver.received().len(), elsewhere.received().len()), (5, 0));
}

#[tokio::test]
async fn forbidden_addresses_are_not_even_connected_to() {
    let receiver = Receiver::plain().await;
    let port = receiver.url("/").rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
    for (host, arguments, says) in [
        ("127.0.0.1", &[][..], "127.0.0.1 is a loopback address"),
        ("localhost", &[], "is a loopback address"),
        ("[::ffff:127.0.0.1]", &[], "is a loopback address"),
        ("127.0.0.1", &["--allow-private", "true"], "is a loopback address"),
        (
            "127.0.0.1",
            &["--allowed-cidrs", "127.0.0.0/8", "--denied-cidrs", "127.0.0.1/32"],
            "in a denied range",
        ),
        ("169.254.169.254", &["--allowed-cidrs", "0.0.0.0/0"], "is a metadata service"),
        ("[fd00:ec2::254]", &["--allow-private", "true"], "is a metadata service"),
        ("10.0.0.1", &[], "10.0.0.1 is a private address"),
        ("0.0.0.0", &["--allow-private", "true"], "no address of a host"),
        ("2130706433", &[], "is a loopback address"),
    ] {
        let rule = rule(json!({"phases": ["FAILED"], "http": {"url": format!("http://{host}:{port}")}}));
        let why = later(deliver(&mut Sink::new(&rule, &settings(arguments)), &secrets(&[])).await);
        assert!(why.starts_with("nothing is sent to") && why.ends_with(says), "{host} {arguments:?}: {why}");
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn only_trusted_certificates_are_spoken_with() {
    let (receiver, other) = (Receiver::tls().await, Receiver::tls().await);
    for (url, bundle) in [
        (receiver.url("/"), None),
        (receiver.url("/"), Some(other.authority())),
        (receiver.url("/").replace("localhost", "127.0.0.2"), Some(receiver.authority())),
    ] {
        let mut sink = sink(json!({"phases": ["FAILED"], "http": {"url": url, "caBundle": bundle}}));
        let why = later(deliver(&mut sink, &secrets(&[])).await);
        assert!(why.starts_with("no TLS with") || why.ends_with("cannot be reached"), "{url}: {why}");
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn what_may_heal_is_told_from_what_will_not() {
    let receiver = Receiver::plain().await;
    let mut sink = sink(json!({"phases": ["FAILED"], "http": {"url": receiver.url("/")}}));
    receiver.answer(503, Some(("retry-after", "7".to_owned())));
    let busy = deliver(&mut sink, &secrets(&[])).await;
    let after = Some(Duration::from_secs(7));
    assert_eq!(busy, Err(Failure { after, ..Failure::later("127.0.0.1 answered 503".to_owned()) }));
    receiver.answer(422, None);
    let refused = deliver(&mut sink, &secrets(&[])).await;
    assert_eq!(refused, Err(Failure::for_good("127.0.0.1 answered 422".to_owned())));
}

/// A connection that is kept may be closed by the other side while nothing is sent.
#[tokio::test]
async fn a_sink_that_was_down_is_spoken_with_again() {
    let mut receiver = Receiver::plain().await;
    let mut sink = sink(json!({"phases": ["FAILED"], "http": {"url": receiver.url("/")}}));
    deliver(&mut sink, &secrets(&[])).await.expect("it is taken");
    receiver.down().await;
    assert_eq!(later(deliver(&mut sink, &secrets(&[])).await), "127.0.0.1 cannot be reached");
    receiver.up().await;
    deliver(&mut sink, &secrets(&[])).await.expect("it is taken again");
    assert_eq!(receiver.taken(), ["job-uid/1/SESSION_READY"; 2]);
}

#[tokio::test]
async fn what_is_wrong_with_a_secret_is_said_without_it() {
    let sink_of = |http| sink(json!({"phases": ["FAILED"], "http": http}));
    let from = json!({"name": "hook", "key": "url"});
    for (value, says) in [
        (None, "Secret hook with the key url does not exist"),
        (Some("http://127.0.0.1/sesame"), "Secret hook: url is no https:// URL"),
        (Some("sesame"), "Secret hook: url is no https:// URL"),
    ] {
        let known: Vec<_> = value.map(|value| ("hook", "url", value)).into_iter().collect();
        let why = later(deliver(&mut sink_of(json!({"urlFrom": from})), &secrets(&known)).await);
        assert_eq!(why, says);
    }
    let header =
        json!({"url": "https://127.0.0.1:1/", "headers": [{"name": "Authorization", "valueFrom": from}]});
    let why = later(deliver(&mut sink_of(header), &secrets(&[("hook", "url", "ses\name")])).await);
    assert_eq!(why, "Secret hook: url fits no header");
}

/// A host that stands in a Secret is not told either, nor what it resolves to.
#[tokio::test]
async fn the_host_of_a_url_in_a_secret_is_told_nobody() {
    let receiver = Receiver::tls().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let closed = format!("https://localhost:{}/", closed.expect("a loopback port is free").port());
    let open = ["--allowed-cidrs", "127.0.0.0/8,::1/128"];
    let urls = [
        (closed, &open[..], "the sink cannot be reached"),
        ("https://sesame.invalid/".to_owned(), &open, "the sink has no address"),
        (receiver.url("/"), &open, "no TLS with the sink"),
        (receiver.url("/"), &[], "nothing is sent to the sink: its address is a loopback address"),
    ];
    let rule = |bundle: Option<&str>| {
        let from = json!({"name": "hook", "key": "url"});
        rule(json!({"phases": ["FAILED"], "http": {"urlFrom": from, "caBundle": bundle}}))
    };
    for (url, arguments, says) in urls {
        let mut sink = Sink::new(&rule(None), &settings(arguments));
        let why = later(deliver(&mut sink, &secrets(&[("hook", "url", &url)])).await);
        assert!(why.starts_with(says), "{url}: {why}");
        assert!(!why.contains("localhost") && !why.contains("sesame"), "{why}");
        assert_eq!(sink.host(), "the sink", "for what is said when it does not answer");
    }
    receiver.answer(503, None);
    let mut sink = Sink::new(&rule(Some(receiver.authority())), &settings(&open));
    let why = later(deliver(&mut sink, &secrets(&[("hook", "url", &receiver.url("/"))])).await);
    assert_eq!((why.as_str(), sink.host()), ("the sink answered 503", "the sink"));
}
