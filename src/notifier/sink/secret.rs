//! Reads Secrets, by name and key, when something is sent. The notifier may read those of namespaces that an
//! administrator opened to it; everything else is refused by the API server.

use std::collections::BTreeMap;

use batchyard_core::notification::text;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::Failure;
use crate::crd::NotificationRule;
use crate::k8s::read::read;

/// The Secrets of a rule's namespace.
pub struct Secrets {
    source: Source,
    namespace: String,
}

enum Source {
    Api(Box<Api<Secret>>),
    /// Values by name and key.
    Known(BTreeMap<(String, String), Vec<u8>>),
}

/// A value that is shown to nobody.
#[derive(Clone)]
pub struct Value(Vec<u8>);

impl Value {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As text without the line break at its end that editors like to add.
    pub(super) fn text(&self) -> Option<&str> {
        Some(std::str::from_utf8(&self.0).ok()?.trim_end_matches(['\r', '\n']))
    }
}

impl Secrets {
    /// Those that the rule may name.
    pub fn new(client: &Client, rule: &NotificationRule) -> Self {
        let namespace = rule.namespace().unwrap_or_default();
        Self { source: Source::Api(Box::new(Api::namespaced(client.clone(), &namespace))), namespace }
    }

    /// These values by name and key, where there is no API server.
    pub fn known(values: BTreeMap<(String, String), Vec<u8>>) -> Self {
        Self { source: Source::Known(values), namespace: String::new() }
    }

    /// The value under a key.
    pub(super) async fn get(&self, name: &str, key: &str) -> Result<Value, Failure> {
        let missing = || Failure::later(text::secret_missing(name, key));
        let api = match &self.source {
            Source::Api(api) => api,
            Source::Known(values) => {
                let value = values.get(&(name.to_owned(), key.to_owned()));
                return value.cloned().map(Value).ok_or_else(missing);
            }
        };
        let what = format!("get Secret {}/{name}", self.namespace);
        let secret = read(what, || api.get(name)).await.map_err(|error| match error.kind() {
            "not_found" => missing(),
            "forbidden" => Failure::later(text::secret_forbidden(name, &self.namespace)),
            _ => Failure::later(text::secret_unread(name)),
        })?;
        let value = secret.data.and_then(|mut data| data.remove(key)).ok_or_else(missing)?;
        Ok(Value(value.0))
    }
}
