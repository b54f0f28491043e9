//! What sidecars have that is not the job's, and where pods are made without them for it.

use batchyard_core::logging::Driver::{self, *};
use batchyard_core::logging::exposure::{held, withheld};
use batchyard_core::logging::sidecar::{Member, Part, Settings, Source, plan};

use super::{SETTINGS, honoured, least, read, sidecar};

const LOGS: &str = "the right to read logs";
const VARIABLES: &str = "variables from Secrets";
const FILES: &str = "files from Secrets";
const CREDENTIALS: &str = "credentials of AWS";
const FOLDER: &str = "a folder of the node";

fn of(driver: Driver, more: &[(&'static str, &'static str)]) -> batchyard_core::logging::route::Route {
    let options: Vec<_> = least(driver).iter().chain(more).copied().collect();
    read(driver, &options).unwrap_or_else(|refusals| panic!("{driver:?} {more:?}: {refusals:?}"))
}

#[test]
fn what_a_sidecar_has_that_is_not_the_job_s() {
    let (aws, none): (&[&str], &[&str]) = (&[CREDENTIALS], &[]);
    for (driver, more, from_secret, from_role) in [
        (Awslogs, &[][..], aws, none),
        (
            Awslogs,
            &[("awslogs-endpoint", "https://logs"), ("awslogs-capath <-", "ca")],
            &[FILES, CREDENTIALS],
            &[FILES],
        ),
        (S3, &[], aws, none),
        // The token stands in the options, and goes through a Secret of the operator's.
        (Splunk, &[], &[VARIABLES], &[VARIABLES]),
        (Splunk, &[("splunk-capath <-", "splunk:ca")], &[VARIABLES, FILES], &[VARIABLES, FILES]),
        (Loki, &[], none, none),
        (Loki, &[("loki-user", "u"), ("loki-password <-", "loki")], &[VARIABLES], &[VARIABLES]),
        (Loki, &[("loki-user", "u"), ("loki-password", "p")], &[VARIABLES], &[VARIABLES]),
        (Loki, &[("loki-token <-", "loki")], &[VARIABLES], &[VARIABLES]),
        (Opensearch, &[("opensearch-aws-region", "eu-west-1")], aws, none),
        (
            Opensearch,
            &[("opensearch-user", "u"), ("opensearch-password <-", "o")],
            &[VARIABLES],
            &[VARIABLES],
        ),
        (
            Opentelemetry,
            &[("opentelemetry-header-name", "a"), ("opentelemetry-header-value <-", "h")],
            &[VARIABLES],
            &[VARIABLES],
        ),
        (Syslog, &[], none, none),
        (Syslog, &[("syslog-tls-cert <-", "c"), ("syslog-tls-key <-", "k")], &[FILES], &[FILES]),
        (Fluentd, &[], none, none),
        (Gelf, &[], none, none),
        (Stdout, &[], none, none),
        (Awsfirelens, &[], none, none),
        (Awsfirelens, &[("http_Passwd <-", "p"), ("http_User", "u")], &[VARIABLES], &[VARIABLES]),
        (JsonFile, &[], &[FOLDER], &[FOLDER]),
    ] {
        let sidecar = sidecar(&of(driver, more));
        for (has_secret, want) in [(true, from_secret), (false, from_role)] {
            assert_eq!(held(&sidecar, Source::Folder, has_secret), want, "{driver:?} {more:?} {has_secret}");
            // Whatever the driver is, the helper has a token.
            let with_token = [&[LOGS], want].concat();
            assert_eq!(held(&sidecar, Source::Api, has_secret), with_token, "{driver:?} {more:?}");
        }
    }
    let socket = read(Fluentd, &[("fluentd-address", "unix:///run/f/s")]).expect("a route");
    assert_eq!(held(&sidecar(&socket), Source::Folder, true), [FOLDER]);
}

/// One container's secret is in the sidecar of all.
#[test]
fn what_one_container_brings_all_of_the_pod_would_see() {
    let (stdout, splunk) = (of(Stdout, &[]), of(Splunk, &[]));
    let members = [Member { container: "a", route: &stdout }, Member { container: "b", route: &splunk }];
    let both = plan(&members, Part::Whole, &SETTINGS).expect("containers");
    assert_eq!(held(&both, Source::Folder, false), [VARIABLES]);
    let alone = plan(&members[..1], Part::Whole, &SETTINGS).expect("a container");
    assert_eq!(held(&alone, Source::Folder, true), [""; 0]);
}

#[test]
fn a_pod_is_made_without_it_where_processes_are_shared_and_it_has_something() {
    let member = "containerProperties.linuxParameters.initProcessEnabled";
    for (shared, held, is_withheld) in [
        (None, &[][..], false),
        (None, &[VARIABLES], false),
        (Some(member), &[], false),
        (Some(member), &[LOGS], true),
        (Some(member), &[VARIABLES, FILES], true),
    ] {
        let why = withheld(shared, held);
        assert_eq!(why.is_some(), is_withheld, "{shared:?} {held:?}");
        let Some(why) = why else { continue };
        assert!(why.contains(member) && held.iter().all(|held| why.contains(held)), "{why}");
    }
}

/// With the source API there is always a helper, and it always has a token.
#[test]
fn through_the_api_every_driver_is_withheld() {
    for driver in honoured().filter(|driver| *driver != JsonFile) {
        let route = of(driver, &[]);
        let settings = Settings { source: Source::Api, ..SETTINGS };
        let members = [Member { container: "default", route: &route }];
        let sidecar = plan(&members, Part::Whole, &settings).expect("a container");
        assert!(withheld(Some("pidMode"), &held(&sidecar, settings.source, false)).is_some(), "{driver:?}");
    }
}
