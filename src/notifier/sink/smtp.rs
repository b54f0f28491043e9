//! E-mail. Never without TLS, and to each recipient on its own, so that one that is refused holds up no others and
//! nobody gets it twice because of another.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use batchyard_core::notification::content::Subject;
use batchyard_core::notification::delivery::{self, Answer};
use batchyard_core::notification::mail::mail;
use batchyard_core::notification::text;
use kube::ResourceExt;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use tokio::time::timeout;

use super::address::Host;
use super::bounded::{Bounded, TOO_MUCH};
use super::{Failure, Guard, Secrets, trust};
use crate::crd::NotificationRule;
use crate::crd::notification_rule::{SmtpSink, SmtpTls};
use crate::k8s::watch::key;

/// What a server may say by one connection: replies, the extensions that it has, and its certificates.
const ANSWERS: usize = 64 * 1024;
/// How long is waited for its farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// A mail server.
pub struct Smtp {
    spec: SmtpSink,
    guard: Guard,
    /// Namespace and name of the rule.
    rule: String,
    uid: String,
}

/// What is wrong with a mail server's members, if anything.
pub(crate) fn problem(spec: &SmtpSink) -> Option<String> {
    let wrong = |member: &str, text: &str| {
        text.parse::<Address>().err().map(|_| text::invalid(member, &format!("{text} is no address")))
    };
    wrong("smtp.from", &spec.from).or_else(|| spec.to.iter().find_map(|to| wrong("smtp.to", to)))
}

impl Smtp {
    /// The server that a rule names.
    pub fn new(spec: SmtpSink, guard: Guard, rule: &NotificationRule) -> Self {
        let uid = rule.uid().unwrap_or_default();
        Self { spec, guard, rule: key(rule), uid }
    }

    pub(super) fn host(&self) -> &str {
        &self.spec.host
    }

    pub(super) fn recipients(&self) -> BTreeSet<String> {
        self.spec.to.iter().cloned().collect()
    }

    pub(super) async fn deliver(
        &self,
        subject: &Subject,
        left: &mut BTreeSet<String>,
        secrets: &Secrets,
    ) -> Result<(), Failure> {
        let message = self.message(subject)?.formatted();
        let credentials = self.credentials(secrets).await?;
        let from = self.address(&self.spec.from)?;
        let (mut later, mut refused) = (None, None);
        for to in left.clone() {
            let envelope = Envelope::new(Some(from.clone()), vec![self.address(&to)?]);
            let envelope = envelope.map_err(|_| Failure::for_good(text::invalid("smtp.to", &to)))?;
            match self.send(&envelope, &message, credentials.as_ref()).await {
                Ok(()) => drop(left.remove(&to)),
                Err(failure) if failure.for_good => {
                    left.remove(&to);
                    refused = Some(failure);
                }
                Err(failure) if failure.of_some => later = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        later.or(refused).map_or(Ok(()), Err)
    }

    fn address(&self, text: &str) -> Result<Address, Failure> {
        text.parse().map_err(|_| Failure::for_good(text::invalid("smtp", &format!("{text} is no address"))))
    }

    fn message(&self, subject: &Subject) -> Result<Message, Failure> {
        let mail = mail(subject, &self.rule, self.spec.subject.as_deref());
        let from = self.address(&self.spec.from)?;
        // The same for the same notification of the same rule: many mail programs show it once.
        let id = format!("<{}/{}@{}>", subject.id(), self.uid, from.domain());
        let generated = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mut message = Message::builder()
            .message_id(Some(id))
            .raw_header(HeaderValue::new(generated, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .subject(mail.subject)
            .from(Mailbox::new(None, from));
        for to in &self.spec.to {
            message = message.to(Mailbox::new(None, self.address(to)?));
        }
        message
            .body(mail.body)
            .map_err(|_| Failure::for_good(text::invalid("smtp", "no e-mail can be made of it")))
    }

    async fn credentials(&self, secrets: &Secrets) -> Result<Option<Credentials>, Failure> {
        let Some(from) = &self.spec.credentials else { return Ok(None) };
        let mut found = Vec::new();
        for key in [
            from.username_key.as_deref().unwrap_or("username"),
            from.password_key.as_deref().unwrap_or("password"),
        ] {
            let value = secrets.get(&from.name, key).await?;
            let text = value.text().map(str::to_owned);
            found.push(
                text.ok_or_else(|| Failure::later(text::secret_unusable(&from.name, key, "is no text")))?,
            );
        }
        let [user, password] =
            found.try_into().map_err(|_| Failure::later(text::secret_unread(&from.name)))?;
        Ok(Some(Credentials::new(user, password)))
    }

    async fn send(
        &self,
        envelope: &Envelope,
        message: &[u8],
        credentials: Option<&Credentials>,
    ) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        let failure = |error| self.failure(&error);
        if let Some(credentials) = credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(failure)?;
        }
        connection.send(envelope, message).await.map_err(failure)?;
        // It has the mail; whether it says farewell changes nothing.
        let _ = timeout(FAREWELL, connection.quit()).await;
        Ok(())
    }

    /// A connection with TLS, to the address that was looked at, with a server that proved to have the name.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let tls = self.spec.tls.unwrap_or_default();
        let default = if tls == SmtpTls::Tls { 465 } else { 587 };
        let port = self.spec.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default);
        let host = Host { name: &self.spec.host, is_secret: false };
        let stream = self.guard.connect(&host, port).await?;
        let lost = || Failure::later(text::unreachable(&self.spec.host));
        let peer = stream.peer_addr().map_err(|_| lost())?;
        let hello = ClientId::Domain("batchyard".to_owned());
        let open = AsyncSmtpConnection::connect_with_transport;
        match tls {
            SmtpTls::Tls => {
                let config = trust::client(self.spec.ca_bundle.as_deref());
                let config = config.map_err(|why| Failure::later(text::invalid("smtp.caBundle", &why)))?;
                let stream = trust::connect(config, &host, stream).await?;
                let stream = Box::new(Bounded::new(stream, peer, ANSWERS));
                open(stream, &hello).await.map_err(|error| self.failure(&error))
            }
            SmtpTls::StartTls => {
                let stream = Box::new(Bounded::new(stream, peer, ANSWERS));
                let mut connection = open(stream, &hello).await.map_err(|error| self.failure(&error))?;
                let upgraded = connection.starttls(self.tls()?, &hello).await;
                upgraded.map_err(|error| self.failure(&error))?;
                Ok(connection)
            }
        }
    }

    fn tls(&self) -> Result<TlsParameters, Failure> {
        let invalid = |why: &str| Failure::later(text::invalid("smtp.caBundle", why));
        let mut builder = TlsParameters::builder(self.spec.host.clone());
        if let Some(bundle) = self.spec.ca_bundle.as_deref().filter(|bundle| !bundle.is_empty()) {
            builder = builder.certificate_store(CertificateStore::None);
            let certificate =
                Certificate::from_pem(bundle.as_bytes()).map_err(|_| invalid("it is no PEM"))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(|_| invalid("it cannot be used"))
    }

    /// Only the code is told: what else the server says may repeat what it was told.
    fn failure(&self, error: &lettre::transport::smtp::Error) -> Failure {
        let host = &self.spec.host;
        let code = error.status().map(u16::from);
        // 421 closes the connection, and 530 to 538 are about who we are.
        let is_of_all = |code: u16| code == 421 || (530..=538).contains(&code);
        match code {
            Some(code) if delivery::smtp(code) == Answer::Never => {
                Failure::for_good(text::smtp_reply(host, Some(code)))
            }
            Some(code) => {
                let failure = Failure::later(text::smtp_reply(host, Some(code)));
                Failure { of_some: !is_of_all(code), ..failure }
            }
            None if error.is_timeout() => Failure::later(text::no_answer(host)),
            None if error.is_tls() => Failure::later(text::tls_failed(host)),
            None if error.is_response() || error.is_client() || is_too_much(error) => {
                Failure::later(text::smtp_reply(host, None))
            }
            None => Failure::later(text::unreachable(host)),
        }
    }
}

/// Whether the server said more than anybody has to say.
fn is_too_much(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_it = |error: &io::Error| error.kind() == TOO_MUCH;
    error.downcast_ref().is_some_and(is_it) || error.source().is_some_and(is_too_much)
}
