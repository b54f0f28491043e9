//! The Helm chart without a cluster: it is well-formed, and its CRDs are those of crds/.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::report::Counts;
use crate::cluster;
use crate::process::output;
use crate::rights::Roles;

/// Lints the chart and renders it with its own values and with every feature on.
pub(super) fn check() -> Result<Counts> {
    let chart = cluster::repository()?.join("charts/batchyard");
    let everything = chart.join("ci/everything-values.yaml");
    let mut counts = Counts::default();
    for values in [None, Some(&everything)] {
        for task in [&["lint", "--strict"][..], &["template", "batchyard", "--namespace", "batchyard-system"]]
        {
            let mut command = helm(task)?;
            command.arg(&chart);
            if let Some(values) = values {
                command.arg("--values").arg(values);
            }
            let text = output(&mut command)?;
            if task[0] == "template" && values.is_none() {
                holds_the_crds(&text)?;
                holds_the_policies(&text)?;
            }
            counts.add(Counts::one());
        }
    }
    let mut command = helm(&["template", "batchyard", "--set", "rbac.create=false,rbac.userRoles=false"])?;
    let without = output(command.arg("--values").arg(&everything).arg(&chart))?;
    ensure!(
        !without.contains("\napiVersion: rbac.authorization.k8s.io"),
        "roles or bindings are made although rbac.create and rbac.userRoles are false"
    );
    counts.add(Counts::one());
    let mut command = helm(&["template", "batchyard", "--set", "admissionPolicies.enabled=false"])?;
    let without = output(command.arg(&chart))?;
    let kinds =
        ["ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"].map(|kind| format!("\nkind: {kind}"));
    ensure!(!kinds.iter().any(|kind| without.contains(kind)), "policies are made although they are off");
    counts.add(Counts::one());
    writes_down_who_submits(&chart)?;
    counts.add(Counts::one());
    makes_pods_by_runners(&chart)?;
    counts.add(Counts::one());
    works_for_some_namespaces(&chart)?;
    counts.add(Counts::one());
    may_be_there_twice(&chart)?;
    counts.add(Counts::one());
    treats_all_programs_alike(&chart)?;
    counts.add(Counts::one());
    Ok(counts)
}

/// What the chart allows its programs when every feature is on.
pub(super) fn roles() -> Result<Roles> {
    let chart = cluster::repository()?.join("charts/batchyard");
    // Of the name that it has by default.
    let mut command = helm(&["template", "batchyard", "--set", "serviceAccount.name="])?;
    command.arg("--values").arg(chart.join("ci/everything-values.yaml")).arg(&chart);
    Roles::rendered(&output(&mut command)?)
}

/// The policy that writes is made in the version that the cluster has, and left out where it has none.
fn writes_down_who_submits(chart: &Path) -> Result<()> {
    let text = fs::read_to_string(chart.join("files/policies/submitter.yaml"))?;
    let spec = text.find("\nspec:").map(|at| text[at..].trim_end()).context("the policy has no spec")?;
    let bound = "\n  name: submitter.batchyard.io\nspec:\n  policyName: submitter.batchyard.io\n";
    for (served, wanted) in
        [(&["v1beta1"][..], Some("v1beta1")), (&["v1beta1", "v1"], Some("v1")), (&[], None)]
    {
        let mut command = helm(&["template", "batchyard"])?;
        for version in served {
            command.arg("--api-versions");
            command.arg(format!("admissionregistration.k8s.io/{version}/MutatingAdmissionPolicy"));
        }
        let rendered = output(command.arg(chart))?;
        let made = |kind: &str| {
            let version = wanted.unwrap_or_default();
            rendered
                .contains(&format!("\napiVersion: admissionregistration.k8s.io/{version}\nkind: {kind}\n"))
        };
        let is_whole = made("MutatingAdmissionPolicy") && made("MutatingAdmissionPolicyBinding");
        let is_whole = is_whole && rendered.contains(spec) && rendered.contains(bound);
        let is_there = rendered.contains("\nkind: MutatingAdmissionPolicy");
        ensure!(
            if wanted.is_some() { is_whole } else { !is_there },
            "with {served:?} the policy of submitters is not made as {wanted:?}"
        );
    }
    Ok(())
}

/// With a runner the operator may impersonate that account and no other, and is told so; without one nothing is said of any.
/// `tests/api/security/runner.rs` runs an operator with these roles.
fn makes_pods_by_runners(chart: &Path) -> Result<()> {
    let rendered = |value: &str| {
        let mut command = helm(&["template", "batchyard", "--set"])?;
        output(command.arg(format!("operator.runner={value}")).arg(chart))
    };
    let with = rendered("jobs-of.team")?;
    for part in [
        "    resourceNames: [jobs-of.team]\n    verbs: [impersonate]\n",
        "            - name: BATCHYARD_RUNNER\n              value: \"jobs-of.team\"\n",
        "            - name: BATCHYARD_RUNNER_ROLE\n              value: batchyard-batch-runner\n",
        "\nkind: ClusterRole\nmetadata:\n  name: batchyard-batch-runner\n",
    ] {
        ensure!(with.contains(part), "with a runner the chart lacks:\n{part}");
    }
    let without = rendered("")?;
    let words = ["impersonate", "BATCHYARD_RUNNER", "batch-runner"];
    ensure!(!words.iter().any(|word| without.contains(word)), "without a runner the chart speaks of one");
    ensure!(rendered("Not a name").is_err(), "what is no name of a ServiceAccount is taken for one");
    Ok(())
}

/// Kinds that belong to no namespace: what programs that work for some namespaces may be granted everywhere.
const OF_CLUSTER: [&str; 10] = [
    "apiservices",
    "computeenvironments",
    "computeenvironments/finalizers",
    "computeenvironments/status",
    "ec2nodeclasses",
    "namespaces",
    "nodepools",
    "nodes",
    "subjectaccessreviews",
    "tokenreviews",
];

/// With watchNamespaces nothing that has a namespace is granted but by a RoleBinding in one of them, or in the release's
/// own; and every program is told. `tests/api/namespaced.rs` runs the programs with these roles.
fn works_for_some_namespaces(chart: &Path) -> Result<()> {
    let everything = chart.join("ci/everything-values.yaml");
    let rendered = |more: &str| {
        let mut command = helm(&["template", "batchyard", "--namespace", "system", "--set", more])?;
        output(command.arg("--values").arg(&everything).arg(chart))
    };
    let limited = rendered("watchNamespaces={team-a,team-b}")?;
    let documents = documents(&limited)?;
    let of = |kind: &'static str| documents.iter().filter(move |document| document.kind == kind);
    for binding in of("ClusterRoleBinding") {
        let role = of("ClusterRole").find(|role| role.metadata.name == binding.role_ref.name);
        let role = role.with_context(|| format!("{} binds nothing", binding.metadata.name))?;
        for rule in &role.rules {
            let sees_pods = role.metadata.name == "batchyard-operator-pods"
                && rule.resources == ["pods"]
                && rule.verbs == ["list", "watch"];
            let is_of_cluster = rule.resources.iter().all(|resource| OF_CLUSTER.contains(&resource.as_str()));
            ensure!(is_of_cluster || sees_pods, "{} is granted everywhere: {rule:?}", role.metadata.name);
        }
    }
    let mut bound: Vec<(&str, &str)> = of("RoleBinding")
        .filter(|binding| binding.role_ref.kind == "ClusterRole")
        .map(|binding| (binding.metadata.namespace.as_str(), binding.role_ref.name.as_str()))
        .collect();
    bound.sort_unstable();
    let roles = ["gateway", "gateway-logs", "notifier", "operator"].map(|role| format!("batchyard-{role}"));
    let wanted: Vec<(&str, &str)> = ["team-a", "team-b"]
        .into_iter()
        .flat_map(|namespace| roles.iter().map(move |role| (namespace, role.as_str())))
        .collect();
    ensure!(bound == wanted, "bound in namespaces: {bound:?}");
    let told = "            - name: BATCHYARD_WATCH_NAMESPACES\n              value: \"team-a,team-b\"\n";
    ensure!(limited.matches(told).count() == 3, "not every program is told for which namespaces it works");
    let sees = "            - name: BATCHYARD_WATCH_PODS_ELSEWHERE\n";
    ensure!(limited.contains(sees), "the operator is not told that it sees all pods");
    let without = rendered("watchPodsElsewhere=false")?;
    ensure!(!without.contains("operator-pods") && !without.contains(sees), "all pods are seen unasked");
    let all = rendered("watchNamespaces=null,watchPodsElsewhere=false")?;
    ensure!(!all.contains("BATCHYARD_WATCH") && !all.contains("-watched"), "some namespaces, unasked");
    for (values, says) in [
        ("watchNamespaces=null", "watchPodsElsewhere needs watchNamespaces"),
        ("watchNamespaces={team-a,team-b,team-a}", "watchNamespaces"),
        ("watchNamespaces={Team}", "watchNamespaces"),
    ] {
        let refused = rendered(values).err().map(|error| format!("{error:#}"));
        let is_told = refused.as_ref().is_some_and(|refused| refused.contains(says));
        ensure!(is_told, "{values} is answered by {refused:?}");
    }
    Ok(())
}

/// Two releases on one cluster have no object in common, if the second one is told what docs/install.md says.
fn may_be_there_twice(chart: &Path) -> Result<()> {
    let everything = chart.join("ci/everything-values.yaml");
    let objects = |release: &str, more: &str| {
        let mut command = helm(&["template", release, "--namespace", release, "--set"])?;
        command.args([more, "--set", "serviceAccount.name="]);
        command.args(["--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"]);
        let rendered = output(command.arg("--values").arg(&everything).arg(chart))?;
        let documents = documents(&rendered)?.into_iter();
        let named = documents.map(|one| (one.kind, one.metadata.namespace, one.metadata.name));
        anyhow::Ok(named.collect::<BTreeSet<_>>())
    };
    let first = objects("east", "watchNamespaces={team-a}")?;
    let page = fs::read_to_string(cluster::repository()?.join("docs/install.md"))?;
    let second = ["crds.install=false", "admissionPolicies.enabled=false", "view.enabled=false"];
    for value in second {
        ensure!(page.contains(value), "docs/install.md does not say {value}");
        let others: Vec<&str> = second.into_iter().filter(|other| *other != value).collect();
        let without = objects("west", &format!("watchNamespaces={{team-a}},{}", others.join(",")))?;
        ensure!(first.intersection(&without).next().is_some(), "{value} is not needed");
    }
    // The same namespace in both: what is in it has other names, too.
    let second = objects("west", &format!("watchNamespaces={{team-a}},{}", second.join(",")))?;
    let common: Vec<_> = first.intersection(&second).collect();
    ensure!(common.is_empty(), "two releases have in common: {common:?}");
    Ok(())
}

/// Whatever is said of pods, of their disruption and of metrics without naming a program holds for each.
fn treats_all_programs_alike(chart: &Path) -> Result<()> {
    let values = "replicas=2,notifier.replicas=2,gateway.replicas=2,metrics.serviceMonitor.enabled=true";
    let mut command = helm(&["template", "batchyard", "--set", values])?;
    command.arg("--values").arg(chart.join("ci/everything-values.yaml")).arg(chart);
    let rendered = output(&mut command)?;
    let programs = ["batchyard", "batchyard-gateway", "batchyard-notifier"];
    let documents = documents(&rendered)?;
    for (kind, end) in [("PodDisruptionBudget", ""), ("Service", "-metrics"), ("ServiceMonitor", "")] {
        let is_made = |name: &str| {
            let mut all = documents.iter();
            all.any(|one| one.kind == kind && one.metadata.name == format!("{name}{end}"))
        };
        ensure!(programs.iter().all(|name| is_made(name)), "not each program has a {kind}");
    }
    for member in ["nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"] {
        let said = rendered.matches(&format!("\n      {member}:\n")).count();
        ensure!(said == programs.len(), "{member} reaches {said} of {} programs", programs.len());
    }
    Ok(())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    kind: String,
    metadata: Named,
    rules: Vec<Rule>,
    role_ref: Named,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    kind: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Rule {
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// What Helm renders, one by one.
fn documents(rendered: &str) -> Result<Vec<Document>> {
    let parts = rendered.split("\n---\n").filter(|part| part.contains("\nkind: "));
    parts.map(|part| serde_saphyr::from_str(part).with_context(|| part.to_owned())).collect()
}

/// Every policy stands in the rendered chart as it is, and is bound: it denies.
fn holds_the_policies(rendered: &str) -> Result<()> {
    for file in ["jobs", "jobdefinitions", "reserved"] {
        let path = cluster::repository()?.join(format!("charts/batchyard/files/policies/{file}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let spec = text.find("\nspec:").map(|at| text[at..].trim_end());
        let spec = spec.with_context(|| format!("{} has no spec", path.display()))?;
        ensure!(rendered.contains(spec), "the chart does not hold {} as it is", path.display());
        let bound = format!("\n  policyName: {file}.batchyard.io\n  validationActions: [\"Deny\"]\n");
        ensure!(rendered.contains(&bound), "the policy {file} has no binding that denies");
    }
    Ok(())
}

/// Every line of every CRD stands in the rendered chart, in its order.
fn holds_the_crds(rendered: &str) -> Result<()> {
    let folder = cluster::repository()?.join("crds");
    let mut found = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        // The chart adds to the metadata, which stands before the spec.
        let spec = text.find("\nspec:").map(|at| text[at..].trim_end());
        let spec = spec.with_context(|| format!("{} has no spec", path.display()))?;
        ensure!(rendered.contains(spec), "the chart does not hold {} as it is", path.display());
        found += 1;
    }
    ensure!(found > 0, "{} is empty", folder.display());
    Ok(())
}

fn helm(arguments: &[&str]) -> Result<Command> {
    let program: PathBuf = cluster::tool("helm")?;
    let home = cluster::tools_folder()?.join("helm-home");
    let mut command = Command::new(program);
    command.args(arguments);
    for (variable, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(folder));
    }
    Ok(command)
}
