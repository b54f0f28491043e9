//! A namespace as an AWS account: its id, and the names of what is in it
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbatch.html#awsbatch-resources-for-iam-policies>).

use batchyard_core::name::fnv1a;

use super::failure::Failure;

/// What an ARN may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Environment,
    Queue,
    Definition,
    Job,
    Policy,
    Resource,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Environment, Self::Queue, Self::Definition, Self::Job, Self::Policy, Self::Resource];

    fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "compute-environment",
            Self::Queue => "job-queue",
            Self::Definition => "job-definition",
            Self::Job => "job",
            Self::Policy => "scheduling-policy",
            Self::Resource => "consumable-resource",
        }
    }
}

/// A namespace, as its callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) id: String,
    pub(super) region: String,
    pub(super) partition: String,
}

impl Account {
    /// The ARN of something of Batch.
    pub(super) fn arn(&self, kind: Kind, name: &str) -> String {
        format!("{}{}/{name}", self.begin("batch"), kind.as_str())
    }

    /// The ARN of something of ECS, which on AWS tells of tasks and instances.
    pub(super) fn ecs(&self, what: &str) -> String {
        format!("{}{what}", self.begin("ecs"))
    }

    /// The ARN of a log group.
    pub(super) fn log_group(&self, name: &str) -> String {
        format!("{}log-group:{name}", self.begin("logs"))
    }

    fn begin(&self, service: &str) -> String {
        format!("arn:{}:{service}:{}:{}:", self.partition, self.region, self.id)
    }

    /// The name that a reference means: a name, or an ARN of this account.
    ///
    /// # Errors
    /// When it is an ARN of something else, or of another account or region.
    pub(super) fn name<'a>(&self, kind: Kind, reference: &'a str) -> Result<&'a str, Failure> {
        if reference.is_empty() {
            return Err(Failure::client(format!("the name of a {} cannot be empty", kind.as_str())));
        }
        if !reference.starts_with("arn:") {
            return Ok(reference);
        }
        match self.parse(reference)? {
            (found, name) if found == kind => Ok(name),
            _ => Err(Failure::client(format!("{reference} is not the ARN of a {}", kind.as_str()))),
        }
    }

    /// The name in an ARN of this account.
    ///
    /// # Errors
    /// When it is no ARN, or one of something else.
    pub(super) fn only_arn<'a>(&self, kind: Kind, arn: &'a str) -> Result<&'a str, Failure> {
        match arn.starts_with("arn:") {
            true => self.name(kind, arn),
            false => Err(Failure::client(format!("{arn} is not the ARN of a {}", kind.as_str()))),
        }
    }

    /// What an ARN of this account names.
    ///
    /// # Errors
    /// When it is none, or names something of another account, region or service.
    pub(super) fn parse<'a>(&self, arn: &'a str) -> Result<(Kind, &'a str), Failure> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, rest] = parts[..] else {
            return Err(Failure::client(format!("{arn} is not a valid ARN")));
        };
        if (partition, region, account) != (self.partition.as_str(), self.region.as_str(), self.id.as_str()) {
            return Err(Failure::denied(format!("{arn} belongs to another account or region")));
        }
        let named = rest.split_once('/').filter(|(_, name)| service == "batch" && is_name(name));
        let found =
            named.and_then(|(kind, name)| Some((Kind::ALL.into_iter().find(|k| k.as_str() == kind)?, name)));
        found.ok_or_else(|| Failure::client(format!("{arn} is not the ARN of a resource of AWS Batch")))
    }
}

/// True for what names and ids consist of: nothing that leads elsewhere in a path.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '#' | '.');
    !name.is_empty() && name.len() <= 256 && name.chars().all(allowed) && !name.contains("..")
}

/// An account id for a namespace that was given none: 12 digits that depend on its name alone.
pub(super) fn derived_id(namespace: &str) -> String {
    format!("{:012}", fnv1a(namespace.as_bytes()) % 1_000_000_000_000)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::gateway) fn account() -> Account {
        Account {
            namespace: "team".into(),
            id: "123456789012".into(),
            region: "eu-west-1".into(),
            partition: "aws".into(),
        }
    }

    #[test]
    fn references_are_names_or_arns_of_this_account() {
        let account = account();
        let arn = account.arn(Kind::Queue, "randomEC");
        assert_eq!(arn, "arn:aws:batch:eu-west-1:123456789012:job-queue/randomEC");
        for reference in ["randomEC", arn.as_str()] {
            assert_eq!(account.name(Kind::Queue, reference), Ok("randomEC"));
        }
        let definition = account.arn(Kind::Definition, "DCV-GPU-JD:3");
        assert_eq!(account.parse(&definition), Ok((Kind::Definition, "DCV-GPU-JD:3")));
        for (wrong, kind) in [
            ("", "ClientException"),
            ("arn:aws:batch", "ClientException"),
            ("arn:aws:batch:eu-west-1:123456789012:job/x", "ClientException"),
            ("arn:aws:ecs:eu-west-1:123456789012:job-queue/x", "ClientException"),
            ("arn:aws:batch:eu-west-1:123456789012:job-queue/../../secrets", "ClientException"),
            ("arn:aws:batch:eu-west-1:123456789012:job-queue/", "ClientException"),
            ("arn:aws:batch:eu-west-1:210987654321:job-queue/x", "AccessDeniedException"),
            ("arn:aws:batch:us-east-1:123456789012:job-queue/x", "AccessDeniedException"),
        ] {
            let failure = account.name(Kind::Queue, wrong).expect_err(wrong);
            assert_eq!(failure.kind(), kind, "{wrong}");
        }
    }

    #[test]
    fn a_namespace_has_an_account_id() {
        let id = derived_id("team");
        assert!(super::super::settings::is_account_id(&id), "{id}");
        assert_ne!(id, derived_id("other"));
    }
}
