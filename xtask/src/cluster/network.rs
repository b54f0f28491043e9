//! Addresses of a cluster, its bridge and the routes to its nodes.
//!
//! A cluster takes one free 10.N.0.0/16 and nothing else. Its bridge is the only device that
//! this machine gets; nodes have network namespaces of their own in which kube-proxy writes its
//! rules, without a default route, so that neither a node nor a pod can reach another machine.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::{sh, wait_until};

/// The numbers that N of 10.N.0.0/16 is taken from.
const CANDIDATES: std::ops::RangeInclusive<u8> = 213..=250;

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Net {
    /// The second number of every address.
    pub(crate) octet: u8,
}

impl Net {
    /// The first range that no other cluster, no address and no route of this machine touches.
    pub(crate) fn choose(others: &[Self]) -> Result<Self> {
        let in_use = format!("{}\n{}", sh("ip", "-4 route show table all")?, sh("ip", "-4 -o addr show")?);
        let taken: Vec<(u32, u32)> = in_use.split_whitespace().filter_map(parse_prefix).collect();
        CANDIDATES
            .map(|octet| Self { octet })
            .find(|net| !others.contains(net) && taken.iter().all(|other| !overlap(net.prefix(), *other)))
            .with_context(|| {
                format!(
                    "no free address range: each of 10.{}.0.0/16 to 10.{}.0.0/16 overlaps a route of this machine",
                    CANDIDATES.start(),
                    CANDIDATES.end()
                )
            })
    }

    fn prefix(self) -> (u32, u32) {
        (u32::from_be_bytes([10, self.octet, 0, 0]), 16)
    }

    /// The bridge, which is also the start of the names of the devices on it.
    pub(crate) fn bridge(self) -> String {
        format!("by{}", self.octet)
    }

    /// The device that connects a node to the bridge.
    pub(crate) fn node_device(self, index: u8) -> String {
        format!("by{}n{index}", self.octet)
    }

    /// This machine's address on the bridge: API server and registry listen here.
    pub(crate) fn host(self) -> String {
        format!("10.{}.0.1", self.octet)
    }

    /// A node's address on the bridge.
    pub(crate) fn node(self, index: u8) -> String {
        format!("10.{}.0.{}", self.octet, 11 + index)
    }

    /// The addresses of the pods of one node.
    pub(crate) fn pods(self, index: u8) -> String {
        format!("10.{}.{}.0/24", self.octet, 64 + index)
    }

    /// The addresses of the pods of all real nodes.
    pub(crate) fn all_pods(self) -> String {
        format!("10.{}.64.0/18", self.octet)
    }

    /// The addresses that fake nodes give to fake pods: nothing listens there.
    pub(crate) fn fake_pods(self) -> String {
        format!("10.{}.128.1/18", self.octet)
    }

    /// The addresses of services.
    pub(crate) fn services(self) -> String {
        format!("10.{}.192.0/18", self.octet)
    }

    /// The service `kubernetes.default`.
    pub(crate) fn kubernetes_service(self) -> String {
        format!("10.{}.192.1", self.octet)
    }

    /// The service of the name server, as pods are told.
    pub(crate) fn name_server(self) -> String {
        format!("10.{}.192.10", self.octet)
    }

    /// A loopback address of the cluster's own, for what only this machine may reach.
    pub(crate) fn loopback(self) -> String {
        format!("127.{}.0.1", self.octet)
    }

    /// Where the API server is.
    pub(crate) fn api_server(self) -> String {
        format!("https://{}:6443", self.host())
    }

    /// The registry, as in an image name.
    pub(crate) fn registry(self) -> String {
        format!("{}:5000", self.host())
    }

    /// Makes the bridge and the routes, and checks that the bridge has its address.
    pub(crate) fn up(self, nodes: u8) -> Result<()> {
        let bridge = self.bridge();
        if !device_exists(&bridge)? {
            sh("ip", &format!("link add name {bridge} type bridge"))?;
        }
        sh("ip", &format!("addr replace {}/24 dev {bridge}", self.host()))?;
        sh("ip", &format!("link set {bridge} up"))?;
        wait_until("the bridge to have its address", Duration::from_secs(5), || {
            let addresses = sh("ip", &format!("-4 -o addr show dev {bridge} up"))?;
            Ok(addresses.contains(&format!("{}/24", self.host())))
        })?;
        if nodes > 0 {
            // The first node's kube-proxy answers for services, also to this machine.
            sh("ip", &format!("route replace {} via {} dev {bridge}", self.services(), self.node(0)))?;
        }
        for index in 0..nodes {
            sh("ip", &format!("route replace {} via {} dev {bridge}", self.pods(index), self.node(index)))?;
        }
        Ok(())
    }

    /// Removes the bridge; its address and the routes over it go with it.
    pub(crate) fn down(self) -> Result<()> {
        for line in sh("ip", "-o link show")?.lines() {
            // "7: by213n0@if2: <…"
            let name = line.split(": ").nth(1).unwrap_or_default().split('@').next().unwrap_or_default();
            if name.starts_with(&format!("{}n", self.bridge())) {
                // It may vanish with the other end in its namespace just now.
                let _ = sh("ip", &format!("link del {name}"));
            }
        }
        if device_exists(&self.bridge())? {
            sh("ip", &format!("link del {}", self.bridge()))?;
        }
        Ok(())
    }

    /// Connects the network namespace of a node, given by a process in it, to the bridge.
    pub(crate) fn plug(self, index: u8, pid: i32) -> Result<()> {
        let device = self.node_device(index);
        if device_exists(&device)? {
            sh("ip", &format!("link del {device}"))?;
        }
        sh("ip", &format!("link add name {device} type veth peer name eth0 netns {pid}"))?;
        sh("ip", &format!("link set {device} master {} up", self.bridge()))?;
        Ok(())
    }

    /// Takes the cable between a node and the bridge away, or puts it back. None of them notices
    /// at once: packets get lost.
    pub(crate) fn set_cable(self, index: u8, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        sh("ip", &format!("link set {} {state}", self.node_device(index)))?;
        Ok(())
    }

    /// What is left of the cluster on this machine, in words; empty after a good `down`.
    pub(crate) fn leftovers(self) -> Result<Vec<String>> {
        let address = format!("10.{}.", self.octet);
        let device = self.bridge();
        let belongs = |line: &&str| {
            line.split([' ', '@', ':', '/'])
                .any(|word| word.starts_with(&address) || word.starts_with(&device))
        };
        let mut found = Vec::new();
        for (what, program, args) in [
            ("device", "ip", "-o link show"),
            ("address", "ip", "-4 -o addr show"),
            ("route", "ip", "-4 route show table all"),
            ("iptables rule", "iptables-save", ""),
        ] {
            let text = sh(program, args)?;
            found.extend(text.lines().filter(belongs).map(|line| format!("{what}: {}", line.trim())));
        }
        Ok(found)
    }
}

fn device_exists(name: &str) -> Result<bool> {
    if name.len() > 15 {
        bail!("{name} is too long for a network device");
    }
    Ok(std::path::Path::new("/sys/class/net").join(name).exists())
}

fn parse_prefix(word: &str) -> Option<(u32, u32)> {
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    Some((address.to_bits(), length.parse().ok().filter(|length| *length <= 32)?))
}

fn overlap((a, a_length): (u32, u32), (b, b_length): (u32, u32)) -> bool {
    let shorter = a_length.min(b_length);
    shorter == 0 || (a ^ b) >> (32 - shorter) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap_when_one_holds_the_other() {
        let net = Net { octet: 213 }.prefix();
        for (other, expected) in
            [("10.213.4.0/24", true), ("10.213.0.1", true), ("10.0.0.0/8", true), ("10.214.0.0/16", false)]
        {
            assert_eq!(overlap(net, parse_prefix(other).unwrap()), expected, "{other}");
        }
        assert_eq!(parse_prefix("default"), None);
    }
}
