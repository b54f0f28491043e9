//! `logConfiguration`, and what queues and environments say of logging.

use batchyard_core::definition::Work;
use batchyard_core::definition::secrets::locate;
use batchyard_core::logging::policy::Policy;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::Source;
use batchyard_core::logging::{AwslogsDefaults, Configuration, Driver, Refusal, SecretOption, text};
use batchyard_core::reason::logs;

use crate::crd::container::Secret;
use crate::crd::logging::{LogConfiguration, LogDriver, LogSource, LoggingPolicy};
use crate::crd::{ComputeEnvironmentSpec, JobDefinitionSpec, JobQueueSpec};

/// A region, for what is looked at before it is known where it runs: an environment may have one.
const ANY_REGION: &str = "us-east-1";

/// `logConfiguration` as plain data.
pub fn configuration(wire: &LogConfiguration) -> Configuration {
    let secret =
        |secret: &Secret| SecretOption { name: secret.name.clone(), value_from: secret.value_from.clone() };
    Configuration {
        driver: driver(wire.log_driver),
        options: wire.options.clone(),
        secret_options: wire.secret_options.iter().map(secret).collect(),
    }
}

const fn driver(wire: LogDriver) -> Driver {
    match wire {
        LogDriver::Awslogs => Driver::Awslogs,
        LogDriver::Splunk => Driver::Splunk,
        LogDriver::Fluentd => Driver::Fluentd,
        LogDriver::Gelf => Driver::Gelf,
        LogDriver::Syslog => Driver::Syslog,
        LogDriver::Journald => Driver::Journald,
        LogDriver::JsonFile => Driver::JsonFile,
        LogDriver::Awsfirelens => Driver::Awsfirelens,
        LogDriver::S3 => Driver::S3,
        LogDriver::Loki => Driver::Loki,
        LogDriver::Opensearch => Driver::Opensearch,
        LogDriver::Opentelemetry => Driver::Opentelemetry,
        LogDriver::Stdout => Driver::Stdout,
    }
}

/// The environment's `logging.awslogs`.
pub fn defaults(environment: &ComputeEnvironmentSpec) -> AwslogsDefaults {
    let wire = environment.logging.as_ref().and_then(|logging| logging.awslogs.as_ref());
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    wire.map_or_else(AwslogsDefaults::default, |wire| AwslogsDefaults {
        endpoint: said(&wire.endpoint),
        region: said(&wire.region),
        group: said(&wire.group),
        authority: said(&wire.ca_secret),
        unverified: wire.insecure_skip_verify.unwrap_or(false),
    })
}

/// Where log sidecars read in an environment.
pub fn source(environment: &ComputeEnvironmentSpec) -> Source {
    match environment.logging.as_ref().and_then(|logging| logging.source) {
        Some(LogSource::Api) => Source::Api,
        Some(LogSource::HostPath) | None => Source::Folder,
    }
}

/// What an environment allows.
pub fn policy(environment: &ComputeEnvironmentSpec) -> Policy {
    environment.logging.as_ref().map_or_else(Policy::default, |logging| Policy {
        drivers: logging.allowed_drivers.clone(),
        log_groups: logging.allowed_log_groups.clone(),
        hosts: logging.allowed_hosts.clone(),
    })
}

/// Whether what the containers say can be honoured somewhere; `member` is what `containerProperties` is called there.
///
/// # Errors
/// A sentence that names the members.
pub(super) fn check(work: &Work, member: &str) -> Result<(), String> {
    let faults = work.logged().into_iter().filter_map(|one| {
        let refusals = anywhere(one.configuration?).err()?;
        Some(text::refused(&one.place.replacen("containerProperties", member, 1), &refusals))
    });
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(configuration: &Configuration, defaults: &AwslogsDefaults) -> Result<Route, Vec<Refusal>> {
    Route::read(configuration, defaults)
}

/// Reads a configuration for an environment.
///
/// # Errors
/// Everything that is wrong with it there.
pub fn read_in(
    configuration: &Configuration,
    environment: &ComputeEnvironmentSpec,
) -> Result<Route, Vec<Refusal>> {
    let route = read(configuration, &defaults(environment))?;
    match route.needs_of_node() {
        Some(needed) if source(environment) == Source::Api => Err(vec![logs::nothing_of_node(needed)]),
        _ => Ok(route),
    }
}

fn anywhere(configuration: &Configuration) -> Result<Route, Vec<Refusal>> {
    let defaults = AwslogsDefaults { region: Some(ANY_REGION.to_owned()), ..AwslogsDefaults::default() };
    read(configuration, &defaults)
}

/// What there is to say of the `logConfiguration`s of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What cannot be honoured anywhere.
    pub faults: Vec<String>,
    /// The options in which a secret stands in plain text.
    pub plain_text: Vec<String>,
}

/// Looks at a definition.
pub fn look(definition: &JobDefinitionSpec) -> Look {
    let mut look = Look::default();
    let mut take = |place: String, wire: Option<&LogConfiguration>| {
        let Some(wire) = wire else { return };
        match anywhere(&configuration(wire)) {
            Err(refusals) => look.faults.push(text::refused(&place, &refusals)),
            Ok(route) => {
                let plain = route.plain_text_secrets().into_iter();
                look.plain_text.extend(plain.map(|option| format!("{place}.options.{option}")));
            }
        }
    };
    let parts = |container, ecs, place: &str| {
        let place = place.to_owned();
        (container, ecs, place)
    };
    let whole = parts(definition.container_properties.as_deref(), definition.ecs_properties.as_deref(), "");
    let groups = definition.node_properties.iter().flat_map(|nodes| &nodes.node_range_properties);
    let groups = groups.enumerate().map(|(at, group)| {
        let place = format!("nodeProperties.nodeRangeProperties[{at}].");
        parts(group.container.as_ref(), group.ecs_properties.as_ref(), &place)
    });
    for (container, ecs, place) in std::iter::once(whole).chain(groups) {
        let name = if place.is_empty() { "containerProperties" } else { "container" };
        let wire = container.and_then(|container| container.log_configuration.as_ref());
        take(format!("{place}{name}.logConfiguration"), wire);
        let tasks = ecs.iter().flat_map(|ecs| &ecs.task_properties).enumerate();
        for (task, at, one) in tasks
            .flat_map(|(task, wire)| wire.containers.iter().enumerate().map(move |(at, one)| (task, at, one)))
        {
            let place =
                format!("{place}ecsProperties.taskProperties[{task}].containers[{at}].logConfiguration");
            take(place, one.log_configuration.as_ref());
        }
    }
    look
}

/// What is wrong with a queue's own `logging`.
pub fn fault_of_queue(queue: &JobQueueSpec) -> Option<String> {
    let wire = queue.logging.as_ref()?.log_configuration.as_ref()?;
    let refusals = anywhere(&configuration(wire)).err()?;
    Some(logs::invalid(&text::refused("logging.logConfiguration", &refusals)))
}

/// What is wrong with an environment's own `logging`.
pub fn fault_of_environment(environment: &ComputeEnvironmentSpec) -> Option<String> {
    let logging = environment.logging.as_ref()?;
    default_of(environment, logging).or_else(|| unknown_driver(logging)).map(|why| logs::invalid(&why))
}

/// The environment's own default must be one that it can honour and allows.
fn default_of(environment: &ComputeEnvironmentSpec, logging: &LoggingPolicy) -> Option<String> {
    let place = "logging.logConfiguration";
    let defaults = defaults(environment);
    // What is stated for the driver awslogs is read by it.
    let bare = || Configuration {
        driver: Driver::Awslogs,
        options: [("awslogs-region".to_owned(), ANY_REGION.to_owned())].into(),
        secret_options: Vec::new(),
    };
    if let Some(Err(why)) = defaults.authority.as_deref().map(locate) {
        return Some(format!("logging.awslogs.caSecret: {why}"));
    }
    if logging.awslogs.is_some()
        && let Err(refusals) = read(&bare(), &defaults)
    {
        return Some(refusals.into_iter().map(|refusal| refusal.why).collect::<Vec<_>>().join("; "));
    }
    let wire = logging.log_configuration.as_ref()?;
    match read_in(&configuration(wire), environment) {
        Err(refusals) => Some(text::refused(place, &refusals)),
        Ok(route) => {
            policy(environment).check(&route, "itself").err().map(|rules| logs::forbidden(place, &rules))
        }
    }
}

fn unknown_driver(logging: &LoggingPolicy) -> Option<String> {
    let is_unknown = |name: &&String| !name.contains('*') && Driver::parse(name).is_none();
    let unknown = logging.allowed_drivers.iter().find(is_unknown)?;
    let known: Vec<_> = Driver::ALL.iter().map(|driver| driver.as_str()).collect();
    Some(format!("logging.allowedDrivers: {unknown:?} is none of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn environment(logging: Value) -> ComputeEnvironmentSpec {
        serde_json::from_value(json!({"type": "MANAGED", "logging": logging})).expect("an environment")
    }

    #[test]
    fn a_definition_is_told_what_cannot_be_and_where_secrets_stand() {
        let splunk = |token: &str| json!({"logDriver": "splunk", "options": {"splunk-url": "https://s:8088", "splunk-token": token}});
        let one = |logging: Value| json!({"image": "i", "logConfiguration": logging});
        let definition = json!({"type": "container", "containerProperties": one(splunk("t"))});
        let look_at =
            |definition: &Value| look(&serde_json::from_value(definition.clone()).expect("a definition"));
        let found = look_at(&definition);
        assert_eq!(found.faults, [""; 0]);
        assert_eq!(found.plain_text, ["containerProperties.logConfiguration.options.splunk-token"]);
        let bad = json!({"logDriver": "splunk", "options": {"splunk-token": "t", "labels": "a"}});
        let task = json!({"taskProperties": [{"containers": [one(splunk("t")), one(bad.clone())]}]});
        let found = look_at(&json!({"type": "container", "ecsProperties": task}));
        assert_eq!(
            found.plain_text,
            ["ecsProperties.taskProperties[0].containers[0].logConfiguration.options.splunk-token"]
        );
        assert!(
            found.faults[0].starts_with(
                "ecsProperties.taskProperties[0].containers[1].logConfiguration.options.labels: "
            ),
            "{found:?}"
        );
        assert!(found.faults[0].contains("logConfiguration.options.splunk-url: it is required"), "{found:?}");
        let ranges = json!([{"targetNodes": "0:", "container": one(bad)}]);
        let nodes = json!({"numNodes": 1, "mainNode": 0, "nodeRangeProperties": ranges});
        let found = look_at(&json!({"type": "multinode", "nodeProperties": nodes}));
        assert!(
            found.faults[0].starts_with(
                "nodeProperties.nodeRangeProperties[0].container.logConfiguration.options.labels"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn queues_and_environments_are_told_of_their_own() {
        let queue = |logging: Value| {
            let queue = json!({"priority": 1, "logging": logging});
            fault_of_queue(&serde_json::from_value::<JobQueueSpec>(queue).expect("a queue"))
        };
        assert_eq!(
            queue(json!({"logConfiguration": {"logDriver": "awslogs"}})),
            None,
            "a region may come later"
        );
        let fault = queue(json!({"logConfiguration": {"logDriver": "splunk"}})).expect("a fault");
        assert!(fault.contains("logging.logConfiguration.options.splunk-token: it is required"), "{fault}");
        for (logging, want) in [
            (json!({}), None),
            (json!({"awslogs": {"region": "eu-west-1"}, "logConfiguration": {"logDriver": "awslogs"}}), None),
            (
                json!({"logConfiguration": {"logDriver": "awslogs"}}),
                Some("options.awslogs-region: it is required"),
            ),
            (json!({"awslogs": {"endpoint": "nowhere"}}), Some("logging.awslogs.endpoint")),
            (json!({"awslogs": {"caSecret": "a:"}}), Some("logging.awslogs.caSecret: ")),
            (json!({"source": "API", "logConfiguration": {"logDriver": "stdout"}}), None),
            (
                json!({"source": "API", "logConfiguration": {"logDriver": "json-file"}}),
                Some(
                    "logging.logConfiguration.logDriver: json-file writes into a folder of the node, of which pods see \
                     nothing where the environment has logging.source: API",
                ),
            ),
            (
                json!({"allowedDrivers": ["splnk"]}),
                Some("logging.allowedDrivers: \"splnk\" is none of awslogs"),
            ),
            (json!({"allowedDrivers": ["s*"]}), None),
            (
                json!({"logConfiguration": {"logDriver": "json-file"}}),
                Some(
                    "logging.logConfiguration: logging.allowedDrivers of ComputeEnvironment itself does not allow the log \
                     driver json-file",
                ),
            ),
            (json!({"allowedDrivers": ["json-file"], "logConfiguration": {"logDriver": "json-file"}}), None),
            (
                json!({"allowedDrivers": ["awslogs"], "logConfiguration": {"logDriver": "stdout"}}),
                Some("does not allow the log driver stdout"),
            ),
        ] {
            let fault = fault_of_environment(&environment(logging.clone()));
            match (want, &fault) {
                (None, None) => {}
                (Some(want), Some(fault)) if fault.contains(want) => {}
                _ => panic!("{logging}: {fault:?}"),
            }
        }
    }
}
