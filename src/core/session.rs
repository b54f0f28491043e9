//! Interactive sessions: when people can connect to one, where, and when nobody uses it any more.
//!
//! A session is a job like any other; what is told here comes beside its phase. It is over with the attempt that it
//! belongs to: its URL is taken back as soon as the attempt is to end, since the address may soon be another's.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `status.session`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Where to connect to, while the session can be used.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// True while the session can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// When it could be used first, of the last attempt that came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// Since when nobody has been connected, of a session with an idleProbe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// Name of the Secret with the credentials, as the definition or the job has it.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
}

/// What is seen of a session now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// How far it is.
    pub progress: Progress,
    /// The session's URL, once its address is known; else what it waits for.
    pub url: Option<Result<String, String>>,
    /// The idle probe says that nobody is connected.
    pub unused: bool,
}

/// How far the attempt of a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Progress {
    /// No container runs that anybody could connect to, or it is about to end.
    #[default]
    Absent,
    /// The container runs and the readiness probe has not passed.
    Starting,
    /// The readiness probe passes.
    Passing,
}

/// Why a session cannot be used: a word and a sentence.
pub type Why = (&'static str, String);

/// What becomes of `status.session`, and why the session is not ready if so.
pub fn next(
    known: Option<&State>,
    seen: &Sight,
    secret: Option<&str>,
    now: Timestamp,
) -> (State, Result<(), Why>) {
    let standing = match (seen.progress, &seen.url) {
        (Progress::Absent, _) => Err(("NotRunning", "No container of the session runs".to_owned())),
        (Progress::Starting, _) => {
            Err(("Starting", "The session's readiness probe has not passed".to_owned()))
        }
        (Progress::Passing, Some(Ok(url))) => Ok(url.clone()),
        (Progress::Passing, Some(Err(why))) => Err(("AddressMissing", why.clone())),
        (Progress::Passing, None) => {
            Err(("AddressMissing", "The session's address is not known yet".to_owned()))
        }
    };
    let was_ready = known.is_some_and(|known| known.ready == Some(true));
    let ready_at = known.and_then(|known| known.ready_at);
    // Before it was ready nobody could connect.
    let idle_since = known.and_then(|known| known.idle_since).or(Some(now));
    let state = State {
        ready: Some(standing.is_ok()),
        ready_at: if standing.is_ok() && !was_ready { Some(now) } else { ready_at },
        idle_since: idle_since.filter(|_| standing.is_ok() && seen.unused),
        url: standing.as_ref().ok().cloned(),
        credentials_secret: secret.map(str::to_owned),
    };
    (state, standing.map(drop))
}

/// `statusReason` of a job whose session was ended since nobody used it.
pub fn idle(limit: SignedDuration) -> String {
    format!("Session idle: nobody was connected for {} seconds", limit.as_secs())
}

/// The URL of a session. Ports that the scheme implies are left out.
pub fn url(scheme: &str, host: &str, port: Option<u16>, path: &str) -> String {
    let implied = match scheme {
        "https" => 443,
        _ => 80,
    };
    let port = port.filter(|port| *port != implied).map_or_else(String::new, |port| format!(":{port}"));
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}{port}{slash}{path}")
}

/// Fills `{jobId}`, `{jobName}` and `{namespace}` into a host name.
///
/// # Errors
/// A sentence that says what is wrong with the name.
pub fn host(template: &str, job_id: &str, job_name: &str, namespace: &str) -> Result<String, String> {
    let label = crate::name::slug;
    let host = template
        .replace("{jobId}", &label(job_id))
        .replace("{jobName}", &label(job_name))
        .replace("{namespace}", namespace)
        .to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() <= 253 && host.split('.').all(is_label) {
        return Ok(host);
    }
    Err(format!("session.address.host: {host:?} is no host name"))
}

/// True if one of the patterns allows the host name: `*` stands for the first label, of any length, and `{namespace}`
/// for the job's namespace, so that one pattern keeps those who share an environment apart.
pub fn is_host_allowed(host: &str, patterns: &[String], namespace: &str) -> bool {
    let patterns = patterns.iter().map(|pattern| in_namespace(pattern, namespace));
    patterns.into_iter().any(|pattern| match pattern.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => host.eq_ignore_ascii_case(&pattern),
    })
}

/// True if the list has the Gateway `namespace/name`, with `{namespace}` for the job's own.
pub fn is_gateway_allowed(gateway: &str, list: &[String], namespace: &str) -> bool {
    list.iter().any(|allowed| in_namespace(allowed, namespace) == gateway)
}

fn in_namespace(text: &str, namespace: &str) -> String {
    text.replace("{namespace}", namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn seen(progress: Progress, url: Option<&str>) -> Sight {
        Sight { progress, url: url.map(|url| Ok(url.to_owned())), unused: false }
    }

    #[test]
    fn a_session_is_ready_while_its_probe_passes_and_its_address_is_known() {
        let url = "https://10.0.0.7:8443/";
        let steps = [
            (Progress::Absent, None, None, "NotRunning"),
            (Progress::Starting, Some(url), None, "Starting"),
            (Progress::Passing, None, None, "AddressMissing"),
            (Progress::Passing, Some(url), Some(3), ""),
            (Progress::Passing, Some(url), Some(3), ""),
            (Progress::Starting, Some(url), Some(3), "Starting"),
            (Progress::Passing, Some(url), Some(6), ""),
            (Progress::Absent, Some(url), Some(6), "NotRunning"),
        ];
        let mut known = None;
        for (second, (progress, address, ready_at, why)) in steps.into_iter().enumerate() {
            let (state, standing) =
                next(known.as_ref(), &seen(progress, address), Some("dcv"), at(second as i64));
            assert_eq!(state.ready_at, ready_at.map(at), "step {second}");
            assert_eq!(state.ready == Some(true), why.is_empty(), "step {second}");
            assert_eq!(state.url.as_deref(), why.is_empty().then_some(url), "step {second}");
            assert_eq!(standing.err().map_or("", |(word, _)| word), why, "step {second}");
            assert_eq!(state.credentials_secret.as_deref(), Some("dcv"));
            known = Some(state);
        }
        let url = Some(Err("node n has no address".to_owned()));
        let missing = Sight { progress: Progress::Passing, url, unused: false };
        let (_, why) = next(known.as_ref(), &missing, None, at(9));
        assert_eq!(why, Err(("AddressMissing", "node n has no address".to_owned())));
    }

    /// However short a visit is, and whatever else happens in the pod, idleness begins anew after it.
    #[test]
    fn idleness_begins_when_somebody_could_connect_first_or_the_last_one_left() {
        let url = Some("https://10.0.0.7:8443/");
        let steps = [
            ("it is not ready", Progress::Starting, url, true, None),
            ("its address is not known", Progress::Passing, None, true, None),
            ("nobody came", Progress::Passing, url, true, Some(2)),
            ("still nobody", Progress::Passing, url, true, Some(2)),
            ("somebody is there", Progress::Passing, url, false, None),
            ("still there", Progress::Passing, url, false, None),
            ("the last one left", Progress::Passing, url, true, Some(6)),
            ("still nobody", Progress::Passing, url, true, Some(6)),
            ("its address is gone", Progress::Passing, None, true, None),
            ("and back", Progress::Passing, url, true, Some(9)),
            ("it has ended", Progress::Absent, url, true, None),
        ];
        let mut known = None;
        for (second, (name, progress, url, unused, want)) in steps.into_iter().enumerate() {
            let sight = Sight { unused, ..seen(progress, url) };
            let (state, _) = next(known.as_ref(), &sight, None, at(second as i64));
            assert_eq!(state.idle_since, want.map(at), "{name}");
            known = Some(state);
        }
    }

    #[test]
    fn urls() {
        for (scheme, host, port, path, want) in [
            ("https", "192.0.2.1", Some(8443), "/", "https://192.0.2.1:8443/"),
            ("https", "2001:db8::1", Some(8443), "", "https://[2001:db8::1]:8443/"),
            ("https", "a.example", None, "/vnc.html?x=1", "https://a.example/vnc.html?x=1"),
            ("https", "a.example", Some(443), "lab", "https://a.example/lab"),
            ("http", "a.example", Some(80), "/", "http://a.example/"),
            ("http", "a.example", Some(443), "/", "http://a.example:443/"),
        ] {
            assert_eq!(url(scheme, host, port, path), want);
        }
    }

    #[test]
    fn hosts_are_filled_in_and_checked() {
        let filled = |template: &str| host(template, "0F8B-1", "My.Job", "team");
        let host_of = host("{jobId}.{namespace}.example.com", "0f8b-1", "render", "team");
        assert_eq!(host_of.as_deref(), Ok("0f8b-1.team.example.com"));
        assert!(filled("{jobName}.example.com").is_ok_and(|host| host.starts_with("my-job-")));
        assert_eq!(filled("Desk.example.com").as_deref(), Ok("desk.example.com"));
        for wrong in ["", "a..b", "-a.example", "a b", "{other}.example", "a.example:80", "a.example/x"] {
            assert!(filled(wrong).is_err(), "{wrong}");
        }
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        let whole = |last: usize| format!("{longest}.{longest}.{longest}.{}", "a".repeat(last));
        for (name, right) in [
            (longest.clone(), true),
            (too_long.clone(), false),
            (format!("desk.{too_long}"), false),
            (whole(61), true),
            (whole(62), false),
            ("0.9.example".to_owned(), true),
            ("a-.example".to_owned(), false),
            ("a.-".to_owned(), false),
            ("desk.example.".to_owned(), false),
        ] {
            assert_eq!(filled(&name).is_ok(), right, "{name}");
        }
        let patterns =
            ["*.desk.example.com", "one.example.com", "*.{namespace}.shared.org", "{namespace}-x.shared.org"];
        let patterns = patterns.map(str::to_owned);
        for (name, allowed) in [
            ("a.desk.example.com", true),
            ("one.example.com", true),
            ("two.example.com", false),
            ("a.b.desk.example.com", false),
            ("desk.example.com", false),
            ("a.desk.example.com.evil.org", false),
            ("a.team.shared.org", true),
            ("A.Team.Shared.org", true),
            ("a.other.shared.org", false),
            ("a.{namespace}.shared.org", false),
            ("team-x.shared.org", true),
            ("other-x.shared.org", false),
        ] {
            assert_eq!(is_host_allowed(name, &patterns, "team"), allowed, "{name}");
        }
        let gateways = ["infra/desks".to_owned(), "{namespace}/own".to_owned()];
        for (name, allowed) in [
            ("infra/desks", true),
            ("team/own", true),
            ("other/own", false),
            ("{namespace}/own", false),
            ("team/desks", false),
        ] {
            assert_eq!(is_gateway_allowed(name, &gateways, "team"), allowed, "{name}");
        }
    }

    fn sights() -> impl Strategy<Value = Sight> {
        let progress = prop::sample::select(vec![Progress::Absent, Progress::Starting, Progress::Passing]);
        let url =
            prop::option::of(prop_oneof![Just(Ok("https://a/".to_owned())), Just(Err("no".to_owned()))]);
        (progress, url, any::<bool>()).prop_map(|(progress, url, unused)| Sight { progress, url, unused })
    }

    proptest! {
        #![proptest_config(crate::cases::config(256))]

        /// A URL is shown if and only if somebody can connect, and looking again changes nothing.
        #[test]
        fn a_url_is_only_shown_while_it_works(story in prop::collection::vec(sights(), 1..20)) {
            let mut known: Option<State> = None;
            for (second, sight) in story.iter().enumerate() {
                let (state, standing) = next(known.as_ref(), sight, None, at(second as i64));
                prop_assert_eq!(state.url.is_some(), state.ready == Some(true));
                prop_assert_eq!(state.url.is_some(), standing.is_ok());
                prop_assert!(state.ready != Some(true) || sight.progress == Progress::Passing);
                prop_assert!(state.ready_at.is_none_or(|ready| ready <= at(second as i64)));
                prop_assert_eq!(state.idle_since.is_some(), state.ready == Some(true) && sight.unused);
                prop_assert!(state.idle_since.is_none_or(|since| Some(since) >= state.ready_at));
                prop_assert_eq!(&next(Some(&state), sight, None, at(1000)).0, &state);
                known = Some(state);
            }
        }
    }
}
