//! An object of a watch that need not be decodable.
//!
//! kube's own `DeserializeGuard` makes a tree of every object before it makes the object from it. Here the text is
//! kept until the object is read, and only of one that cannot be read a second look tells which it is.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or what is known of one that cannot be decoded.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// What is known of an object that cannot be decoded.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What is wrong with it.
    pub error: String,
    /// Which it is.
    pub metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct OnlyMetadata {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        serde_json::from_str(text.get()).map(|object| Self(Ok(object))).or_else(|error| {
            let known: OnlyMetadata = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
            Ok(Self(Err(Unreadable { error: error.to_string(), metadata: known.metadata })))
        })
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::api::WatchEvent;
    use kube::core::ObjectList;

    use super::*;

    fn says(guarded: &Guarded<ConfigMap>) -> String {
        format!("{} {}", guarded.name_any(), if guarded.0.is_ok() { "can be read" } else { "cannot be read" })
    }

    /// As the API server sends them: one after another in a watch, or all of them in a list.
    #[test]
    fn one_that_cannot_be_read_is_known_and_spoils_nothing() {
        let good = r#"{"metadata": {"name": "good"}, "data": {"key": "value"}}"#;
        let bad = r#"{"metadata": {"name": "bad"}, "data": "cut off"}"#;
        let event = |object: &str| {
            let event = format!(r#"{{"type": "MODIFIED", "object": {object}}}"#);
            match serde_json::from_str(&event).expect("an event") {
                WatchEvent::Modified(object) => says(&object),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([event(good), event(bad)], ["good can be read", "bad cannot be read"]);
        let list = format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {{}}, "items": [{bad}, {good}]}}"#
        );
        let list: ObjectList<Guarded<ConfigMap>> = serde_json::from_str(&list).expect("a list");
        assert_eq!(
            list.items.iter().map(says).collect::<Vec<_>>(),
            ["bad cannot be read", "good can be read"]
        );
        let nothing = serde_json::from_str::<Guarded<ConfigMap>>(r#"{"metadata": 7}"#);
        assert!(nothing.is_err(), "nobody knows which that is");
    }
}
