//! The API server as a front proxy: by which authority it is known, and how it says who asks
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use axum::http::{HeaderMap, HeaderName};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use percent_encoding::percent_decode_str;

use crate::k8s::access::Person;
use crate::k8s::read::read;

/// Where every API server publishes it.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// What an API server says of itself as a front proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FrontProxy {
    /// PEM: the certificates of the authority that signed its own.
    pub(super) authority: String,
    /// Common names that its certificate may have; none means any.
    pub(super) names: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    groups: Vec<String>,
    extra: Vec<String>,
}

impl FrontProxy {
    /// Reads what the API server publishes.
    pub(super) async fn read(client: &Client) -> Result<Self> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let published = read(format!("get ConfigMap {NAMESPACE}/{NAME}"), || api.get(NAME)).await?;
        Self::of(&published.data.unwrap_or_default())
    }

    fn of(data: &BTreeMap<String, String>) -> Result<Self> {
        let authority = data.get("requestheader-client-ca-file").filter(|pem| !pem.trim().is_empty());
        let authority = authority.context(
            "the API server passes no questions on: its aggregation layer (--requestheader-client-ca-file) is off",
        )?;
        let list = |key: &str| {
            let text = data.get(key).map_or("[]", |text| text.as_str());
            serde_json::from_str::<Vec<String>>(text).with_context(|| format!("{key} is no list: {text}"))
        };
        Ok(Self {
            authority: authority.clone(),
            names: list("requestheader-allowed-names")?,
            user: list("requestheader-username-headers")?,
            uid: list("requestheader-uid-headers")?,
            groups: list("requestheader-group-headers")?,
            extra: list("requestheader-extra-headers-prefix")?,
        })
    }

    /// Who asks, by the word of the API server.
    pub(super) fn person(&self, headers: &HeaderMap) -> Option<Person> {
        let all = |names: &[String]| -> Vec<String> {
            let values = names.iter().flat_map(|name| headers.get_all(name));
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let first = |names: &[String]| all(names).into_iter().find(|value| !value.is_empty());
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            if let Some((key, value)) = self.extra_key(name).zip(value.to_str().ok()) {
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(Person { user: first(&self.user)?, uid: first(&self.uid), groups: all(&self.groups), extra })
    }

    /// Header names are lower case here; keys are percent-encoded in them.
    fn extra_key(&self, header: &HeaderName) -> Option<String> {
        let prefixes = self.extra.iter().map(|prefix| prefix.to_ascii_lowercase());
        let key =
            prefixes.filter_map(|prefix| header.as_str().strip_prefix(&prefix).map(str::to_owned)).next()?;
        Some(percent_decode_str(&key).decode_utf8().map_or_else(|_| key.clone(), Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(authority: &str) -> BTreeMap<String, String> {
        let data = [
            ("requestheader-client-ca-file", authority),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ];
        data.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_person_is_who_the_api_server_says() {
        let front = FrontProxy::of(&published("PEM")).expect("readable");
        let mut headers = HeaderMap::new();
        assert_eq!(front.person(&headers), None, "nobody is nobody");
        for (name, value) in [
            ("x-remote-user", "ada"),
            ("x-remote-group", "team-a"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-example.com%2froles", "admin"),
            ("x-remote-extra-scopes", "a"),
            ("x-remote-extra-scopes", "b"),
            ("x-remote-uid", "not a header that this API server sets"),
        ] {
            headers.append(name, value.parse().expect("a value"));
        }
        let person = front.person(&headers).expect("somebody");
        assert_eq!((person.user.as_str(), person.uid), ("ada", None));
        assert_eq!(person.groups, ["team-a", "system:authenticated"]);
        let extra: Vec<_> = person.extra.into_iter().collect();
        let texts = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            extra,
            [("example.com/roles".to_owned(), texts(&["admin"])), ("scopes".to_owned(), texts(&["a", "b"]))]
        );
    }

    #[test]
    fn an_api_server_without_aggregation_is_named() {
        let error = FrontProxy::of(&published(" ")).expect_err("no authority");
        assert!(error.to_string().contains("--requestheader-client-ca-file"), "{error}");
        let mut odd = published("PEM");
        odd.insert("requestheader-allowed-names".into(), "front".into());
        let error = FrontProxy::of(&odd).expect_err("no list");
        assert!(error.to_string().contains("requestheader-allowed-names"), "{error}");
    }
}
