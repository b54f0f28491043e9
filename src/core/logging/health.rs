//! Whether the sinks of a log sidecar take what it has: what Fluent Bit answers the kubelet, and what that means.
//!
//! Fluent Bit's own answer at `/api/v1/health` counts output that it threw away, and nothing that it tries again; and it
//! tries again for as long as it takes. So its own log goes through a pipeline of its own: lines that tell of a chunk that
//! a sink did not take go to an output that takes nothing, and each of them counts as an error. While there was one within
//! `PERIOD_SECONDS` the answer is 500, the kubelet's readiness probe fails, and the sidecar is not `ready`.

use jiff::{SignedDuration, Timestamp};

use super::fluent_bit::{Document, Plugin, Properties, Text, Variable};

/// Where Fluent Bit answers, at the pod's own address.
pub const PORT: u16 = 24_226;
/// The path of the answer.
pub const PATH: &str = "/api/v1/health";
/// The pod's address; a `fieldRef` to `status.podIP` gives it.
pub const ADDRESS_VARIABLE: &str = "BATCHYARD_POD_IP";
/// So often the kubelet asks.
pub const ASKED_SECONDS: u32 = 10;
/// So many answers in a row make the sidecar not ready: a failure that is alone counts for `PERIOD_SECONDS`, and is none
/// to tell of.
pub const FAILURES: u32 = 6;
/// So long a failure counts: longer than any pause before a chunk is tried again, which is `scheduler.cap`, 30 s, and 10 s
/// for a connection that does not come.
const PERIOD_SECONDS: u64 = 45;
/// A sidecar that was not ready since it started has had so long to become so.
pub const AFTER_SECONDS: i64 = 60;

/// The tag of Fluent Bit's own log.
const TAG: &str = "batchyard.health";
/// So many bytes of it wait at most.
const MEMORY: u64 = 1 << 20;
/// What it writes of a chunk that a sink did not take, or that had to go because others did not.
const TROUBLE: &str = "message failed to flush chunk|evicted from output queue|fail to drop enough chunks";

/// Lets Fluent Bit tell the kubelet.
pub(super) fn tell(document: &mut Document) {
    let service = core::mem::take(&mut document.service);
    document.service = service
        .with("http_server", true)
        // Nowhere else: and not at the loopback, which all containers of the pod share.
        .with("http_listen", Text::variable(&Variable::plain("POD_IP")))
        .with("http_port", u64::from(PORT))
        .with("health_check", true)
        .with("hc_errors_count", 0)
        .with("hc_retry_failure_count", 0)
        .with("hc_period", PERIOD_SECONDS);
    let of = |name: &'static str, properties: Properties| Plugin { name, properties };
    let pipeline = &mut document.pipeline;
    let own = Properties::default().with("tag", TAG).with("mem_buf_limit", MEMORY);
    pipeline.inputs.push(of("fluentbit_logs", own));
    let only = Properties::default().with("match", TAG).with("regex", TROUBLE);
    pipeline.filters.push(of("grep", only));
    // The name of a file that begins with two dots is refused, without a word in the log, which would lead people astray.
    let nowhere = Properties::default()
        .with("match", TAG)
        .with("path", "/batchyard")
        .with("file", "../$level")
        .with("fallback_file", "nowhere")
        .with("on_missing_field", "error")
        .with("log_level", "off")
        .with("retry_limit", "no_retries")
        .with("workers", 1);
    pipeline.outputs.push(of("file", nowhere));
}

/// What the pod's status says of a sidecar that the kubelet asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Since when it runs; nothing if it does not.
    pub runs_since: Option<Timestamp>,
    /// The kubelet's verdict.
    pub ready: bool,
}

/// Whether a sink does not take what the sidecar has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known of trouble.
    Well,
    /// It is too early to tell; look again then.
    Later(Timestamp),
    /// A sink is away, refuses, or is too slow.
    Unavailable,
}

/// Reads what the pod's status says.
pub fn verdict(seen: Seen, now: Timestamp) -> Verdict {
    let Some(since) = seen.runs_since.filter(|_| !seen.ready) else { return Verdict::Well };
    // A container is not ready before it was asked once.
    match since.checked_add(SignedDuration::from_secs(AFTER_SECONDS)) {
        Ok(until) if now < until => Verdict::Later(until),
        _ => Verdict::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn verdicts() {
        for (runs_since, ready, now, want) in [
            (None, false, 1000, Verdict::Well),
            (None, true, 1000, Verdict::Well),
            (Some(100), true, 100, Verdict::Well),
            (Some(100), true, 1000, Verdict::Well),
            (Some(100), false, 100, Verdict::Later(at(160))),
            (Some(100), false, 159, Verdict::Later(at(160))),
            (Some(100), false, 160, Verdict::Unavailable),
            // The node's clock is ahead.
            (Some(100), false, 90, Verdict::Later(at(160))),
        ] {
            let seen = Seen { runs_since: runs_since.map(at), ready };
            assert_eq!(verdict(seen, at(now)), want, "{seen:?} at {now}");
        }
    }
}
