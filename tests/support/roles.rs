//! The programs of this tree with the rights that the chart gives them, and no others.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};
use xtask::rights::{GATEWAY, NOTIFIER, OPERATOR};

use super::client::{SYSTEM, apply, kubeconfig};
use super::wait;

/// A program that the chart starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servant {
    Operator,
    Gateway,
    Notifier,
}

/// Everybody who has a role.
const ALL: [Servant; 3] = [Servant::Operator, Servant::Gateway, Servant::Notifier];

impl Servant {
    /// The user name in the audit log.
    pub(crate) fn user(self) -> &'static str {
        match self {
            Self::Operator => OPERATOR.played_by,
            Self::Gateway => GATEWAY.played_by,
            Self::Notifier => NOTIFIER.played_by,
        }
    }

    /// The template that states its roles.
    fn template(self) -> &'static str {
        match self {
            Self::Operator => include_str!("../../charts/batchyard/templates/rbac.yaml"),
            Self::Gateway => include_str!("../../charts/batchyard/templates/gateway.yaml"),
            Self::Notifier => include_str!("../../charts/batchyard/templates/notifier.yaml"),
        }
    }

    /// The rules that the chart states in all roles of this kind. Conditions stand in lines of their own; here all of them hold,
    /// but that there is a runner: `tests/api/security/runner.rs` has an operator of its own for that.
    fn rules(self, kind: &str) -> Vec<Value> {
        let parts = self.template().split("\n---\n");
        let roles = parts.filter(|part| part.contains(&format!("\nkind: {kind}\n")));
        let rules = roles.map(|role| {
            let rules = role.split("\nrules:\n").nth(1).expect("a role has rules");
            let mut is_runners = false;
            let rules = rules.lines().filter(|line| {
                if line.contains("{{-") {
                    is_runners = line.contains("if .Values.operator.runner }}");
                }
                !is_runners && !line.contains("{{")
            });
            let rules: Vec<&str> = rules.collect();
            serde_saphyr::from_str::<Vec<Value>>(&rules.join("\n")).expect("YAML without templates")
        });
        rules.flatten().collect()
    }

    /// A kubeconfig for it. [`super::client::connect`] has made its roles.
    pub(crate) fn kubeconfig(self) -> PathBuf {
        let mut config = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
        for named in &mut config.auth_infos {
            let info = named.auth_info.get_or_insert_default();
            info.impersonate = Some(self.user().to_owned());
            info.impersonate_groups = Some(vec!["system:authenticated".to_owned()]);
        }
        // Tests run side by side, and what is there is the same.
        let (path, id) = (PathBuf::from(env!("CARGO_TARGET_TMPDIR")), std::process::id());
        let path = path.join(format!("{}-{id}.kubeconfig", self.user()));
        let made = path.with_extension(format!("{:?}", std::thread::current().id()));
        fs::write(&made, serde_json::to_string(&config).expect("plain data")).expect("it can be written");
        fs::rename(&made, &path).expect("it can be renamed");
        path
    }
}

/// Makes the roles of all of them, and waits until they hold.
pub(super) async fn install(admin: &Client) {
    for servant in ALL {
        let (user, rules) = (servant.user(), servant.rules("ClusterRole"));
        let role = json!({"metadata": {"name": user}, "rules": rules});
        apply(&Api::<ClusterRole>::all(admin.clone()), &role).await;
        apply(&Api::<ClusterRoleBinding>::all(admin.clone()), &servant.binding("ClusterRole")).await;
        holds(admin, user, &rules[0], None).await;
        servant.installed_in(admin, SYSTEM).await;
    }
}

impl Servant {
    /// Gives it in a namespace what it has in its own, as the chart does for the notifier where it is told to.
    pub(crate) async fn installed_in(self, admin: &Client, namespace: &str) {
        let (user, rules) = (self.user(), self.rules("Role"));
        let role = json!({"metadata": {"name": user}, "rules": rules});
        apply(&Api::<Role>::namespaced(admin.clone(), namespace), &role).await;
        apply(&Api::<RoleBinding>::namespaced(admin.clone(), namespace), &self.binding("Role")).await;
        holds(admin, user, &rules[0], Some(namespace)).await;
    }

    fn binding(self, kind: &str) -> Value {
        let (group, name) = ("rbac.authorization.k8s.io", self.user());
        json!({"metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"kind": "User", "name": name, "apiGroup": group}]})
    }
}

/// Waits until somebody may do what a rule says: the API server learns of roles as others do.
async fn holds(admin: &Client, user: &str, rule: &Value, namespace: Option<&str>) {
    let (group, resource, verb) = (&rule["apiGroups"][0], &rule["resources"][0], &rule["verbs"][0]);
    let asked = json!({"group": group, "resource": resource, "verb": verb, "namespace": namespace});
    let question: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": {
        "user": user, "groups": ["system:authenticated"], "resourceAttributes": asked}}))
    .expect("a question");
    let reviews: Api<SubjectAccessReview> = Api::all(admin.clone());
    wait::answer("the roles of the chart to hold", user, || async {
        let answer = reviews.create(&PostParams::default(), &question).await.expect("an answer");
        answer.status.is_some_and(|status| status.allowed).then_some(())
    })
    .await;
}
