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
    /// Its ClusterRole, its Role there, and their bindings; the names of others begin so and go on with a dash.
    role: &'static str,
    /// The user as whom tests start it on an API server without nodes, with roles of that name.
    pub played_by: &'static str,
}

/// What follows in the name of the user if it works for some namespaces only.
pub const LIMITED: &str = "-limited";

/// Makes pods of jobs.
pub const OPERATOR: Program =
    Program { account: "batchyard", role: "batchyard-operator", played_by: "operator" };
/// Answers AWS clients.
pub const GATEWAY: Program =
    Program { account: "batchyard-gateway", role: "batchyard-gateway", played_by: "test-gateway" };
/// Tells what happened.
pub const NOTIFIER: Program =
    Program { account: "batchyard-notifier", role: "batchyard-notifier", played_by: "test-notifier" };

const PROGRAMS: [&Program; 3] = [&OPERATOR, &GATEWAY, &NOTIFIER];

const RBAC: &str = "rbac.authorization.k8s.io";

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
    /// What was refused, with an example of a request.
    refused: BTreeMap<&'static str, BTreeMap<Right, String>>,
}

/// What was read of an audit log so far.
#[derive(Default)]
struct Reader {
    calls: Calls,
    refusals: Vec<Refusal>,
    history: History,
}

/// A request that the roles of a program did not allow.
struct Refusal {
    program: &'static Program,
    right: Right,
    namespace: String,
    uri: String,
    at: String,
}

/// When roles and bindings came and went, by namespace (none of those of the cluster) and name (none where all of a namespace
/// went with it): true where one came. Times are as the log has them, all of one length.
#[derive(Default)]
struct History(BTreeMap<(String, String), BTreeMap<String, bool>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    request_received_timestamp: String,
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
    name: String,
}

impl Event {
    /// The program of ours that made the request.
    fn program(&self) -> Option<&'static Program> {
        let user = &self.impersonated_user.as_ref().unwrap_or(&self.user).username;
        let account = user.strip_prefix(&format!("system:serviceaccount:{NAMESPACE}:"));
        let player = user.strip_suffix(LIMITED).unwrap_or(user);
        let by = |program: &&Program| account == Some(program.account) || player == program.played_by;
        PROGRAMS.into_iter().find(by)
    }

    fn is_refused(&self) -> bool {
        // What admission refuses was allowed by the roles.
        self.annotations.get("authorization.k8s.io/decision").is_some_and(|decision| decision == "forbid")
    }

    fn code(&self) -> Option<u16> {
        self.response_status.as_ref().and_then(|status| status.code)
    }
}

impl Reader {
    /// Notes a line of the log, if a program of ours made the request or it is about a role. The last line of a log may be
    /// half of one.
    fn add(&mut self, line: &str) {
        let is_ours = |program: &&Program| {
            line.contains(&format!("{NAMESPACE}:{}\"", program.account)) || line.contains(program.played_by)
        };
        if !line.contains(RBAC) && !PROGRAMS.into_iter().any(|program| is_ours(&program)) {
            return;
        }
        let Ok(event) = serde_json::from_str::<Event>(line) else { return };
        let Some(object) = &event.object_ref else { return };
        if object.api_group == RBAC {
            self.history.add(&event, object);
        }
        let Some(program) = event.program() else { return };
        let resource = [object.resource.as_str(), &object.subresource].join("/");
        let right = Right::new(&event.verb, &object.api_group, resource.trim_end_matches('/'));
        if event.is_refused() {
            let (namespace, uri) = (object.namespace.clone(), event.uri);
            let at = event.request_received_timestamp;
            self.refusals.push(Refusal { program, right, namespace, uri, at });
            return;
        }
        let granted = self.calls.granted.entry(program.account).or_default();
        // An apply that makes the object needs both rights.
        if right.verb == "patch" && event.code() == Some(201) {
            granted.insert(Right { verb: "create".to_owned(), resource: right.resource.clone() });
        }
        granted.insert(right);
    }

    /// What was asked for. A namespace that is being deleted, and a cluster from which the chart is removed, lose the roles
    /// before the programs have ended: what is refused then tells nothing.
    fn finish(self) -> Calls {
        let Self { mut calls, refusals, history } = self;
        for refusal in refusals.into_iter().filter(|refusal| !history.explains(refusal)) {
            let refused = calls.refused.entry(refusal.program.account).or_default();
            refused.entry(refusal.right).or_insert(refusal.uri);
        }
        calls
    }
}

impl History {
    fn add(&mut self, event: &Event, object: &Object) {
        let came = match event.verb.as_str() {
            "create" | "patch" | "update" => true,
            "delete" | "deletecollection" => false,
            _ => return,
        };
        if event.code().is_some_and(|code| code < 300) {
            let place = (object.namespace.clone(), object.name.clone());
            self.0.entry(place).or_default().insert(event.request_received_timestamp.clone(), came);
        }
    }

    /// Whether the program's roles had gone when it was refused something.
    fn explains(&self, refusal: &Refusal) -> bool {
        let is_its = |name: &str| {
            let mut begins = [refusal.program.role, refusal.program.played_by].into_iter();
            begins.any(|begins| {
                name.strip_prefix(begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
        };
        self.0.iter().any(|((namespace, name), history)| {
            let matters = match *namespace == refusal.namespace {
                true => name.is_empty() || is_its(name),
                false => namespace.is_empty() && is_its(name),
            };
            let last = || history.range(..=refusal.at.clone()).next_back();
            matters && last().is_some_and(|(_, came)| !came)
        })
    }
}

impl Calls {
    /// Reads an audit log as [`crate::cluster`] has it written.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn read(log: &Path) -> Result<Self> {
        let file = File::open(log).with_context(|| log.display().to_string())?;
        let mut reader = Reader::default();
        for line in BufReader::new(file).lines() {
            reader.add(&line.with_context(|| log.display().to_string())?);
        }
        Ok(reader.finish())
    }

    /// Adds what was asked of another cluster.
    pub fn join(&mut self, other: Self) {
        for (account, rights) in other.granted {
            self.granted.entry(account).or_default().extend(rights);
        }
        for (account, rights) in other.refused {
            self.refused.entry(account).or_default().extend(rights);
        }
    }

    /// What the roles did not allow, a line for each right.
    pub fn refused(&self) -> Vec<String> {
        let all =
            self.refused.iter().flat_map(|(account, rights)| rights.iter().map(move |one| (account, one)));
        all.map(|(account, (right, uri))| format!("{account} may not {right}: {uri}")).collect()
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
        let of_rbac = text.split("\n---").filter(|part| part.contains(&format!("\napiVersion: {RBAC}/v1\n")));
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
            "impersonatedUser": {"username": user}, "objectRef": object, "requestReceivedTimestamp": "5",
            "annotations": {"authorization.k8s.io/decision": decision}})
        .to_string()
    }

    /// Something happens to a role, or to all of a namespace.
    fn happened(at: &str, verb: &str, namespace: &str, name: &str) -> String {
        json!({"verb": verb, "requestURI": "/", "user": {"username": "admin"}, "requestReceivedTimestamp": at,
            "responseStatus": {"code": 200}, "objectRef": {"resource": "rolebindings", "apiGroup": RBAC,
                "namespace": namespace, "name": name}})
        .to_string()
    }

    fn calls(lines: &[String]) -> Calls {
        let mut reader = Reader::default();
        lines.iter().for_each(|line| reader.add(line));
        reader.finish()
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
            said("test-notifier-limited", "list", "pods", "", "forbid"),
            said("somebody", "get", "pods", "", "forbid"),
        ]);
        let told = ["batchyard may not get pods: /of/pods", "batchyard-notifier may not list pods: /of/pods"];
        assert_eq!(refused.refused(), told);
        assert_eq!(refused.unused(&roles).len(), 6);
        assert!(Roles::rendered("---\nkind: Service\n").is_err());
    }

    #[test]
    fn what_is_refused_after_the_roles_have_gone_is_not_told() {
        let own = |at, verb| happened(at, verb, "n", "batchyard-operator");
        for (history, told) in [
            (vec![], true),
            (vec![own("4", "delete")], false),
            (vec![own("6", "delete")], true),
            (vec![own("3", "delete"), own("4", "create")], true),
            (vec![own("3", "create"), own("4", "delete")], false),
            (vec![happened("4", "deletecollection", "n", "")], false),
            (vec![happened("4", "delete", "", "batchyard-operator")], false),
            (vec![happened("4", "delete", "n", "operator")], false),
            (vec![happened("4", "delete", "n", "operator-limited")], false),
            (vec![happened("4", "delete", "", "batchyard-operator-cluster")], false),
            (vec![happened("4", "delete", "n", "batchyard-operator-watched")], false),
            (vec![happened("4", "delete", "n", "batchyard-operators")], true),
            (vec![happened("4", "delete", "n", "batchyard-gateway")], true),
            (vec![happened("4", "delete", "another", "batchyard-operator")], true),
        ] {
            let refused = [said("operator", "get", "pods", "", "forbid")];
            let calls = calls(&[history.as_slice(), &refused].concat());
            assert_eq!(!calls.refused().is_empty(), told, "{history:?}");
        }
    }
}
