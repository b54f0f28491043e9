//! What the programs of the chart asked of the API server, by its audit log, beside what their roles allow: nothing is refused to
//! them, and they may do nothing that they do not do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::install::NAMESPACE;

/// A program that the chart starts.
#[derive(Debug)]
pub struct Program {
    /// Its ServiceAccount, in [`NAMESPACE`].
    pub account: &'static str,
    /// The user as whom tests start it on an API server without nodes, with the same roles.
    pub played_by: &'static str,
}

/// Makes pods of jobs.
pub const OPERATOR: Program = Program { account: "batchyard", played_by: "operator" };
/// Answers AWS clients.
pub const GATEWAY: Program = Program { account: "batchyard-gateway", played_by: "test-gateway" };
/// Tells what happened.
pub const NOTIFIER: Program = Program { account: "batchyard-notifier", played_by: "test-notifier" };

const PROGRAMS: [&Program; 3] = [&OPERATOR, &GATEWAY, &NOTIFIER];

/// Rights that no request of these tests shows, and why they are there.
const NOT_SEEN: [(&[&str], &str); 13] = [
    // OwnerReferencesPermissionEnforcement asks for them, for owners with blockOwnerDeletion.
    (&["update"], "batchyard.io/batchjobs/finalizers"),
    (&["update"], "batchyard.io/computeenvironments/finalizers"),
    // The policies ask for them, of whoever writes; the gateway writes for its callers.
    (&["set"], "batchyard.io/reservednames"),
    (&["submit"], "batchyard.io/jobqueues"),
    (&["use"], "batchyard.io/jobdefinitions"),
    (&["use"], "batchyard.io/loggroups"),
    (&["use"], "serviceaccounts"),
    (&["privilege"], "batchyard.io/containers"),
    // A revision is deleted months after nobody uses it any more.
    (&["delete"], "apps/controllerrevisions"),
    // Only AWS has them.
    (&["list", "watch", "create", "patch", "delete"], "karpenter.k8s.aws/ec2nodeclasses"),
    // They need a controller of the Gateway API: `tests/nodes/routes.rs` is skipped without.
    (&["get", "create", "patch", "delete"], "gateway.networking.k8s.io/httproutes"),
    (&["get", "create", "patch", "delete"], "gateway.networking.k8s.io/tlsroutes"),
    // Of real containers, and by boto3, which not every machine has: `tests/nodes/cloudwatch.rs`.
    (&["get"], "pods/log"),
];

/// A verb, and the resource with its group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    verb: String,
    resource: String,
}

impl Right {
    fn new(verb: &str, group: &str, resource: &str) -> Self {
        let resource = if group.is_empty() { resource.to_owned() } else { format!("{group}/{resource}") };
        Self { verb: verb.to_owned(), resource }
    }

    fn is_never_seen(&self) -> bool {
        NOT_SEEN
            .iter()
            .any(|(verbs, resource)| *resource == self.resource && verbs.contains(&self.verb.as_str()))
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// What the programs asked for, by ServiceAccount.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls {
    granted: BTreeMap<&'static str, BTreeSet<Right>>,
    refused: BTreeMap<&'static str, BTreeSet<Refusal>>,
    /// Namespaces from which Kubernetes has taken the roles, since they are being deleted, or Helm, since the chart is.
    leaving: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    right: Right,
    namespace: String,
    uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    impersonated_user: Option<User>,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
}

impl Calls {
    /// Reads an audit log as [`crate::cluster`] has it written.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn read(log: &Path) -> Result<Self> {
        let file = File::open(log).with_context(|| log.display().to_string())?;
        let mut calls = Self::default();
        for line in BufReader::new(file).lines() {
            calls.add(&line.with_context(|| log.display().to_string())?);
        }
        Ok(calls)
    }

    /// Notes a line of the log, if a program of ours made the request. The last line of a log may be half of one.
    fn add(&mut self, line: &str) {
        let is_ours = |program: &&&Program| {
            line.contains(&format!("{NAMESPACE}:{}\"", program.account)) || line.contains(program.played_by)
        };
        let takes_roles = |text: &str| {
            ["deletecollection", "delete"].iter().any(|verb| text.contains(&format!(r#""verb":"{verb}""#)))
                && text.contains(r#""resource":"roles""#)
        };
        if !takes_roles(line) && !PROGRAMS.iter().any(|program| is_ours(&program)) {
            return;
        }
        let Ok(event) = serde_json::from_str::<Event>(line) else { return };
        if takes_roles(line) {
            self.leaving.extend(event.object_ref.map(|object| object.namespace));
            return;
        }
        let user = &event.impersonated_user.as_ref().unwrap_or(&event.user).username;
        let account = user.strip_prefix(&format!("system:serviceaccount:{NAMESPACE}:"));
        let by = |program: &&&Program| account == Some(program.account) || user == program.played_by;
        let Some(program) = PROGRAMS.iter().find(by) else { return };
        let Some(object) = &event.object_ref else { return };
        let resource = [object.resource.as_str(), &object.subresource].join("/");
        let right = Right::new(&event.verb, &object.api_group, resource.trim_end_matches('/'));
        // What admission refuses was allowed by the roles.
        if event.annotations.get("authorization.k8s.io/decision").is_some_and(|decision| decision == "forbid")
        {
            let refusal = Refusal { right, namespace: object.namespace.clone(), uri: event.uri };
            self.refused.entry(program.account).or_default().insert(refusal);
        } else {
            let granted = self.granted.entry(program.account).or_default();
            // An apply that makes the object needs both rights.
            if right.verb == "patch" && event.response_status.is_some_and(|status| status.code == Some(201)) {
                granted.insert(Right { verb: "create".to_owned(), resource: right.resource.clone() });
            }
            granted.insert(right);
        }
    }

    /// Adds what was asked of another cluster.
    pub fn join(&mut self, other: Self) {
        for (account, rights) in other.granted {
            self.granted.entry(account).or_default().extend(rights);
        }
        for (account, refusals) in other.refused {
            self.refused.entry(account).or_default().extend(refusals);
        }
        self.leaving.extend(other.leaving);
    }

    /// What the roles did not allow, a line for each. A namespace that is being deleted, or from which the chart is removed,
    /// loses its roles before whoever works there knows.
    pub fn refused(&self) -> Vec<String> {
        let all = self
            .refused
            .iter()
            .flat_map(|(account, refusals)| refusals.iter().map(move |one| (account, one)));
        let lasting = all.filter(|(_, refusal)| !self.leaving.contains(&refusal.namespace));
        lasting
            .map(|(account, refusal)| format!("{account} may not {}: {}", refusal.right, refusal.uri))
            .collect()
    }

    /// What the roles allow and nobody asked for, a line for each right.
    pub fn unused(&self, roles: &Roles) -> Vec<String> {
        let nothing = BTreeSet::new();
        let unused = roles.0.iter().flat_map(|(account, rights)| {
            let used = self.granted.get(account.as_str()).unwrap_or(&nothing);
            let unused = rights.difference(used).filter(|right| !right.is_never_seen());
            unused.map(move |right| format!("{account} may {right}, and never does"))
        });
        unused.collect()
    }
}

/// What the chart allows its ServiceAccounts.
#[derive(Debug)]
pub struct Roles(BTreeMap<String, BTreeSet<Right>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Document {
    kind: String,
    metadata: Name,
    rules: Vec<Rule>,
    role_ref: Name,
    subjects: Vec<Name>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Name {
    kind: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

impl Roles {
    /// Reads what Helm renders: what is bound to a ServiceAccount. Roles that Kubernetes has are not looked into.
    ///
    /// # Errors
    ///
    /// A document is not a manifest, or no program has a role.
    pub fn rendered(text: &str) -> Result<Self> {
        let of_rbac = text.split("\n---").filter(|part| part.contains("rbac.authorization.k8s.io/v1"));
        let documents: Vec<Document> = of_rbac
            .map(|part| serde_saphyr::from_str(part).with_context(|| part.to_owned()))
            .collect::<Result<_>>()?;
        let mut roles = BTreeMap::new();
        for binding in &documents {
            let accounts = binding.subjects.iter().filter(|subject| subject.kind == "ServiceAccount");
            for account in accounts {
                let bound = documents.iter().filter(|role| {
                    role.kind == binding.role_ref.kind && role.metadata.name == binding.role_ref.name
                });
                let rights: &mut BTreeSet<Right> = roles.entry(account.name.clone()).or_default();
                rights.extend(bound.flat_map(|role| role.rules.iter().flat_map(Rule::rights)));
            }
        }
        let known = |program: &&Program| roles.contains_key(program.account);
        anyhow::ensure!(PROGRAMS.iter().all(known), "the chart binds roles to {:?} alone", roles.keys());
        Ok(Self(roles))
    }
}

impl Rule {
    fn rights(&self) -> Vec<Right> {
        let mut rights = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                rights.extend(self.verbs.iter().map(|verb| Right::new(verb, group, resource)));
            }
        }
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CHART: &str = "---
# Source: rbac.yaml
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: o}
rules:
  - {apiGroups: [''], resources: [pods, pods/exec], verbs: [get]}
  - {apiGroups: [batchyard.io], resources: [reservednames], verbs: [set]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: x}
roleRef: {kind: ClusterRole, name: o}
subjects: [{kind: ServiceAccount, name: batchyard}, {kind: ServiceAccount, name: batchyard-gateway},
  {kind: ServiceAccount, name: batchyard-notifier}]
---
kind: Service
";

    fn said(user: &str, verb: &str, resource: &str, subresource: &str, decision: &str) -> String {
        let mut object = json!({"resource": resource, "namespace": "n"});
        if !subresource.is_empty() {
            object["subresource"] = json!(subresource);
        }
        json!({"verb": verb, "requestURI": format!("/of/{resource}"), "user": {"username": "admin"},
            "impersonatedUser": {"username": user}, "objectRef": object,
            "annotations": {"authorization.k8s.io/decision": decision}})
        .to_string()
    }

    fn calls(lines: &[String]) -> Calls {
        let mut calls = Calls::default();
        lines.iter().for_each(|line| calls.add(line));
        calls
    }

    #[test]
    fn what_nobody_asks_for_is_told_for_each_program() {
        let roles = Roles::rendered(CHART).expect("a chart");
        let operator = "system:serviceaccount:batchyard-system:batchyard";
        let mut used = calls(&[
            said(operator, "get", "pods", "", "allow"),
            said("test-notifier", "get", "pods", "exec", "allow"),
            said("somebody", "get", "pods", "exec", "allow"),
        ]);
        used.join(calls(&[said("test-gateway", "get", "pods", "", "allow"), "half a li".to_owned()]));
        assert_eq!(
            used.unused(&roles),
            [
                "batchyard may get pods/exec, and never does",
                "batchyard-gateway may get pods/exec, and never does",
                "batchyard-notifier may get pods, and never does",
            ]
        );
        assert_eq!(used.refused(), Vec::<String>::new());
    }

    #[test]
    fn what_roles_refuse_is_told_and_counts_as_unused() {
        let roles = Roles::rendered(CHART).expect("a chart");
        let refused = calls(&[
            said("operator", "get", "pods", "", "forbid"),
            said("somebody", "get", "pods", "", "forbid"),
        ]);
        assert_eq!(refused.refused(), ["batchyard may not get pods: /of/pods"]);
        assert_eq!(refused.unused(&roles).len(), 6);
        let mut leaving = calls(&[said("namespace-controller", "deletecollection", "roles", "", "allow")]);
        leaving.join(refused);
        assert_eq!(leaving.refused(), Vec::<String>::new(), "the namespace is on its way out");
        assert!(Roles::rendered("---\nkind: Service\n").is_err());
    }
}
