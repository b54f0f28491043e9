//! `kubectl batch keys`: a key's life, from the side of those who give them out.

use batchyard::k8s::access_key::{AccessKey, Binding, object_name};
use batchyard::k8s::meta;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::door::{Door, SYSTEM, caller, everything};
use crate::cli::program::batch;
use crate::operator::world::World;
use crate::support::wait;

/// The key that `create` and `rotate` print.
fn printed(text: &str, world: &World) -> AccessKey {
    let after = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
    };
    let mut key = AccessKey::generate(Binding { namespace: world.namespace.clone(), ..Binding::default() });
    key.id = after("AWS_ACCESS_KEY_ID");
    key.secret = after("AWS_SECRET_ACCESS_KEY").as_str().into();
    key
}

#[tokio::test]
async fn keys_are_made_listed_rotated_disabled_and_deleted() {
    let world = World::without_operator("door-give").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    caller(&world.user, n, "ci", everything()).await;
    let told = batch(n, &["keys", "create", "absent"]).await.fails(3);
    assert!(told.contains("no ServiceAccount absent"), "{told}");
    let made = batch(n, &["keys", "create", "ci", "--description", "the pipeline", "--expires-in", "90d"])
        .await
        .ok();
    let key = printed(&made, &world);
    let status =
        |key: &AccessKey| door.call(key, "POST", "/v1/describejobs", &json!({"jobs": []}).to_string()).status;
    let reaches = async |key: &AccessKey, wanted: u16| {
        wait::answer("the gateway to know of the key", n, || {
            std::future::ready((status(key) == wanted).then_some(()))
        })
        .await;
    };
    reaches(&key, 200).await;
    let list = batch(n, &["keys", "list", "--gateway-namespace", SYSTEM]).await.ok();
    let line = list.lines().find(|line| line.contains(&key.id)).unwrap_or_else(|| panic!("{list}"));
    assert!(line.contains("ENABLED") && line.contains("the pipeline") && line.contains(n), "{line}");
    assert!(!list.contains(key.secret.reveal()), "secrets are shown once");
    let secrets: Api<Secret> = Api::namespaced(world.user.clone(), SYSTEM);
    let expires = async |key: &AccessKey| {
        let found = secrets.get(&object_name(&key.id)).await.expect("the key's Secret");
        found.annotations().get(meta::KEY_EXPIRES).cloned().expect("it expires")
    };
    let ends = expires(&key).await;
    let next = printed(&batch(n, &["keys", "rotate", &key.id, "--grace", "0s"]).await.ok(), &world);
    reaches(&next, 200).await;
    reaches(&key, 403).await;
    assert_eq!(expires(&next).await, ends, "a key that follows another one lasts no longer");
    let told = batch(n, &["keys", "rotate", &key.id]).await.fails(5);
    assert!(told.contains("has expired"), "{told}");
    batch(n, &["keys", "disable", &next.id]).await.ok();
    reaches(&next, 403).await;
    let told = batch(n, &["keys", "rotate", &next.id]).await.fails(5);
    assert!(told.contains("is disabled"), "{told}");
    batch(n, &["keys", "enable", &next.id]).await.ok();
    reaches(&next, 200).await;
    batch(n, &["keys", "delete", &next.id]).await.ok();
    reaches(&next, 403).await;
    batch(n, &["keys", "delete", &next.id]).await.fails(3);
}
