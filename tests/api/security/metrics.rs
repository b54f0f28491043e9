//! Who reads the metrics. The gateway's stand for all: nobody has to wait for its turn to serve them.

use axum::http::{Request, StatusCode};
use kube::config::AuthInfo;
use kube::{Client, Config, Error};
use serde_json::json;

use super::people::{cluster_role, person, tenancy};
use crate::support::client::kubeconfig;
use crate::support::program::{Program, free_address, get};
use crate::support::wait;

/// The metrics of a gateway of the test's own.
struct Served {
    address: std::net::SocketAddr,
    _program: Program,
}

impl Served {
    async fn start(namespace: &str) -> Self {
        let address = free_address();
        let program = Program::start("guarded-metrics".to_owned(), &kubeconfig(), |command| {
            command.args(["gateway", "--namespace", namespace, "--address", &free_address().to_string()]);
            command.args(["--metrics-authorization", "true", "--metrics-address", &address.to_string()]);
        });
        let served = Self { address, _program: program };
        wait::answer("the metrics to be served", "", || async { served.get("/healthz", None).await.ok() })
            .await;
        served
    }

    /// Asks by HTTPS, with a token or without.
    async fn get(&self, path: &str, token: Option<&str>) -> Result<String, Error> {
        let url = format!("https://{}", self.address).parse().expect("an address");
        let mut config = Config::new(url);
        config.accept_invalid_certs = true;
        config.default_retry = false;
        config.auth_info =
            AuthInfo { token: token.map(|token| token.to_owned().into()), ..AuthInfo::default() };
        let request = Request::get(path).body(Vec::new()).expect("a request");
        Client::try_from(config).expect("a client").request_text(request).await
    }

    async fn refuses(&self, token: Option<&str>, status: StatusCode, says: &str) {
        match self.get("/metrics", token).await.expect_err("it must be refused") {
            Error::Api(answer) => {
                assert_eq!(answer.code, status.as_u16(), "{answer:?}");
                assert!(answer.message.contains(says), "{says:?} is missing in {answer:?}");
            }
            other => panic!("refused for another reason: {other}"),
        }
    }
}

#[tokio::test]
async fn no_metrics_without_a_token_that_may_get_them() {
    let world = tenancy("sec-metrics").await;
    let served = Served::start(&world.namespace).await;
    assert_eq!(get(served.address, "/metrics"), None, "nobody reads them without TLS");
    served.refuses(None, StatusCode::UNAUTHORIZED, "a bearer token").await;
    served.refuses(Some("guessed"), StatusCode::UNAUTHORIZED, "a bearer token").await;
    let ann = person(&world, "ann", &["batch-admin"], json!([])).await;
    let says = format!("no Kubernetes role allows user \"{}\" to get nonResourceURL \"/metrics\"", ann.user);
    served.refuses(Some(&ann.token), StatusCode::FORBIDDEN, &says).await;
    let scrape = person(&world, "scrape", &[], json!([])).await;
    cluster_role(&world, &scrape, "metrics-reader").await;
    let text = wait::answer("the right to be known", "", || async {
        served.get("/metrics", Some(&scrape.token)).await.ok()
    })
    .await;
    assert!(text.ends_with("# EOF\n"), "{text}");
}
