//! From a role's ARN to the ServiceAccount that stands for it. The operator makes none.

use batchyard_core::name;
use batchyard_core::waits::{self, Wait};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::k8s::error::Error;
use crate::k8s::read::read;

/// The annotation by which EKS ties a ServiceAccount to a role
/// (<https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html>).
const ROLE: &str = "eks.amazonaws.com/role-arn";

/// The ServiceAccount of the namespace that is annotated with the role, else the one named after
/// it; or what the job waits for.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn service_account(
    client: &Client,
    namespace: &str,
    role: &str,
) -> Result<Result<String, Wait>, Error> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let what = format!("list ServiceAccounts of {namespace}");
    let all = ListParams::default();
    let accounts = read(what, || api.list(&all)).await?;
    Ok(choose(&accounts.items, role))
}

fn choose(accounts: &[ServiceAccount], role: &str) -> Result<String, Wait> {
    let annotated =
        accounts.iter().find(|account| account.annotations().get(ROLE).is_some_and(|arn| arn == role));
    let wanted = name::slug(name::resource(role));
    let named = || accounts.iter().find(|account| account.name_any() == wanted);
    annotated
        .or_else(named)
        .map(ResourceExt::name_any)
        .ok_or_else(|| waits::service_account_missing(role, &wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, role: Option<&str>) -> ServiceAccount {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(name.into());
        account.metadata.annotations = role.map(|role| [(ROLE.to_owned(), role.to_owned())].into());
        account
    }

    #[test]
    fn an_annotation_outranks_a_name() {
        let role = "arn:aws:iam::123456789012:role/dcv-ecs-batch-role";
        let named = account("dcv-ecs-batch-role", None);
        let annotated = account("desktop", Some(role));
        assert_eq!(choose(&[named.clone(), annotated], role).as_deref(), Ok("desktop"));
        assert_eq!(choose(&[named], role).as_deref(), Ok("dcv-ecs-batch-role"));
        let missing = choose(&[account("default", None)], role).expect_err("none stands for it");
        assert!(missing.text.contains(role) && missing.text.contains("dcv-ecs-batch-role"), "{missing:?}");
    }
}
