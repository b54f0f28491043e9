//! Names: from AWS's alphabet to Kubernetes', and back by reference.
//!
//! AWS names may hold capitals and underscores, Kubernetes names may not. An object's name is
//! the *slug* of its AWS name, a pure function, so that nothing ever has to be looked up.

/// Longest part of a job's name in a pod's name.
const JOB_PART: usize = 30;
/// Longest slug: a Kubernetes label value.
const SLUG: usize = 63;
/// Longest name of a NodePool: Karpenter adds six characters for a node, whose name becomes a label.
const NODE_POOL: usize = 57;

/// The Kubernetes name for an AWS name.
///
/// Lower-case letters, digits and `-` stay; capitals are lowered; every run of other characters
/// becomes one `-`. Whenever that changed anything, six hash characters of the original follow, so
/// that `randomEC` and `randomec` stay two objects.
///
/// ```
/// use batchyard_core::name::slug;
/// assert_eq!(slug("compute-0"), "compute-0");
/// assert_eq!(slug("randomEC"), "randomec-143dbd");
/// ```
pub fn slug(name: &str) -> String {
    short_slug(name, SLUG)
}

/// A slug of so many characters at most.
fn short_slug(name: &str, longest: usize) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => out.push(c),
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            _ if out.ends_with('-') => {}
            _ => out.push('-'),
        }
    }
    let plain = out.trim_matches('-');
    if plain == name && plain.len() <= longest {
        return name.to_owned();
    }
    let kept: String = plain.chars().take(longest - 7).collect();
    let hash = &format!("{:016x}", fnv1a(name.as_bytes()))[..6];
    match kept.trim_end_matches('-') {
        "" => hash.to_owned(),
        stem => format!("{stem}-{hash}"),
    }
}

/// FNV-1a, 64 bit (<http://www.isthe.com/chongo/tech/comp/fnv/>): stable across versions and
/// machines, which is all that a slug needs.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// A reference to a queue or an environment: the last part of an ARN, or the name itself.
///
/// ```
/// use batchyard_core::name::resource;
/// assert_eq!(resource("arn:aws:batch:eu-west-1:123456789012:job-queue/jq"), "jq");
/// assert_eq!(resource("jq"), "jq");
/// ```
pub fn resource(reference: &str) -> &str {
    if !reference.starts_with("arn:") {
        return reference;
    }
    reference.rsplit_once('/').map_or(reference, |(_, name)| name)
}

/// The object names that a reference to a queue or environment may mean, most likely first.
pub fn candidates(reference: &str) -> Vec<String> {
    let name = resource(reference);
    if is_slug(name) { vec![name.to_owned()] } else { vec![slug(name), name.to_owned()] }
}

/// True if a reference may mean the object of this name. Nothing is built where the reference is a plain name, as most
/// are.
pub fn may_mean(reference: &str, object: &str) -> bool {
    reference == object || (!is_slug(reference) && candidates(reference).iter().any(|name| name == object))
}

/// True if a name is its own slug.
fn is_slug(name: &str) -> bool {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    let bounded = name.len() <= SLUG && !name.starts_with('-') && !name.ends_with('-');
    bounded && name.chars().all(allowed)
}

/// The object names that a queue's reference to an environment may mean, most likely first:
/// those that belong to the queue's namespace come before those of the whole cluster.
///
/// ```
/// use batchyard_core::name::environments;
/// assert_eq!(environments("team-a", "spot"), ["team-a.spot", "spot"]);
/// ```
pub fn environments(namespace: &str, reference: &str) -> Vec<String> {
    let names = candidates(reference);
    names.iter().map(|name| format!("{namespace}.{name}")).chain(names.iter().cloned()).collect()
}

/// True if an object may have this name; an AWS name with capitals or underscores is none.
pub fn is_object_name(name: &str) -> bool {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.');
    !name.is_empty() && name.len() <= 253 && name.chars().all(allowed)
}

/// A reference to a job definition: a name and perhaps a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionRef {
    /// The AWS name, or the object's name.
    pub name: String,
    /// The pinned revision; without one the latest ACTIVE revision is meant.
    pub revision: Option<u32>,
}

impl DefinitionRef {
    /// Reads `name`, `name:3` or an ARN with or without a revision.
    ///
    /// # Errors
    /// Returns a sentence naming the reference when the name is empty or what follows the colon
    /// is not a positive number.
    pub fn parse(reference: &str) -> Result<Self, String> {
        let plain = resource(reference);
        let (name, revision) = match plain.split_once(':') {
            None => (plain, None),
            Some((name, number)) => {
                let revision = number.parse::<u32>().ok().filter(|n| *n > 0);
                let revision =
                    revision.ok_or_else(|| format!("jobDefinition {reference:?} has no valid revision"))?;
                (name, Some(revision))
            }
        };
        if name.is_empty() {
            return Err(format!("jobDefinition {reference:?} has no name"));
        }
        Ok(Self { name: name.to_owned(), revision })
    }
}

/// The object name of a resolved definition `name:revision`: `<slug>-<revision>`.
pub fn revision(resolved: &str) -> Option<String> {
    let (name, number) = resolved.rsplit_once(':')?;
    Some(format!("{}-{number}", slug(name)))
}

/// What the operator knows a job by, or one part of it, a child of an array or a node of a multi-node job: the uid, or
/// `uid:index`.
///
/// ```
/// use batchyard_core::name::{part, whole};
/// assert_eq!((part("uid", None), part("uid", Some(7))), ("uid".into(), "uid:7".into()));
/// assert_eq!((whole("uid"), whole("uid:7")), (("uid", None), ("uid", Some(7))));
/// ```
pub fn part(uid: &str, index: Option<u32>) -> String {
    index.map_or_else(|| uid.to_owned(), |index| format!("{uid}:{index}"))
}

/// Takes a key apart that [`part`] made.
pub fn whole(key: &str) -> (&str, Option<u32>) {
    let parts = key.split_once(':').and_then(|(uid, index)| Some((uid, index.parse().ok()?)));
    parts.map_or((key, None), |(uid, index)| (uid, Some(index)))
}

/// The name of an attempt's pod: `<job, ≤30>-<8 hex of uid>[-<index>]-<attempt>[-<placement>]`.
///
/// The name is a function of the job's uid, the attempt and the placement, so that creating the
/// same pod twice is refused by the API server instead of running the job twice.
pub fn pod(job: &str, uid: &str, index: Option<u32>, attempt: u32, placement: u32) -> String {
    let stem = stem(job, uid);
    let index = index.map_or_else(String::new, |index| format!("-{index}"));
    match placement {
        0 => format!("{stem}{index}-{attempt}"),
        n => format!("{stem}{index}-{attempt}-{n}"),
    }
}

/// The name of a record of an array's children: `<job, ≤30>-<8 hex of uid>-<segment>`.
pub fn record(job: &str, uid: &str, segment: u32) -> String {
    format!("{}-{segment}", stem(job, uid))
}

/// The name of a multi-node job's Service, in which its nodes resolve as `node-<index>`. Names of Services begin with a
/// letter.
///
/// ```
/// use batchyard_core::name::gang;
/// assert_eq!(gang("ring", "0f8b3c1a-77aa"), "nodes-ring-0f8b3c1a");
/// ```
pub fn gang(job: &str, uid: &str) -> String {
    format!("nodes-{}", stem(job, uid))
}

/// The name of the ConfigMap with the address of a multi-node job's main node:
/// `<job, ≤30>-<8 hex of uid>-main-<attempt>[-<placement>]`.
pub fn gang_address(job: &str, uid: &str, attempt: u32, placement: u32) -> String {
    let stem = stem(job, uid);
    match placement {
        0 => format!("{stem}-main-{attempt}"),
        n => format!("{stem}-main-{attempt}-{n}"),
    }
}

/// What names of objects that belong to a job begin with.
fn stem(job: &str, uid: &str) -> String {
    let stem: String = job.chars().take(JOB_PART).map(|c| if c == '.' { '-' } else { c }).collect();
    let hex: String = uid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{}-{hex}", stem.trim_end_matches('-'))
}

/// The name of the Karpenter objects of an environment. It says whose they are, since clusters have
/// NodePools of others too.
///
/// ```
/// use batchyard_core::name::node_pool;
/// assert_eq!(node_pool("compute-0"), "batchyard-compute-0");
/// assert_eq!(node_pool("team-a.spot"), "batchyard-team-a-spot-c45316");
/// ```
pub fn node_pool(environment: &str) -> String {
    const PREFIX: &str = "batchyard-";
    format!("{PREFIX}{}", short_slug(environment, NODE_POOL - PREFIX.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        for (name, want) in [
            ("queue-0", "queue-0"),
            ("DCV-GPU-JD", "dcv-gpu-jd-"),
            ("a__b", "a-b-"),
            ("___", ""),
            ("-x-", "x-"),
        ] {
            let got = slug(name);
            assert!(got.starts_with(want), "{name} became {got}");
            assert!(got == name || got.len() == want.len() + 6, "{name} became {got}");
        }
        assert_ne!(slug("randomEC"), slug("RandomEC"));
        assert_eq!(slug(&"x".repeat(128)).len(), SLUG);
    }

    #[test]
    fn a_reference_means_what_its_candidates_are() {
        let (long, longer) = ("x".repeat(SLUG), "x".repeat(SLUG + 1));
        let arn = "arn:aws:batch:eu-west-1:123456789012:job-queue/jq";
        for reference in ["q", "a--b", "-q", "q-", "Q", "a.b", "", "é", &long, &longer, arn] {
            assert_eq!(is_slug(reference), slug(reference) == reference, "{reference}");
            for object in
                candidates(reference).iter().map(String::as_str).chain(["q", "jq", reference, "other"])
            {
                let means = reference == object || candidates(reference).iter().any(|name| name == object);
                assert_eq!(may_mean(reference, object), means, "{reference} {object}");
            }
        }
    }

    #[test]
    fn names_of_node_pools_leave_room_for_those_of_nodes() {
        for environment in ["e".repeat(253), format!("{}.{}", "n".repeat(63), "e".repeat(63))] {
            assert_eq!(node_pool(&environment).len(), NODE_POOL, "{environment}");
        }
        assert_ne!(node_pool("a.b"), node_pool("a-b"));
    }

    #[test]
    fn references_to_definitions() {
        let arn = "arn:aws:batch:eu-west-1:123456789012:job-definition/alpine-env:12";
        let parsed = DefinitionRef::parse(arn).expect("valid");
        assert_eq!(parsed, DefinitionRef { name: "alpine-env".into(), revision: Some(12) });
        assert_eq!(DefinitionRef::parse("spot").expect("valid").revision, None);
        for wrong in ["", ":1", "spot:", "spot:0", "spot:x", "spot:-1"] {
            DefinitionRef::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn pod_names_fit_a_label() {
        let uid = "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e";
        assert_eq!(pod("spot", uid, None, 1, 0), "spot-0f8b3c1a-1");
        assert_eq!(pod("spot", uid, None, 2, 3), "spot-0f8b3c1a-2-3");
        let long = pod(&"a.".repeat(120), uid, Some(9999), 10, 99);
        assert!(long.len() <= 63 && !long.contains('.'), "{long}");
    }
}
