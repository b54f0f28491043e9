//! A gateway of the test's own, its callers, and requests that no client would send.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use batchyard::k8s::access_key::{AccessKey, Binding};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::relay::Relay;
pub(crate) use crate::support::client::SYSTEM;
use crate::support::client::{Actor, apply, connect};
use crate::support::program::{Program, free_address, get};
use crate::support::roles::Servant;
use crate::support::wait;

pub(crate) const REGION: &str = "us-east-1";

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A kubeconfig of somebody with the rights that the chart gives the gateway, and no others.
async fn restricted() -> PathBuf {
    connect(Actor::User).await;
    Servant::Gateway.kubeconfig()
}

/// A running gateway; it ends with this value.
pub(crate) struct Door {
    program: Program,
    pub(crate) address: SocketAddr,
    probes: SocketAddr,
}

impl Door {
    /// Starts one that says everything that it could ever say, and waits until it serves.
    pub(crate) async fn open(more: &[&str]) -> Self {
        Self::start(more, "trace,h2=warn,hyper=warn,rustls=warn").await
    }

    /// Starts one that says so much, and waits until it serves.
    pub(crate) async fn start(more: &[&str], says: &str) -> Self {
        Self::with(&restricted().await, more, says).await
    }

    /// Starts one that reaches the API server by a relay.
    pub(crate) async fn behind_a_relay() -> (Relay, Self) {
        let text = fs::read(restricted().await).expect("a kubeconfig");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        let cluster = &mut config["clusters"][0]["cluster"];
        let server: http::Uri =
            cluster["server"].as_str().and_then(|uri| uri.parse().ok()).expect("a server");
        let (host, port) = (server.host().expect("a host"), server.port_u16().unwrap_or(443));
        let target = (host, port).to_socket_addrs().expect("an address").next().expect("an address");
        let relay = Relay::to(target).await;
        cluster["server"] = json!(format!("https://{}", relay.address));
        cluster["tls-server-name"] = json!(host);
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("relay-{}.json", relay.address.port()));
        fs::write(&path, config.to_string()).expect("it can be written");
        let door = Self::with(&path, &[], "info").await;
        (relay, door)
    }

    /// Starts one with a kubeconfig, and waits until it serves.
    pub(crate) async fn with(kubeconfig: &Path, more: &[&str], says: &str) -> Self {
        let (address, probes) = (free_address(), free_address());
        let name = format!("gateway-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let program = Program::start(name, kubeconfig, |command| {
            command
                .args(["gateway", "--address", &address.to_string()])
                .args(["--metrics-address", &probes.to_string(), "--region", REGION])
                .args(more)
                .env("RUST_LOG", says);
        });
        let door = Self { program, address, probes };
        wait::answer("a gateway that is ready", "", || {
            let ready = get(door.probes, "/readyz").is_some_and(|(status, _)| status == 200);
            std::future::ready(ready.then_some(()))
        })
        .await;
        door
    }

    /// All that it said so far.
    pub(crate) fn said(&self) -> String {
        self.program.said()
    }

    /// What Prometheus reads.
    pub(crate) fn metrics(&self) -> String {
        get(self.probes, "/metrics").expect("metrics").1
    }

    /// A connection that waits for answers, but not for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address).expect("it listens");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        connection
    }

    /// Sends bytes and reads what comes back.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut connection = self.connect();
        // A request that is refused early may not be read to its end.
        let _ = connection.write_all(request);
        let mut bytes = Vec::new();
        let _ = connection.read_to_end(&mut bytes);
        Answer::read(&String::from_utf8_lossy(&bytes))
    }

    /// Sends a request that is signed with a key.
    pub(crate) fn call(&self, key: &AccessKey, method: &str, path: &str, body: &str) -> Answer {
        self.send(self.request(key, method, path, body, SystemTime::now()).as_bytes())
    }

    /// A request that is signed with a key at some time.
    pub(crate) fn request(
        &self,
        key: &AccessKey,
        method: &str,
        path: &str,
        body: &str,
        at: SystemTime,
    ) -> String {
        self.signed(key, (method, path), body, at, ("batch", None))
    }

    /// Asks CloudWatch Logs for an operation.
    pub(crate) fn logs(&self, key: &AccessKey, operation: &str, body: &Value) -> Answer {
        let target = format!("Logs_20140328.{operation}");
        self.send(self.to_logs(key, &target, body, "logs").as_bytes())
    }

    /// The same as a request, signed for some service.
    pub(crate) fn to_logs(&self, key: &AccessKey, target: &str, body: &Value, service: &str) -> String {
        self.signed(key, ("POST", "/"), &body.to_string(), SystemTime::now(), (service, Some(target)))
    }

    fn signed(
        &self,
        key: &AccessKey,
        (method, path): (&str, &str),
        body: &str,
        at: SystemTime,
        (service, target): (&str, Option<&str>),
    ) -> String {
        let host = self.address.to_string();
        let credentials = Credentials::new(&key.id, key.secret.reveal(), None, None, "test");
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(at)
            .settings(SigningSettings::default())
            .build()
            .expect("parameters")
            .into();
        let target = target.map(|target| ("x-amz-target", target));
        let headers =
            [("host", host.as_str()), ("content-type", "application/json")].into_iter().chain(target);
        let uri = format!("http://{host}{path}");
        let request =
            SignableRequest::new(method, uri, headers.clone(), SignableBody::Bytes(body.as_bytes()))
                .expect("a request");
        let (instructions, _) = sign(request, &params).expect("a signature").into_parts();
        let target = target.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        let signed: String =
            instructions.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n{target}{signed}\r\n{body}",
            body.len()
        )
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    /// The error's name, which header and body must both say.
    pub(crate) fn kind(&self) -> String {
        let header = self.head.lines().find_map(|line| line.strip_prefix("x-amzn-errortype: "));
        let body = self.body["__type"].as_str();
        assert_eq!(header, body, "{self:?}");
        assert!(self.head.contains("x-amzn-requestid: "), "{self:?}");
        assert!(self.body["message"].is_string(), "{self:?}");
        body.unwrap_or_default().to_owned()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// Whoever may do all in a namespace that a key can be for.
pub(crate) fn everything() -> Value {
    json!([{"apiGroups": ["batchyard.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["use"]}])
}

/// A ServiceAccount of a namespace with some rights there, and a key for it.
pub(crate) async fn caller(user: &Client, namespace: &str, name: &str, rules: Value) -> AccessKey {
    let account = json!({"metadata": {"name": name}});
    apply(&Api::<ServiceAccount>::namespaced(user.clone(), namespace), &account).await;
    let role = json!({"metadata": {"name": name}, "rules": rules});
    apply(&Api::<Role>::namespaced(user.clone(), namespace), &role).await;
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]});
    apply(&Api::<RoleBinding>::namespaced(user.clone(), namespace), &binding).await;
    key(user, namespace, name).await
}

/// A key for a ServiceAccount.
pub(crate) async fn key(user: &Client, namespace: &str, service_account: &str) -> AccessKey {
    let found = Api::<Namespace>::all(user.clone()).get(namespace).await.expect("the namespace");
    let binding = Binding {
        namespace: namespace.to_owned(),
        namespace_uid: found.metadata.uid.expect("the API server gives it one"),
        service_account: service_account.to_owned(),
        ..Binding::default()
    };
    let key = AccessKey::generate(binding);
    let secrets: Api<Secret> = Api::namespaced(user.clone(), SYSTEM);
    secrets.create(&PostParams::default(), &key.object(SYSTEM)).await.expect("a key can be made");
    key
}

/// Changes annotations of a key.
pub(crate) async fn annotate(user: &Client, key: &AccessKey, annotations: Value) {
    let secrets: Api<Secret> = Api::namespaced(user.clone(), SYSTEM);
    let name = batchyard::k8s::access_key::object_name(&key.id);
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    secrets.patch(&name, &PatchParams::default(), &patch).await.expect("a key can be changed");
}

/// Waits until the gateway knows a key and the API server its right to list jobs.
pub(crate) async fn known(door: &Door, key: &AccessKey) {
    wait::answer("a gateway that knows the key", &key.id, || {
        let answer = door.call(key, "POST", "/v1/listjobs", r#"{"jobQueue":"absent"}"#);
        std::future::ready((answer.status == 400).then_some(()))
    })
    .await;
}
