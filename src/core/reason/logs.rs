//! How jobs, queues and environments are told of logging, beside [`crate::logging::text`]. All of it is ours.

use super::clean::{REASON_LIMIT, STATUS_REASON_LIMIT, line};
use crate::logging::Refusal;
use crate::logging::route::Buffer;
use crate::logging::sidecar::{CONTAINER, Cut};

/// The default of a queue, as what is wrong with it is told at a job.
pub fn of_queue(queue: &str) -> String {
    format!("JobQueue {queue}: logging.logConfiguration")
}

/// The default of an environment, as what is wrong with it is told at a job.
pub fn of_environment(environment: &str) -> String {
    format!("ComputeEnvironment {environment}: logging.logConfiguration")
}

/// The environment does not allow where the job's output would go.
pub fn forbidden(place: &str, rules: &[String]) -> String {
    format!("{place}: {}", rules.join("; "))
}

/// What makes an environment or a queue INVALID: its own `logging`.
pub fn invalid(why: &str) -> String {
    super::resources::client_error(why)
}

/// A driver that needs something of the node, where pods may see nothing of it.
pub fn nothing_of_node((member, what): (&str, &str)) -> Refusal {
    let why = format!("{what}, of which pods see nothing where the environment has logging.source: API");
    Refusal { member: member.to_owned(), why }
}

/// The driver journald, whatever its options are.
pub fn journald() -> Refusal {
    let why = "journald is not possible: Fluent Bit, which sends the output, cannot write to the node's journal; use \
               syslog to a collector, or let the node's own agent read what containers write";
    Refusal { member: "logDriver".to_owned(), why: why.to_owned() }
}

/// How [`sidecar_late`] begins.
const SIDECAR_LATE: &str = "Log sidecar did not start";

/// The pod's log sidecar did not start in time; seen on placements only.
pub fn sidecar_late(seconds: i64, why: &str) -> String {
    line(&format!("{SIDECAR_LATE} within {seconds} s: {why}"), REASON_LIMIT)
}

/// True for a placement that ended since its log sidecar did not start.
pub fn is_sidecar_late(text: &str) -> bool {
    text.starts_with(SIDECAR_LATE)
}

/// How [`shared_processes`] begins.
const SHARED_PROCESSES: &str = "Processes are shared";

/// A member lets the job's processes see those of a log sidecar that has what is not the job's.
pub fn shared_processes(member: &str, held: &[&str]) -> String {
    let text = format!(
        "{SHARED_PROCESSES}: with {member} the job could take what its log sidecar has: {}. Leave that member out, or send \
         the output where nothing of that kind is needed",
        held.join(", ")
    );
    line(&text, STATUS_REASON_LIMIT)
}

/// The word for why a pod has no log sidecar.
pub fn not_routed_word(why: &str) -> &'static str {
    if why.starts_with(SHARED_PROCESSES) { "SharedProcesses" } else { "NotRouted" }
}

/// The Secret with the sidecar's configuration cannot be made.
pub fn configuration_refused(why: &str) -> String {
    line(&format!("Its configuration cannot be made: {why}"), REASON_LIMIT)
}

/// The namespace takes no pod with a log sidecar.
pub fn pod_refused(why: &str) -> String {
    line(&format!("Pods with a log sidecar are refused: {why}"), REASON_LIMIT)
}

/// `LogsRouted` is False: the pod has no sidecar. `kubectl logs` has the output.
pub fn not_routed(why: &str) -> String {
    format!("Output stays where kubectl logs finds it. {why}")
}

/// `LogsRouted` is False: the sidecar ended while the job ran.
pub fn sidecar_ended(pod: &str, code: i32, word: &str, said: &str) -> String {
    let word = if word.is_empty() || word == "Error" { String::new() } else { format!(" ({word})") };
    let said = said.trim().lines().next_back().map_or(String::new(), |said| format!(": {said}"));
    let text = format!(
        "The log sidecar of pod {pod} ended with exit code {code}{word} while the job ran; the kubelet starts it again{said}"
    );
    line(&text, REASON_LIMIT)
}

/// A sink does not take what the sidecar has. It is the same text for as long as that lasts.
pub fn sink_unavailable(pod: &str, drivers: &str) -> String {
    let text = format!(
        "Output waits in pod {pod} ({drivers}): a sink is away, refuses it or takes too little. kubectl logs {pod} \
         --container {CONTAINER} says why"
    );
    line(&text, REASON_LIMIT)
}

/// `LogsRouted` is True, and less waits than the job states where a sink takes nothing; nothing if all is as it is
/// stated. Containers are named where there are `several`.
pub fn buffers_cut(cut: &[Cut], environment: &str, several: bool) -> Option<String> {
    let one = |cut: &Cut| {
        let of = if several { format!(" of container {}", cut.container) } else { String::new() };
        let Buffer { option, bytes } = cut.stated;
        format!(
            "{option}{of} is {}, of which logging.bufferMiB of ComputeEnvironment {environment} leaves {}",
            mib(bytes),
            mib(cut.left)
        )
    };
    (!cut.is_empty()).then(|| cut.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// A size, to a tenth.
fn mib(bytes: u64) -> String {
    match (bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20) {
        (whole, 0) => format!("{whole} MiB"),
        (whole, tenths) => format!("{whole}.{tenths} MiB"),
    }
}

/// Options in which a secret stands in plain text.
pub fn plain_text(places: &[String]) -> String {
    format!(
        "{}: everybody who may read the definition sees it; name a Secret in secretOptions instead",
        places.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_sounds_secret_is_no_secret() {
        let refusal = |member: &str| Refusal { member: member.to_owned(), why: "it is required".to_owned() };
        let all = [refusal("options.splunk-token"), refusal("options.splunk-url")];
        let text = crate::logging::text::refused("containerProperties.logConfiguration", &all);
        assert_eq!(
            crate::reason::cannot_run(&text),
            "Invalid job definition: containerProperties.logConfiguration.options.splunk-token: it is required; \
             containerProperties.logConfiguration.options.splunk-url: it is required"
        );
    }

    #[test]
    fn shared_processes_have_a_word_of_their_own() {
        let text = shared_processes("eksProperties.podProperties.shareProcessNamespace", &["a", "b"]);
        assert_eq!(
            text,
            "Processes are shared: with eksProperties.podProperties.shareProcessNamespace the job could take what its log \
             sidecar has: a, b. Leave that member out, or send the output where nothing of that kind is needed"
        );
        assert_eq!(not_routed_word(&text), "SharedProcesses");
        for other in [pod_refused("x"), configuration_refused("x"), sidecar_late(60, "x"), String::new()] {
            assert_eq!(not_routed_word(&other), "NotRouted", "{other}");
        }
    }

    #[test]
    fn a_late_sidecar_is_known_by_its_text() {
        let text = sidecar_late(60, "ImagePullBackOff: not found");
        assert_eq!(text, "Log sidecar did not start within 60 s: ImagePullBackOff: not found");
        assert!(is_sidecar_late(&text) && is_sidecar_late(&crate::reason::of_node(Some(&text), 3)));
        assert!(!is_sidecar_late(crate::reason::UNPLACED));
    }
}
