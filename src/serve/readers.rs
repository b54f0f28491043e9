//! Who may read the metrics: names of tenants, queues and environments stand in them. Kubernetes' own components ask the
//! same of their readers (<https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>).

use std::error::Error;

use axum::http::{HeaderMap, StatusCode, header};
use kube::Client;
use tokio::sync::Semaphore;

use crate::k8s::access;

/// Of how many readers the API server is asked at a time, so that nobody can make it answer more.
const ASKED: usize = 2;

/// Lets those read who may get the path.
pub(super) struct Readers {
    client: Client,
    turns: Semaphore,
}

/// Why somebody may not.
pub(super) type Refusal = (StatusCode, String);

impl Readers {
    /// Asks this API server.
    pub(super) fn known_to(client: Client) -> Self {
        Self { client, turns: Semaphore::new(ASKED) }
    }

    /// Whether who sent these headers may get a path.
    pub(super) async fn admit(&self, headers: &HeaderMap, path: &str) -> Result<(), Refusal> {
        let unknown = || (StatusCode::UNAUTHORIZED, "a bearer token of the cluster is needed".to_owned());
        let token = bearer(headers).ok_or_else(unknown)?;
        let _turn = self.turns.acquire().await.map_err(|closed| failed(&closed))?;
        let person = access::person(&self.client, token).await.map_err(|error| failed(&error))?;
        let person = person.ok_or_else(unknown)?;
        let allowed =
            access::review_path(&self.client, &person, path).await.map_err(|error| failed(&error))?;
        allowed.map_err(|_| {
            let user = person.user;
            (
                StatusCode::FORBIDDEN,
                format!("no Kubernetes role allows user \"{user}\" to get nonResourceURL \"{path}\""),
            )
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn failed(error: &dyn Error) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, format!("the API server cannot be asked who this is: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_follows_bearer() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a value"))]);
            assert_eq!(bearer(&headers), token, "{value:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
