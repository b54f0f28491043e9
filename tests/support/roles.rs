//! The programs of this tree with the rights that the chart gives them, and no others.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};
use xtask::rights::{GATEWAY, LIMITED, NOTIFIER, OPERATOR};

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

    /// The rules that the chart states in its roles of this kind whose names fit. Conditions stand in lines of their own;
    /// here all of them hold, but that there is a runner: `tests/api/security/runner.rs` has an operator of its own for
    /// that.
    fn rules(self, kind: &str, fits: impl Fn(&str) -> bool) -> Vec<Value> {
        let parts = self.template().split("\n---\n");
        let roles = parts.filter(|part| part.contains(&format!("\nkind: {kind}\n")));
        let roles = roles.filter(|role| {
            let name = role.lines().find_map(|line| line.strip_prefix("  name: "));
            fits(name.expect("a role has a name"))
        });
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

    /// Its ClusterRoles, by name: the first is good where it works, the others everywhere.
    fn cluster_roles(self) -> Vec<(String, Vec<Value>)> {
        let ends = ["-cluster", "-pods"];
        let everywhere = self.rules("ClusterRole", |name| !ends.iter().any(|end| name.ends_with(end)));
        let more = ends.map(|end| (end, self.rules("ClusterRole", |name| name.ends_with(end))));
        let all = [("", everywhere)].into_iter().chain(more);
        all.filter(|(_, rules)| !rules.is_empty())
            .map(|(end, rules)| (format!("{}{end}", self.user()), rules))
            .collect()
    }

    /// A kubeconfig for it. [`super::client::connect`] has made its roles.
    pub(crate) fn kubeconfig(self) -> PathBuf {
        kubeconfig_of(self.user())
    }

    /// A kubeconfig for one that works for some namespaces only: another user, with the same roles, bound as the chart
    /// binds them then.
    pub(crate) async fn limited_to(
        self,
        admin: &Client,
        namespaces: &[&str],
        pods_elsewhere: bool,
    ) -> PathBuf {
        let (user, limited) = (self.user(), format!("{}{LIMITED}", self.user()));
        let of_cluster = Api::<ClusterRoleBinding>::all(admin.clone());
        for (role, rules) in self.cluster_roles().iter().filter(|(role, _)| role != user) {
            let mut name = role.replacen(user, &limited, 1);
            if role.ends_with("-pods") {
                // Its name begins otherwise, so that what is refused without it is told (`xtask/src/rights.rs`).
                name.insert_str(0, "test-");
                of_cluster.delete(&name, &DeleteParams::default()).await.ok();
                if !pods_elsewhere {
                    continue;
                }
            }
            apply(&of_cluster, &binding(&name, "ClusterRole", role, &limited)).await;
            holds(admin, &limited, &rules[0], None).await;
        }
        for namespace in namespaces {
            self.let_into(admin, namespace).await;
        }
        let own = Api::<RoleBinding>::namespaced(admin.clone(), SYSTEM);
        apply(&own, &binding(&limited, "Role", user, &limited)).await;
        holds(admin, &limited, &self.rules("Role", |_| true)[0], Some(SYSTEM)).await;
        kubeconfig_of(&limited)
    }

    /// Binds what one that works for some namespaces only needs in one of them.
    pub(crate) async fn let_into(self, admin: &Client, namespace: &str) {
        let (user, limited) = (self.user(), format!("{}{LIMITED}", self.user()));
        let bindings = Api::<RoleBinding>::namespaced(admin.clone(), namespace);
        apply(&bindings, &binding(&limited, "ClusterRole", user, &limited)).await;
        holds(admin, &limited, &self.cluster_roles()[0].1[0], Some(namespace)).await;
    }
}

fn kubeconfig_of(user: &str) -> PathBuf {
    let mut config = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    for named in &mut config.auth_infos {
        let info = named.auth_info.get_or_insert_default();
        info.impersonate = Some(user.to_owned());
        info.impersonate_groups = Some(vec!["system:authenticated".to_owned()]);
    }
    // Tests run side by side, and what is there is the same.
    let (path, id) = (PathBuf::from(env!("CARGO_TARGET_TMPDIR")), std::process::id());
    let path = path.join(format!("{user}-{id}.kubeconfig"));
    let made = path.with_extension(format!("{:?}", std::thread::current().id()));
    fs::write(&made, serde_json::to_string(&config).expect("plain data")).expect("it can be written");
    fs::rename(&made, &path).expect("it can be renamed");
    path
}

/// Makes the roles of all of them, and waits until they hold.
pub(super) async fn install(admin: &Client) {
    for servant in ALL {
        let user = servant.user();
        for (name, rules) in servant.cluster_roles() {
            let role = json!({"metadata": {"name": name}, "rules": rules});
            apply(&Api::<ClusterRole>::all(admin.clone()), &role).await;
            let bindings = Api::<ClusterRoleBinding>::all(admin.clone());
            apply(&bindings, &binding(&name, "ClusterRole", &name, user)).await;
            holds(admin, user, &rules[0], None).await;
        }
        servant.installed_in(admin, SYSTEM).await;
    }
}

impl Servant {
    /// Gives it in a namespace what it has in its own, as the chart does for the notifier where it is told to.
    pub(crate) async fn installed_in(self, admin: &Client, namespace: &str) {
        let (user, rules) = (self.user(), self.rules("Role", |_| true));
        let role = json!({"metadata": {"name": user}, "rules": rules});
        apply(&Api::<Role>::namespaced(admin.clone(), namespace), &role).await;
        let bindings = Api::<RoleBinding>::namespaced(admin.clone(), namespace);
        apply(&bindings, &binding(user, "Role", user, user)).await;
        holds(admin, user, &rules[0], Some(namespace)).await;
    }
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}]})
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
