//! What the containers of a pod take, as Kubernetes writes it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Container, Pod};
use crate::definition::requirements::Amounts;

/// What AWS counts GPUs by, whatever they are in an environment.
pub(super) const GPU: &str = "nvidia.com/gpu";
/// What a job may ask for although its definition does not.
const CHANGEABLE: [&str; 3] = ["cpu", "memory", GPU];

/// Amounts by name, as Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `limits`.
    pub limits: BTreeMap<String, String>,
    /// `requests`.
    pub requests: BTreeMap<String, String>,
}

impl Resources {
    /// A resource that is stated anew is stated anew altogether: what the definition has as its limit or request goes.
    /// A device that the definition does not ask for would be a privilege; GPUs are none, as on AWS.
    pub(super) fn change(&mut self, changes: &Self) -> Result<(), String> {
        let names = || changes.limits.keys().chain(changes.requests.keys());
        let is_known = |name: &String| CHANGEABLE.contains(&name.as_str()) || self.request(name).is_some();
        if let Some(name) = names().find(|name| !is_known(name)) {
            let any = CHANGEABLE.join(", ");
            return Err(format!(
                "resources: {name}: a job can change {any} and what its definition requests"
            ));
        }
        for name in names() {
            self.limits.remove(name);
            self.requests.remove(name);
        }
        self.limits.extend(changes.limits.clone());
        self.requests.extend(changes.requests.clone());
        Ok(())
    }

    /// With GPUs by the name that they have in an environment. Where a container names that itself it is left as it is.
    pub fn counted_by(&self, gpu: &str) -> Self {
        let mut resources = self.clone();
        if gpu != GPU && self.request(gpu).is_none() {
            for list in [&mut resources.limits, &mut resources.requests] {
                if let Some(amount) = list.remove(GPU) {
                    list.insert(gpu.to_owned(), amount);
                }
            }
        }
        resources
    }

    /// What counts: a request, or the limit if there is none
    /// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EksContainerResourceRequirements.html>).
    fn request(&self, name: &str) -> Option<&str> {
        self.requests.get(name).or_else(|| self.limits.get(name)).map(String::as_str)
    }

    pub(super) fn amounts(&self) -> Result<Amounts, String> {
        let cpu = self.request("cpu").ok_or("resources: cpu is required in limits or requests")?;
        let memory = self.request("memory").ok_or("resources: memory is required in limits or requests")?;
        let amounts = Amounts {
            vcpus_milli: cpu_milli(cpu)?,
            memory_mib: memory_mib(memory)?,
            gpus: self.request(GPU).map_or(Ok(0), gpus)?,
        };
        for name in ["memory", GPU] {
            match (self.limits.get(name), self.requests.get(name)) {
                (Some(limit), Some(request)) if limit != request => {
                    return Err(format!("resources: {name} must be the same in limits and requests"));
                }
                _ => {}
            }
        }
        if let Some(limit) = self.limits.get("cpu")
            && amounts.vcpus_milli > cpu_milli(limit)?
        {
            return Err("resources: the cpu of requests must not be greater than that of limits".to_owned());
        }
        Ok(amounts)
    }
}

impl Pod {
    /// How many GPUs the pod takes where they are counted by another resource that it names itself, for each that may be
    /// one: those of domains.
    pub fn gpus_by_name(&self) -> BTreeMap<String, i64> {
        let containers = || self.containers.iter().chain(&self.init_containers);
        let names = containers().flat_map(|c| c.resources.limits.keys().chain(c.resources.requests.keys()));
        let others: BTreeSet<_> = names.filter(|name| name.contains('/') && *name != GPU).collect();
        others.into_iter().map(|name| (name.clone(), self.gpus_in(name))).collect()
    }

    fn gpus_in(&self, gpu: &str) -> i64 {
        let of = |container: &Container| {
            let resources = container.resources.counted_by(gpu);
            // What is no number is refused by the API server.
            resources.request(gpu).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let sum = self.containers.iter().map(of).fold(0, i64::saturating_add);
        self.init_containers.iter().map(of).fold(sum, i64::max)
    }
}

/// `0.25` and its multiples; AWS has no other way to write them.
fn cpu_milli(text: &str) -> Result<i64, String> {
    let wrong = || format!("resources: cpu must be a multiple of 0.25, such as 0.5 or 2, not {text:?}");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let quarters = text.parse::<f64>().ok().filter(|_| is_plain).ok_or_else(wrong)? * 4.0;
    if !(1.0..=4_000_000.0).contains(&quarters) || quarters.fract() != 0.0 {
        return Err(wrong());
    }
    // At most 4,000,000 and whole, as just checked.
    Ok(quarters as i64 * 250)
}

fn memory_mib(text: &str) -> Result<i64, String> {
    let number = text.strip_suffix("Mi").and_then(|mib| mib.parse::<i64>().ok());
    number.filter(|mib| (4..=1_000_000_000).contains(mib)).ok_or_else(|| {
        format!(
            "resources: memory must be a whole number of MiB with the suffix Mi, at least 4Mi, not {text:?}"
        )
    })
}

fn gpus(text: &str) -> Result<i64, String> {
    let number = text.parse::<i64>().ok().filter(|gpus| (0..=1_000_000).contains(gpus));
    number.ok_or_else(|| format!("resources: {GPU} must be a whole number, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Changes};
    use super::*;
    use crate::definition::{Effective, Work};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn with(limits: &[(&str, &str)]) -> Container {
        let limits = map(&[&[("cpu", "1"), ("memory", "64Mi")], limits].concat());
        Container {
            name: "a".to_owned(),
            resources: Resources { limits, ..Resources::default() },
            ..Container::default()
        }
    }

    fn pod(containers: Vec<Container>, init_containers: Vec<Container>) -> Pod {
        Pod { containers, init_containers, ..Pod::default() }
    }

    /// Limits, requests, and the amounts or what is wrong with them.
    #[test]
    fn what_limits_and_requests_mean_together() {
        let memory = ("memory", "4Mi");
        for (limits, requests, want) in [
            (&[("cpu", "0.25"), memory][..], &[][..], Ok((250, 4, 0))),
            (&[], &[("cpu", "0.25"), memory], Ok((250, 4, 0))),
            (&[memory], &[memory, ("cpu", "1.5")], Ok((1500, 4, 0))),
            (&[("cpu", "2"), memory], &[("cpu", "2")], Ok((2000, 4, 0))),
            (&[("cpu", "2"), memory], &[("cpu", "1")], Ok((1000, 4, 0))),
            (&[("cpu", "1"), memory, (GPU, "2")], &[(GPU, "2")], Ok((1000, 4, 2))),
            (&[("cpu", "1"), memory, (GPU, "0")], &[], Ok((1000, 4, 0))),
            (
                &[("cpu", "1"), memory, (GPU, "2")],
                &[(GPU, "1")],
                Err("must be the same in limits and requests"),
            ),
            (&[("cpu", "1"), memory], &[("cpu", "1.25")], Err("must not be greater than that of limits")),
            (&[("cpu", "0"), memory], &[], Err("multiple of 0.25")),
            (&[("cpu", "0.3"), memory], &[], Err("multiple of 0.25")),
            (&[("cpu", "1e1"), memory], &[], Err("multiple of 0.25")),
            (&[("cpu", "1"), ("memory", "3Mi")], &[], Err("at least 4Mi")),
            (&[("cpu", "1"), memory, (GPU, "-1")], &[], Err("must be a whole number")),
        ] {
            let resources = Resources { limits: map(limits), requests: map(requests) };
            match (resources.amounts(), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!((got.vcpus_milli, got.memory_mib, got.gpus), want, "{resources:?}");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{resources:?}: {got}"),
                (got, want) => panic!("{resources:?}: got {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn a_job_asks_for_no_device_that_its_definition_does_not_have() {
        const FUSE: &str = "smarter-devices/fuse";
        let has = pod(vec![with(&[(FUSE, "1")])], vec![Container { name: "i".to_owned(), ..with(&[]) }]);
        let ask = |limits: &[(&str, &str)], requests: &[(&str, &str)]| {
            let resources = Resources { limits: map(limits), requests: map(requests) };
            vec![Change { resources, ..Change::default() }]
        };
        let of = |containers, init_containers| Changes { containers, init_containers, ..Changes::default() };
        let amounts = [("cpu", "2"), ("memory", "8Mi"), (GPU, "4"), (FUSE, "2")];
        let (made, _) = super::super::effective(&has, &of(ask(&amounts, &[]), vec![]))
            .expect("all of it is known, or GPUs");
        assert_eq!(made.containers[0].resources.limits, map(&amounts));
        for (changes, want) in [
            (
                of(ask(&[("vendor.com/kvm", "1")], &[]), vec![]),
                "containers: container a: resources: vendor.com/kvm",
            ),
            (
                of(ask(&[], &[("hugepages-2Mi", "4Mi")]), vec![]),
                "containers: container a: resources: hugepages-2Mi",
            ),
            // Another container has it.
            (
                of(vec![], ask(&[(FUSE, "1")], &[])),
                "initContainers: container i: resources: smarter-devices/fuse",
            ),
        ] {
            let want = format!(
                "eksPropertiesOverride: {want}: a job can change cpu, memory, nvidia.com/gpu and what its \
                 definition requests"
            );
            assert_eq!(super::super::effective(&has, &changes), Err(want));
        }
    }

    #[test]
    fn gpus_have_the_name_that_their_environment_gives_them() {
        const AMD: &str = "amd.com/gpu";
        let named = |container: &Container, gpu| container.resources.counted_by(gpu).limits;
        for (name, limits, in_amd) in [
            ("AWS's name", &[(GPU, "2")][..], Some("2")),
            ("its own name", &[(AMD, "3")], Some("3")),
            ("both", &[(AMD, "3"), (GPU, "2")], Some("3")),
            ("none", &[], None),
        ] {
            let found = named(&with(limits), AMD);
            assert_eq!(found.get(AMD).map(String::as_str), in_amd, "{name}");
            assert_eq!(found.contains_key(GPU), limits.len() == 2, "{name}");
            assert_eq!(named(&with(limits), GPU), with(limits).resources.limits, "{name}");
        }
        let mixed = pod(
            vec![with(&[(AMD, "3")]), with(&[(GPU, "2")]), with(&[("x.com/kvm", "1")])],
            vec![with(&[(AMD, "7")])],
        );
        let want = [(AMD.to_owned(), 7), ("x.com/kvm".to_owned(), 3)];
        assert_eq!(mixed.gpus_by_name(), want.clone().into(), "as the pod asks for them there");
        let effective = Effective { work: Work::Pod(Box::new(mixed)), ..Effective::default() };
        assert_eq!(effective.gpus_by_name(), want.into(), "and so the job");
        assert!(pod(vec![with(&[(GPU, "2")])], vec![]).gpus_by_name().is_empty());
    }
}
