//! What a machine must have, checked before anything is done to it.

use std::path::Path;

use anyhow::{Result, bail};

use super::Profile;
use crate::process::{command, on_path, output, sh};
use crate::step::{say, step};

/// The oldest Go that builds this Kubernetes.
const GO: (u32, u32) = (1, 26);

/// What a node is made of besides our own tools: a file to look for and its Debian package.
const PACKAGES: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("runc", "runc"),
    ("unshare", "util-linux"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("/bin/busybox", "busybox-static"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

/// Fails with the list of all that is missing and that we cannot install ourselves.
pub(crate) fn check(profile: Profile) -> Result<()> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("Linux: nodes are made of namespaces and cgroups".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        missing.push("root: run it as root, for example by `sudo -E`".to_owned());
    }
    if let Some(problem) = go_problem() {
        missing.push(problem);
    }
    if profile == Profile::Full && !Path::new("/sys/fs/cgroup").exists() {
        missing.push("cgroups at /sys/fs/cgroup".to_owned());
    }
    if profile == Profile::Full && forwarding_is_blocked() {
        missing.push(
            "a firewall that lets frames pass over bridges: the policy of this machine's FORWARD chain is DROP and \
             net.bridge.bridge-nf-call-iptables is 1, so nodes could not reach each other"
                .to_owned(),
        );
    }
    let packages = missing_packages();
    if !packages.is_empty() && !on_path("apt-get") {
        missing.push(format!("the packages {} (there is no apt-get to install them)", packages.join(", ")));
    }
    if !missing.is_empty() {
        bail!("the local cluster cannot run here. Missing:\n  - {}", missing.join("\n  - "));
    }
    Ok(())
}

/// Installs the missing Debian packages, saying which.
pub(crate) fn install_packages() -> Result<()> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    say(format!("missing Debian packages, about to install: {}", packages.join(" ")));
    step("apt-get install", || {
        sh("apt-get", "-q update")?;
        let mut install = command("apt-get", ["-q", "install", "-y", "--no-install-recommends"]);
        output(install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive"))
    })?;
    let still = missing_packages();
    if !still.is_empty() {
        bail!(
            "apt-get installed the packages, yet the files of these are not where they should be: {still:?}"
        );
    }
    Ok(())
}

/// Docker sets this policy, and then also frames that merely cross a bridge are dropped.
fn forwarding_is_blocked() -> bool {
    let bridged = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    bridged.is_ok_and(|value| value.trim() == "1")
        && sh("iptables", "-S FORWARD").is_ok_and(|rules| rules.contains("-P FORWARD DROP"))
}

fn missing_packages() -> Vec<&'static str> {
    let present = |file: &str| if file.starts_with('/') { Path::new(file).exists() } else { on_path(file) };
    PACKAGES.iter().filter(|(file, _)| !present(file)).map(|(_, package)| *package).collect()
}

fn go_problem() -> Option<String> {
    let wanted = format!("Go {}.{} or newer on the PATH (https://go.dev/dl)", GO.0, GO.1);
    let Ok(text) = sh("go", "env GOVERSION") else { return Some(wanted) };
    let mut numbers = text.trim().trim_start_matches("go").split('.').map(|n| n.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (found < GO).then(|| format!("{wanted}; found {}", text.trim()))
}
