//! What jobs wait for where somebody may not do what it takes to make their pods.

use super::{Explanation, entry};

pub(super) const TABLE: &[Explanation] = &[
    entry(
        "Waiting for a right: user … needs a role in namespace …",
        "Whoever submitted the job, or moved it to its queue, may not do so any more.",
        "A role or a binding was taken away or changed while the job waited.",
        "Grant what the text names: the job goes on by itself. Or delete the job, and let somebody else submit it.",
    ),
    entry(
        "Waiting for a right: whose it is cannot be read from annotation …: …",
        "It cannot be asked whether whoever submitted the job still may, since the job does not say who that is.",
        "Somebody who may set names of batchyard.io wrote something else there.",
        "Delete the job, and submit it again.",
    ),
    entry(
        "Waiting for a right: ServiceAccount … makes the pods of namespace … and needs a RoleBinding there to ClusterRole …: …",
        "The operator makes pods in the name of an account of their namespace (operator.runner), and that one may not.",
        "The namespace has no such account, or no binding for it.",
        "Make both, as docs/security.md shows: the job goes on by itself.",
    ),
];
