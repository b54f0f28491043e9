//! Who reads the metrics of each program, which asks the API server with the rights that the chart gives it.

use axum::http::{Request, StatusCode};
use kube::config::AuthInfo;
use kube::{Client, Config, Error};
use serde_json::json;

use super::people::{cluster_role, person, tenancy};
use crate::support::notifier;
use crate::support::program::{Program, free_address, get};
use crate::support::roles::Servant;
use crate::support::{operator, wait};

/// The metrics of a program of the test's own.
struct Served {
    address: std::net::SocketAddr,
    _program: Program,
}

impl Served {
    async fn start(servant: Servant) -> Self {
        let address = free_address();
        let program =
            Program::start(format!("metrics-of-{}", servant.user()), &servant.kubeconfig(), |command| {
                match servant {
                    Servant::Operator => command.args(["operator", "--pod-name", "stands-by"]),
                    Servant::Gateway => command.args(["gateway", "--address", &free_address().to_string()]),
                    Servant::Notifier => command.args(["notifier", "--pod-name", "stands-by"]),
                };
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

/// Nobody reads them without TLS, without a token, or without the right to.
async fn are_guarded(name: &str, servant: Servant) {
    let world = tenancy(name).await;
    let served = Served::start(servant).await;
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

#[tokio::test]
async fn no_metrics_of_the_operator_without_a_token_that_may_get_them() {
    // While one leads, the test's own stands by.
    let _leads = operator::shared().await;
    are_guarded("sec-metrics-operator", Servant::Operator).await;
}

#[tokio::test]
async fn no_metrics_of_the_gateway_without_a_token_that_may_get_them() {
    are_guarded("sec-metrics-gateway", Servant::Gateway).await;
}

#[tokio::test]
async fn no_metrics_of_the_notifier_without_a_token_that_may_get_them() {
    let _alone = notifier::alone().await;
    are_guarded("sec-metrics-notifier", Servant::Notifier).await;
}
