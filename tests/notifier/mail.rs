//! E-mail to a real server.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::mailer::Server;
use super::receiver::certificate;
use super::{deliver, later, ready, rule, secrets, settings, sink};
use batchyard::notifier::sink::{Failure, Sink};

fn password() -> batchyard::notifier::sink::Secrets {
    secrets(&[("mail", "username", "batch"), ("mail", "password", "sesame\n")])
}

#[tokio::test]
async fn the_user_gets_the_url_by_either_way_of_tls() {
    for tls in ["STARTTLS", "TLS"] {
        let Some(server) = Server::start(tls) else { return };
        let mut sink = sink(server.smtp(tls, &["user001@example.org"]));
        for _ in 0..2 {
            deliver(&mut sink, &password()).await.unwrap_or_else(|failure| panic!("{tls}: {failure:?}"));
        }
        let (one, two) = (server.message(), server.message());
        assert_eq!(
            (&one["from"], &one["to"]),
            (&json!("batch@example.org"), &json!(["user001@example.org"]))
        );
        assert_eq!((&one["tls"], &one["user"]), (&json!(true), &json!("batch")), "{tls}");
        let content = one["content"].as_str().expect("text").replace("\r\n", "\n");
        for line in [
            "Subject: The session of job DCV is ready\n",
            "Connect to: https://203.0.113.7:8443/\n",
            "Message-ID: <job-uid/1/SESSION_READY/rule-uid@example.org>\n",
            "Auto-Submitted: auto-generated\n",
            "To: user001@example.org\n",
        ] {
            assert!(content.contains(line), "{line} in {content}");
        }
        let id = |message: &Value| {
            let text = message["content"].as_str().expect("text").to_owned();
            text.lines().find(|line| line.starts_with("Message-ID")).map(str::to_owned)
        };
        assert_eq!(id(&one), id(&two), "the same for the same");
    }
}

/// One recipient that does not exist and one who cannot take it now keep it from nobody, and nobody gets it twice.
#[tokio::test]
async fn each_recipient_is_served_on_its_own() {
    let Some(server) = Server::start("STARTTLS") else { return };
    let to = ["a@example.org", "nobody@example.org", "later@example.org", "b@example.org"];
    let mut sink = sink(server.smtp("STARTTLS", &to));
    let mut left = sink.recipients();
    let answer = sink.deliver(&ready(), &mut left, &password()).await;
    assert!(answer.as_ref().is_err_and(|failure| failure.of_some), "the server takes what is for others");
    assert_eq!(later(answer), "localhost answered 451", "only the code: what it said has the password in it");
    assert_eq!(left.iter().collect::<Vec<_>>(), ["later@example.org"]);
    let got = [server.message(), server.message()].map(|message| message["to"].clone());
    assert_eq!(got, [json!(["a@example.org"]), json!(["b@example.org"])]);
    assert_eq!(
        later(sink.deliver(&ready(), &mut left, &password()).await),
        "localhost answered 451",
        "he alone is tried again"
    );
    let to: Vec<&str> = to.into_iter().filter(|to| !to.starts_with("later")).collect();
    let mut sink = super::sink(server.smtp("STARTTLS", &to));
    let refused = Err(Failure::for_good("localhost answered 550".to_owned()));
    assert_eq!(deliver(&mut sink, &password()).await, refused);
    let got = [server.message(), server.message()].map(|message| message["to"].clone());
    assert_eq!(got, [json!(["a@example.org"]), json!(["b@example.org"])]);
}

#[tokio::test]
async fn nothing_is_sent_without_tls_a_known_certificate_and_the_right_password() {
    let Some(server) = Server::start("STARTTLS") else { return };
    let to = ["user001@example.org"];
    let wrong = secrets(&[("mail", "username", "batch"), ("mail", "password", "wrong")]);
    let why = later(deliver(&mut sink(server.smtp("STARTTLS", &to)), &wrong).await);
    assert_eq!(why, "localhost answered 535");
    let mut stranger = server.smtp("STARTTLS", &to);
    stranger["smtp"]["caBundle"] = json!(certificate().0);
    let why = later(deliver(&mut sink(stranger), &password()).await);
    assert!(why.contains("no TLS with localhost") || why.contains("cannot be reached"), "{why}");
    let mut other = server.smtp("STARTTLS", &to);
    other["smtp"]["host"] = json!("127.0.0.2");
    let why = later(deliver(&mut sink(other), &password()).await);
    assert!(!why.contains("answered 2"), "{why}");
    let mut closed = Sink::new(&rule(server.smtp("STARTTLS", &to)), &settings(&[]));
    let refused = deliver(&mut closed, &password()).await;
    assert!(later(refused).ends_with("is a loopback address"));
}

#[tokio::test]
async fn a_server_that_was_down_gets_it_when_it_is_back() {
    let Some(server) = Server::start("TLS") else { return };
    let mut sink = sink(server.smtp("TLS", &["user001@example.org"]));
    let (port, authority) = (server.port, server.authority.clone());
    let key = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{port}.key")),
    );
    drop(server);
    assert_eq!(later(deliver(&mut sink, &password()).await), "localhost cannot be reached");
    let back = Server::start_at("TLS", port, (authority, key.expect("its key")));
    let back = back.expect("it started before");
    deliver(&mut sink, &password()).await.expect("it is taken");
    assert_eq!(back.message()["to"], json!(["user001@example.org"]));
}

/// Whoever may make a rule may run the server.
#[tokio::test]
async fn a_server_that_never_ends_its_line_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (more, mut sent) = ([b'2'; 4096], 0);
        while sent < 64 << 20 && stream.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        sent
    });
    let smtp = json!({"host": "127.0.0.1", "port": port, "from": "a@example.org", "to": ["b@example.org"]});
    let mut sink = sink(json!({"sessionReady": true, "smtp": smtp}));
    let why = later(deliver(&mut sink, &password()).await);
    assert_eq!(why, "127.0.0.1 did not speak SMTP as it should");
    drop(sink);
    let sent = server.await.expect("it ends");
    // What the sockets hold comes on top of what is read.
    assert!(sent < 32 << 20, "{sent} bytes were taken");
}
