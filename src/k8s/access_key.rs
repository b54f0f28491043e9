//! Access keys of the AWS door: Secrets in the gateway's own namespace, each bound to a namespace and to a ServiceAccount
//! of it, whose rights it has.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use uuid::Uuid;

use super::access::Person;
use super::meta;

/// The type of such a Secret.
pub const TYPE: &str = "batchyard.io/access-key";
/// Its member with the secret part.
const SECRET: &str = "secretAccessKey";
/// What ids begin with. AWS's own begin with AKIA, and nobody shall take one for the other.
const PREFIX: &str = "BYAK";

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a key stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The namespace that its calls are about: its account.
    pub namespace: String,
    /// The uid of that namespace: for another one of the same name the key is none.
    pub namespace_uid: String,
    /// The ServiceAccount of that namespace whose rights it has.
    pub service_account: String,
    /// What it is for, in the words of who made it.
    pub description: Option<String>,
    /// When it stops working.
    pub expires: Option<Timestamp>,
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: Hidden,
    /// What it stands for.
    pub binding: Binding,
    /// Since when it is disabled.
    pub disabled: Option<String>,
}

impl AccessKey {
    /// A new key: 62 random bits of id, 244 of secret.
    pub fn generate(binding: Binding) -> Self {
        let random = || Uuid::new_v4().simple().to_string();
        let id = format!("{PREFIX}{}", random()[16..].to_uppercase());
        Self { id, secret: Hidden(format!("{}{}", random(), random())), binding, disabled: None }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// Returns what is missing. A key of which anything cannot be read is none.
    pub fn read(secret: &Secret) -> Result<Self, String> {
        let annotation = |key: &str| secret.annotations().get(key).filter(|text| !text.is_empty()).cloned();
        let needed = |key: &str| annotation(key).ok_or_else(|| format!("the annotation {key} is missing"));
        let id = secret.labels().get(meta::ACCESS_KEY).cloned();
        let text = secret.data.as_ref().and_then(|data| data.get(SECRET));
        let text =
            text.and_then(|text| String::from_utf8(text.0.clone()).ok()).filter(|text| text.len() >= 16);
        let id = id.ok_or_else(|| format!("the label {} is missing", meta::ACCESS_KEY))?;
        // One key, one Secret: what disables or deletes a key looks for it by this name.
        let name = object_name(&id);
        if secret.metadata.name.as_ref() != Some(&name) {
            return Err(format!("its Secret must be named {name}"));
        }
        let expires = match annotation(meta::KEY_EXPIRES) {
            None => None,
            Some(time) => Some(time.parse().map_err(|_| format!("{} is no time", meta::KEY_EXPIRES))?),
        };
        Ok(Self {
            id,
            secret: Hidden(text.ok_or_else(|| format!("{SECRET} is missing or shorter than 16 characters"))?),
            binding: Binding {
                namespace: needed(meta::KEY_NAMESPACE)?,
                namespace_uid: needed(meta::KEY_NAMESPACE_UID)?,
                service_account: needed(meta::KEY_SERVICE_ACCOUNT)?,
                description: annotation(meta::KEY_DESCRIPTION),
                expires,
            },
            disabled: annotation(meta::KEY_DISABLED),
        })
    }

    /// The Secret that holds it.
    pub fn object(&self, namespace: &str) -> Secret {
        let binding = &self.binding;
        let mut annotations = BTreeMap::from([
            (meta::KEY_NAMESPACE.to_owned(), binding.namespace.clone()),
            (meta::KEY_NAMESPACE_UID.to_owned(), binding.namespace_uid.clone()),
            (meta::KEY_SERVICE_ACCOUNT.to_owned(), binding.service_account.clone()),
        ]);
        annotations.extend(binding.description.clone().map(|text| (meta::KEY_DESCRIPTION.to_owned(), text)));
        annotations.extend(binding.expires.map(|time| (meta::KEY_EXPIRES.to_owned(), time.to_string())));
        let labels = [(meta::ACCESS_KEY, self.id.as_str()), (meta::MANAGED_BY, meta::OPERATOR)];
        Secret {
            metadata: ObjectMeta {
                name: Some(object_name(&self.id)),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(BTreeMap::from([(
                SECRET.to_owned(),
                ByteString(self.secret.reveal().as_bytes().to_vec()),
            )])),
            ..Secret::default()
        }
    }

    /// As whom the API server knows who uses it
    /// (<https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>).
    pub fn person(&self) -> Person {
        let Binding { namespace, service_account, .. } = &self.binding;
        Person {
            user: format!("system:serviceaccount:{namespace}:{service_account}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            ..Person::default()
        }
    }

    /// True if it may be used now.
    pub fn works(&self, now: Timestamp) -> bool {
        self.disabled.is_none() && self.binding.expires.is_none_or(|expires| now < expires)
    }
}

/// The name of a key's Secret.
pub fn object_name(id: &str) -> String {
    format!("access-key-{}", id.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            namespace: "team".into(),
            namespace_uid: "0f8b3c1a".into(),
            service_account: "ci".into(),
            description: Some("the pipeline".into()),
            expires: Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60)),
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let key = AccessKey::generate(binding());
        assert!(key.id.len() == 20 && key.secret.reveal().len() == 64, "{key:?}");
        let object = key.object("batchyard-system");
        assert_eq!(AccessKey::read(&object), Ok(key.clone()));
        assert_eq!(object.metadata.name, Some(object_name(&key.id)));
        assert_ne!(AccessKey::generate(binding()).id, key.id);
        assert_eq!(key.person().user, "system:serviceaccount:team:ci");
    }

    #[test]
    fn nothing_shows_a_secret() {
        let key = AccessKey::generate(binding());
        assert!(!format!("{key:?}").contains(key.secret.reveal()));
    }

    #[test]
    fn a_key_works_until_it_is_disabled_or_expires() {
        let mut key = AccessKey::generate(binding());
        let at = |second| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second);
        assert!(key.works(at(59)) && !key.works(at(60)));
        key.disabled = Some("since then".into());
        assert!(!key.works(at(0)));
    }

    #[test]
    fn half_a_key_is_none() {
        let whole = AccessKey::generate(binding()).object("ns");
        for take in [
            |secret: &mut Secret| drop(secret.metadata.labels.take()),
            |secret: &mut Secret| secret.metadata.name = Some("another-name".into()),
            |secret: &mut Secret| {
                drop(
                    secret.metadata.annotations.as_mut().and_then(|all| all.remove(meta::KEY_NAMESPACE_UID)),
                );
            },
            |secret: &mut Secret| drop(secret.metadata.annotations.take()),
            |secret: &mut Secret| drop(secret.data.take()),
        ] {
            let mut half = whole.clone();
            take(&mut half);
            assert!(AccessKey::read(&half).is_err());
        }
    }
}
