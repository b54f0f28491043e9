//! What a log sidecar would give away to the job that it stands beside.
//!
//! Processes that see each other see more than that: `/proc/<pid>/environ` has the other's variables and
//! `/proc/<pid>/root` leads into its files, for whoever has its uid and no fewer rights
//! (<https://man7.org/linux/man-pages/man2/ptrace.2.html>, "Ptrace access mode checking"). The sidecar has no rights, and a
//! job may choose its uid. So where a definition lets the processes of a pod see each other, a pod is made without a
//! sidecar that has anything which is not the job's to have. One that has nothing of that kind stays.

use super::sidecar::{Sidecar, Source};
use crate::reason::logs;

/// What a sidecar has that is not the job's to have.
///
/// The pod's own AWS role is none of it: all containers of the pod have that.
pub fn held(sidecar: &Sidecar, source: Source, has_credentials_secret: bool) -> Vec<&'static str> {
    let needs = &sidecar.needs;
    [
        (source == Source::Api, "the right to read logs"),
        (!sidecar.secrets.is_empty(), "variables from Secrets"),
        (!sidecar.files.is_empty(), "files from Secrets"),
        (has_credentials_secret && needs.aws_credentials, "credentials of AWS"),
        // Through it the job would write where its definition needs a right to, without the driver's bounds.
        (needs.files || !needs.sockets.is_empty(), "a folder of the node"),
    ]
    .into_iter()
    .filter_map(|(is_held, what)| is_held.then_some(what))
    .collect()
}

/// Why a pod is made without its sidecar, if it is; `member` is that by which its processes see each other.
pub fn withheld(member: Option<&str>, held: &[&str]) -> Option<String> {
    member.filter(|_| !held.is_empty()).map(|member| logs::shared_processes(member, held))
}
