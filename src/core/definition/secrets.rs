//! `valueFrom`: from what AWS calls a secret by to a Kubernetes Secret of the job's namespace and a key in it
//! (<https://docs.aws.amazon.com/batch/latest/userguide/specifying-sensitive-data.html>). Pure: nobody looks whether
//! the Secret is there, and nothing of it is ever read; the kubelet gives it to the container.
//!
//! | `valueFrom` | Secret | key |
//! | --- | --- | --- |
//! | `arn:aws:secretsmanager:R:A:secret:NAME-AbCdEf` | NAME | `value` |
//! | `arn:aws:secretsmanager:R:A:secret:NAME-AbCdEf:KEY::` | NAME | KEY |
//! | `arn:aws:secretsmanager:R:A:secret:NAME-AbCdEf:KEY:STAGE:ID` | NAME:STAGE:ID | KEY |
//! | `arn:aws:ssm:R:A:parameter/PATH/NAME` | PATH/NAME | `value` |
//! | `/PATH/NAME`, `NAME` | PATH/NAME, NAME | `value` |
//! | `NAME:KEY`, ours | NAME | KEY |
//!
//! The Secret bears the slug of that name ([`crate::name::slug`]). Secrets Manager adds six characters to each ARN;
//! they are left out, so that a secret that is made anew keeps its name here.

use crate::name::slug;

/// The key for a secret of which the whole is meant.
pub const WHOLE: &str = "value";

/// Where a value stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretKey {
    /// Name of the Secret.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// Where the value that `valueFrom` names stands.
///
/// # Errors
/// What is wrong with it, without the member's name.
pub fn locate(value_from: &str) -> Result<SecretKey, String> {
    let wrong = || {
        format!(
            "{value_from:?} is no ARN of a secret of Secrets Manager or parameter of Systems Manager, and no name"
        )
    };
    let (name, key) = match value_from.strip_prefix("arn:") {
        None => match value_from.split_once(':') {
            None => (value_from.to_owned(), ""),
            Some((name, key)) if !key.is_empty() => (name.to_owned(), key),
            Some(_) => return Err(wrong()),
        },
        Some(rest) => {
            // partition:service:region:account:resource
            let mut parts = rest.splitn(5, ':').skip(1);
            let service = parts.next().unwrap_or_default();
            let resource = parts.nth(2).unwrap_or_default();
            match service {
                "secretsmanager" => of_secrets_manager(resource).ok_or_else(wrong)?,
                "ssm" => (resource.strip_prefix("parameter/").ok_or_else(wrong)?.to_owned(), ""),
                _ => return Err(wrong()),
            }
        }
    };
    let name = name.trim_start_matches('/');
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(SecretKey { secret: slug(name), key: key_of(key) })
}

/// `secret:NAME-AbCdEf:KEY:STAGE:ID`: the name, with stage and id if they are stated, and the key.
fn of_secrets_manager(resource: &str) -> Option<(String, &str)> {
    let mut parts = resource.strip_prefix("secret:")?.split(':');
    let (full, key) = (parts.next()?, parts.next().unwrap_or_default());
    let version: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let is_suffix = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let name = full.rsplit_once('-').filter(|(_, suffix)| is_suffix(suffix)).map_or(full, |(name, _)| name);
    if name.is_empty() {
        return None;
    }
    let named = std::iter::once(name).chain(version).collect::<Vec<_>>().join(":");
    Some((named, key))
}

/// A Secret's keys have letters, digits, `-`, `_` and `.`; others become a slug.
fn key_of(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match key {
        "" => WHOLE.to_owned(),
        _ if key.chars().all(allowed) && key.len() <= 253 && !key.starts_with("..") && key != "." => {
            key.to_owned()
        }
        _ => slug(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_values_stand() {
        let manager = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";
        for (value_from, secret, key) in [
            // The DCV post's.
            (format!("{manager}Run_DCV_in_Batch-AbCdEf:user001::"), "Run_DCV_in_Batch", "user001"),
            (format!("{manager}Run_DCV_in_Batch-AbCdEf"), "Run_DCV_in_Batch", "value"),
            (format!("{manager}Run_DCV_in_Batch"), "Run_DCV_in_Batch", "value"),
            (format!("{manager}db-AbCdEf:password:AWSPREVIOUS:"), "db:AWSPREVIOUS", "password"),
            (format!("{manager}db-AbCdEf:password::0a-1b"), "db:0a-1b", "password"),
            (format!("{manager}db-AbCdEf:::"), "db", "value"),
            (format!("{manager}team/db-AbCdEf:a b::"), "team/db", "a-b-"),
            (format!("{manager}with-hyphen"), "with", "value"),
            // No suffix of Secrets Manager, which has six letters and digits.
            (format!("{manager}db-password"), "db-password", "value"),
            (format!("{manager}db-a_b.c1"), "db-a_b.c1", "value"),
            ("arn:aws-cn:ssm:cn-north-1:123456789012:parameter/team/db".into(), "team/db", "value"),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/db".into(), "db", "value"),
            ("/team/db".into(), "team/db", "value"),
            ("db".into(), "db", "value"),
            ("db:password".into(), "db", "password"),
        ] {
            let found = locate(&value_from).expect(&value_from);
            assert_eq!(found.secret, slug(secret), "{value_from}");
            assert!(
                found.key == key || key.ends_with('-') && found.key.starts_with(key),
                "{value_from}: {found:?}"
            );
        }
        assert_eq!(locate("/db"), locate("arn:aws:ssm:r:1:parameter/db"), "a parameter's name and its ARN");
        assert_eq!(slug("plain-name"), locate("plain-name").expect("a name").secret);
    }

    /// A key that a Secret can have stays as it is; of every other one comes another that it can have.
    #[test]
    fn keys_are_those_that_a_secret_can_have() {
        let longest = "k".repeat(253);
        for key in ["password", "a-b_c.d", ".dockerconfigjson", "a..b", &longest] {
            assert_eq!(locate(&format!("db:{key}")).expect(key).key, key);
        }
        let too_long = "k".repeat(254);
        for key in [".", "..", "..data", "a b", "a/b", "ü", &too_long] {
            let found = locate(&format!("db:{key}")).expect(key).key;
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            assert!(found != key && found.len() <= 253 && found.chars().all(is_allowed), "{key}: {found}");
            assert!(found != "." && !found.starts_with(".."), "{key}: {found}");
        }
    }

    #[test]
    fn what_names_no_value() {
        for value_from in [
            "",
            "/",
            ":",
            "db:",
            "arn:",
            "arn:aws:s3:::bucket/key",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
            "arn:aws:secretsmanager:eu-west-1:123456789012:db",
            "arn:aws:ssm:eu-west-1:123456789012:parameter",
            "arn:aws:ssm:eu-west-1:123456789012:document/db",
        ] {
            let error = locate(value_from).expect_err(value_from);
            assert!(error.contains(&format!("{value_from:?}")), "{error}");
        }
    }
}
