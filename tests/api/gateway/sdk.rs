//! The official SDK for Rust against the door: the answer of every operation in its types, errors as its types, and the
//! tries of a call whose answer was lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use aws_sdk_batch::config::retry::RetryConfig;
use aws_sdk_batch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_batch::error::ProvideErrorMetadata as _;
use aws_sdk_batch::operation::submit_job::SubmitJobError;
use aws_sdk_batch::types::{
    CeState, CeType, ComputeEnvironmentOrder, ComputeResource, ComputeResourceUpdate,
    ConsumableResourceProperties, ConsumableResourceRequirement, ContainerOverrides, ContainerProperties,
    CrType, FairsharePolicy, JobDefinitionType, JobDependency, JobStatus, JqState, JqStatus, KeyValuesPair,
    ResourceRequirement, ResourceType, RetryStrategy, ShareAttributes,
};
use aws_sdk_batch::{Client, Config};
use batchyard::crd::BatchJob;
use batchyard::k8s::access_key::AccessKey;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use super::door::{Door, REGION, caller, everything, known};
use super::relay::Relay;
use crate::operator::world::World;
use crate::support::wait;

/// A client as programs make one; over HTTP, since it is loopback.
fn client(address: SocketAddr, key: &AccessKey) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(format!("http://{address}"))
        .credentials_provider(Credentials::new(&key.id, key.secret.reveal(), None, None, "test"))
        .retry_config(RetryConfig::standard())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// A world, a door and a client of it.
struct Sdk {
    world: World,
    door: Door,
    key: AccessKey,
    batch: Client,
}

impl Sdk {
    async fn of(name: &str) -> Self {
        let world = World::with_queue(name).await;
        // Whose jobs wait for ever, whatever nodes there are for others.
        world.environment("nowhere", json!({})).await;
        let door = Door::open(&[]).await;
        let key = caller(&world.user, &world.namespace, "caller", everything()).await;
        known(&door, &key).await;
        let batch = client(door.address, &key);
        Self { world, door, key, batch }
    }

    /// Waits until something is found.
    async fn until<T, F>(&self, what: &str, ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        wait::answer(what, &self.world.namespace, ask).await
    }

    /// Waits until a job has a status.
    async fn becomes(&self, id: &str, status: &JobStatus) {
        self.until(&format!("{id} to be {status}"), || async {
            let told = self.batch.describe_jobs().jobs(id).send().await.expect("jobs");
            (told.jobs()[0].status() == Some(status)).then_some(())
        })
        .await;
    }

    /// How often the door answered operations well, as its metrics tell.
    fn answered(&self, operation: &str) -> u64 {
        let metrics = self.door.metrics();
        let named = format!("operation=\"{operation}\"");
        let lines = metrics.lines().filter(|line| line.contains(&named) && line.contains("code=\"ok\""));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).max().unwrap_or(0)
    }
}

fn container() -> ContainerProperties {
    let needs = |what, value| ResourceRequirement::builder().r#type(what).value(value).build();
    ContainerProperties::builder()
        .image("busybox")
        .command("true")
        .resource_requirements(needs(ResourceType::Vcpu, "1"))
        .resource_requirements(needs(ResourceType::Memory, "64"))
        .build()
}

fn filter(name: &str, value: &str) -> KeyValuesPair {
    KeyValuesPair::builder().name(name).values(value).build()
}

/// ARNs of what the first half of the test makes, for the second one.
struct Made {
    environment: String,
    policy: String,
    queue: String,
    tokens: String,
}

#[tokio::test]
async fn each_operation_answers_in_the_sdks_types() {
    let sdk = Sdk::of("door-sdk").await;
    let environment = environments(&sdk).await;
    let policy = policies(&sdk).await;
    let queue = queues(&sdk, &policy).await;
    let tokens = tokens(&sdk).await;
    let made = Made { environment, policy, queue, tokens };
    definitions(&sdk).await;
    waiting_jobs(&sdk, &made).await;
    ended_jobs(&sdk).await;
    end_of_many(&sdk).await;
    tags(&sdk, &made).await;
    away(&sdk, &made).await;
    for operation in documented() {
        assert!(sdk.answered(&operation) > 0, "{operation} was not called, or never answered well");
    }
}

/// The operations that docs/aws-api.md says there are.
fn documented() -> BTreeSet<String> {
    let docs = include_str!("../../../docs/aws-api.md");
    let chapter = docs.split("\n## Operations\n").nth(1).and_then(|text| text.split("\n## ").next());
    let rows = chapter.expect("a chapter about operations").lines().filter(|line| line.starts_with("| "));
    let names = rows.skip(1).flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(','));
    let names: BTreeSet<String> =
        names.map(|name| name.trim().to_owned()).filter(|name| !name.starts_with('-')).collect();
    assert_eq!(names.len(), 33, "{names:?}");
    names
}

async fn environments(sdk: &Sdk) -> String {
    let resources = ComputeResource::builder()
        .r#type(CrType::Ec2)
        .minv_cpus(0)
        .maxv_cpus(8)
        .instance_types("optimal")
        .subnets("subnet-1")
        .security_group_ids("sg-1")
        .instance_role("ecsInstanceRole")
        .build();
    let create = sdk.batch.create_compute_environment();
    let create = create.compute_environment_name("Sdk_CE").r#type(CeType::Managed).tags("team", "a");
    let made = create.compute_resources(resources).send().await.expect("an environment");
    assert_eq!(made.compute_environment_name(), Some("Sdk_CE"));
    let arn = made.compute_environment_arn().expect("an ARN").to_owned();
    assert!(
        arn.starts_with("arn:aws:batch:us-east-1:") && arn.ends_with(":compute-environment/Sdk_CE"),
        "{arn}"
    );

    let change = ComputeResourceUpdate::builder().maxv_cpus(16).build();
    let update = sdk.batch.update_compute_environment().compute_environment("Sdk_CE");
    let updated = update.compute_resources(change).send().await.expect("a change");
    assert_eq!(updated.compute_environment_arn(), Some(arn.as_str()));

    let describe = sdk.batch.describe_compute_environments().compute_environments(&arn);
    let told = describe.send().await.expect("environments");
    let [one] = told.compute_environments() else { panic!("{told:?}") };
    assert_eq!(
        (one.compute_environment_name(), one.compute_environment_arn()),
        (Some("Sdk_CE"), Some(arn.as_str()))
    );
    assert_eq!((one.r#type(), one.state()), (Some(&CeType::Managed), Some(&CeState::Enabled)));
    assert!(one.status().is_some() && one.uuid().is_some(), "{one:?}");
    assert_eq!(one.tags().and_then(|tags| tags.get("team")).map(String::as_str), Some("a"));
    let resources = one.compute_resources().expect("what it is made of");
    assert_eq!((resources.r#type(), resources.maxv_cpus()), (Some(&CrType::Ec2), Some(16)));
    assert_eq!(
        (resources.instance_types(), resources.subnets()),
        (&["optimal".to_owned()][..], &["subnet-1".to_owned()][..])
    );
    arn
}

async fn policies(sdk: &Sdk) -> String {
    let share = ShareAttributes::builder().share_identifier("A*").weight_factor(0.5).build();
    let fair = |decay| {
        FairsharePolicy::builder().share_decay_seconds(decay).share_distribution(share.clone()).build()
    };
    let create = sdk.batch.create_scheduling_policy().name("Sdk_Fair").fairshare_policy(fair(60));
    let made = create.send().await.expect("a policy");
    let arn = made.arn().expect("an ARN").to_owned();
    assert!(made.name() == Some("Sdk_Fair") && arn.ends_with(":scheduling-policy/Sdk_Fair"), "{made:?}");
    let listed = sdk.batch.list_scheduling_policies().send().await.expect("policies");
    assert!(listed.scheduling_policies().iter().any(|one| one.arn() == Some(&arn)), "{listed:?}");
    let update = sdk.batch.update_scheduling_policy().arn(&arn);
    update.fairshare_policy(fair(90)).send().await.expect("a change");
    let told = sdk.batch.describe_scheduling_policies().arns(&arn).send().await.expect("policies");
    let policy = told.scheduling_policies()[0].fairshare_policy().expect("shares");
    assert_eq!(policy.share_decay_seconds(), Some(90));
    let share = &policy.share_distribution()[0];
    assert_eq!((share.share_identifier(), share.weight_factor()), (Some("A*"), Some(0.5)));
    arn
}

async fn queues(sdk: &Sdk, policy: &str) -> String {
    let order = ComputeEnvironmentOrder::builder().order(1).compute_environment("nowhere").build();
    let create = sdk.batch.create_job_queue().job_queue_name("Sdk_Queue").priority(3).tags("q", "1");
    let made =
        create.compute_environment_order(order).scheduling_policy_arn(policy).send().await.expect("a queue");
    let arn = made.job_queue_arn().expect("an ARN").to_owned();
    assert!(made.job_queue_name() == Some("Sdk_Queue") && arn.ends_with(":job-queue/Sdk_Queue"), "{made:?}");
    let updated =
        sdk.batch.update_job_queue().job_queue("Sdk_Queue").priority(7).send().await.expect("a change");
    assert_eq!((updated.job_queue_name(), updated.job_queue_arn()), (Some("Sdk_Queue"), Some(arn.as_str())));
    let told = sdk
        .until("a VALID queue", || async {
            let told = sdk.batch.describe_job_queues().job_queues(&arn).send().await.expect("queues");
            (told.job_queues()[0].status() == Some(&JqStatus::Valid)).then_some(told)
        })
        .await;
    let [one] = told.job_queues() else { panic!("{told:?}") };
    assert_eq!((one.job_queue_name(), one.job_queue_arn()), (Some("Sdk_Queue"), Some(arn.as_str())));
    assert_eq!((one.state(), one.priority()), (Some(&JqState::Enabled), Some(7)));
    assert_eq!(one.scheduling_policy_arn(), Some(policy));
    let order = &one.compute_environment_order()[0];
    assert_eq!(order.order(), Some(1));
    assert!(order.compute_environment().is_some_and(|arn| arn.ends_with("/nowhere")), "{order:?}");
    arn
}

async fn tokens(sdk: &Sdk) -> String {
    let create = sdk.batch.create_consumable_resource().consumable_resource_name("Seat");
    let made = create.total_quantity(3).resource_type("REPLENISHABLE").send().await.expect("tokens");
    let arn = made.consumable_resource_arn().expect("an ARN").to_owned();
    assert!(
        made.consumable_resource_name() == Some("Seat") && arn.ends_with(":consumable-resource/Seat"),
        "{made:?}"
    );
    let update = sdk.batch.update_consumable_resource().consumable_resource("Seat");
    let updated = update.operation("ADD").quantity(2).send().await.expect("more of them");
    assert_eq!((updated.total_quantity(), updated.consumable_resource_arn()), (Some(5), Some(arn.as_str())));
    let told =
        sdk.batch.describe_consumable_resource().consumable_resource(&arn).send().await.expect("tokens");
    assert_eq!(
        (told.consumable_resource_name(), told.resource_type()),
        (Some("Seat"), Some("REPLENISHABLE"))
    );
    assert_eq!(
        (told.total_quantity(), told.in_use_quantity(), told.available_quantity()),
        (Some(5), Some(0), Some(5))
    );
    assert!(told.created_at().is_some(), "{told:?}");
    let listed = sdk.batch.list_consumable_resources().send().await.expect("tokens");
    let [one] = listed.consumable_resources() else { panic!("{listed:?}") };
    assert_eq!((one.consumable_resource_name(), one.total_quantity()), (Some("Seat"), Some(5)));
    arn
}

async fn definitions(sdk: &Sdk) {
    let register = || {
        let register = sdk.batch.register_job_definition().job_definition_name("Sdk_JD");
        let register = register.r#type(JobDefinitionType::Container).container_properties(container());
        register.retry_strategy(RetryStrategy::builder().attempts(2).build()).parameters("p", "v").send()
    };
    let (first, second) = (register().await.expect("a definition"), register().await.expect("a second one"));
    assert_eq!(
        (first.job_definition_name(), first.revision(), second.revision()),
        (Some("Sdk_JD"), Some(1), Some(2))
    );
    assert!(
        second.job_definition_arn().is_some_and(|arn| arn.ends_with(":job-definition/Sdk_JD:2")),
        "{second:?}"
    );
    sdk.batch.deregister_job_definition().job_definition("Sdk_JD:2").send().await.expect("no second one");
    let pages =
        sdk.batch.describe_job_definitions().job_definition_name("Sdk_JD").into_paginator().page_size(1);
    let told: Vec<_> = pages.items().send().try_collect().await.expect("definitions");
    let states: Vec<_> = told.iter().map(|one| (one.revision(), one.status())).collect();
    assert_eq!(states, [(Some(2), Some("INACTIVE")), (Some(1), Some("ACTIVE"))]);
    let one = &told[1];
    assert_eq!((one.job_definition_name(), one.r#type()), (Some("Sdk_JD"), Some("container")));
    assert_eq!(one.retry_strategy().and_then(RetryStrategy::attempts), Some(2));
    let (told, sent) = (one.container_properties().expect("a container"), container());
    assert_eq!((told.image(), told.command()), (sent.image(), sent.command()));
    assert_eq!(told.resource_requirements(), sent.resource_requirements());
    assert_eq!(one.parameters().map(|all| all["p"].as_str()), Some("v"));
}

/// Jobs that find no room: the front of a queue, filters, tokens, dependencies, and how they are ended.
async fn waiting_jobs(sdk: &Sdk, made: &Made) {
    let wants = ConsumableResourceRequirement::builder().consumable_resource("Seat").quantity(1).build();
    let wants = ConsumableResourceProperties::builder().consumable_resource_list(wants).build();
    let submit = sdk.batch.submit_job().job_name("First").job_queue("Sdk_Queue").job_definition("Sdk_JD");
    let submit = submit.share_identifier("A1").consumable_resource_properties_override(wants);
    let first = submit.send().await.expect("a job");
    let (id, arn) = (first.job_id().expect("an id"), first.job_arn().expect("an ARN"));
    assert!(first.job_name() == Some("First") && arn.ends_with(&format!(":job/{id}")), "{first:?}");
    let submit = sdk.batch.submit_job().job_name("Second").job_queue(&made.queue).job_definition("Sdk_JD:1");
    let after = JobDependency::builder().job_id(id).build();
    let second = submit.share_identifier("A1").depends_on(after).send().await.expect("another job");
    let second = second.job_id().expect("an id");
    sdk.becomes(id, &JobStatus::Runnable).await;
    sdk.becomes(second, &JobStatus::Pending).await;

    let told = sdk.batch.describe_jobs().jobs(second).jobs(id).send().await.expect("jobs");
    let second_told = told.jobs().iter().find(|job| job.job_id() == Some(second)).expect("the second");
    assert_eq!(second_told.depends_on()[0].job_id(), Some(id));
    let first_told = told.jobs().iter().find(|job| job.job_id() == Some(id)).expect("the first");
    assert_eq!(
        (first_told.job_queue(), first_told.share_identifier()),
        (Some(made.queue.as_str()), Some("A1"))
    );
    assert!(first_told.created_at() > Some(0), "{first_told:?}");
    sdk.until("why it waits", || async {
        let told = sdk.batch.describe_jobs().jobs(id).send().await.expect("jobs");
        told.jobs()[0].status_reason().map(drop)
    })
    .await;

    let front = sdk
        .until("a front of the queue", || async {
            let told =
                sdk.batch.get_job_queue_snapshot().job_queue("Sdk_Queue").send().await.expect("a snapshot");
            told.front_of_queue().filter(|front| !front.jobs().is_empty()).cloned()
        })
        .await;
    assert_eq!(front.jobs()[0].job_arn(), Some(arn));
    assert!(
        front.last_updated_at().is_some() && front.jobs()[0].earliest_time_at_position().is_some(),
        "{front:?}"
    );
    let held = sdk.batch.list_jobs_by_consumable_resource().consumable_resource(&made.tokens);
    let held = held.filters(filter("JOB_NAME", "First")).send().await.expect("who wants tokens");
    let [one] = held.jobs() else { panic!("{held:?}") };
    assert_eq!((one.job_arn(), one.quantity(), one.job_status()), (Some(arn), Some(1), Some("RUNNABLE")));
    let listed = sdk.batch.list_jobs().job_queue("Sdk_Queue").filters(filter("JOB_NAME", "sec*"));
    let listed = listed.send().await.expect("jobs");
    let [one] = listed.job_summary_list() else { panic!("{listed:?}") };
    assert_eq!(
        (one.job_id(), one.job_name(), one.status()),
        (Some(second), Some("Second"), Some(&JobStatus::Pending))
    );

    sdk.batch.cancel_job().job_id(second).reason("no more").send().await.expect("its end");
    sdk.batch.terminate_job().job_id(id).reason("enough").send().await.expect("its end");
    sdk.becomes(second, &JobStatus::Failed).await;
    sdk.becomes(id, &JobStatus::Failed).await;
    let told = sdk.batch.describe_jobs().jobs(second).jobs(id).send().await.expect("jobs");
    let ends = told.jobs().iter().map(|job| (job.status_reason(), job.is_cancelled(), job.is_terminated()));
    let ends: BTreeSet<_> = ends.collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.contains(&(Some("no more"), Some(true), Some(false))), "{ends:?}");
    assert!(ends.contains(&(Some("enough"), Some(false), Some(true))), "{ends:?}");
}

/// A job that runs: its attempts, and what is told of its container.
async fn ended_jobs(sdk: &Sdk) {
    let overrides = ContainerOverrides::builder().command("echo").command("hi").build();
    let submit = sdk.batch.submit_job().job_name("Runs").job_queue("queue").job_definition("Sdk_JD");
    let made = submit.container_overrides(overrides).tags("t", "1").send().await.expect("a job");
    let id = made.job_id().expect("an id");
    let fields = ListParams::default().fields(&format!("spec.jobId={id}"));
    let found = sdk.world.api::<BatchJob>().list(&fields).await.expect("a list").items;
    let object = sdk.world.job(&found[0].name_any());
    object.attempt(1, 1).await;
    object.attempt(2, 0).await;
    sdk.becomes(id, &JobStatus::Succeeded).await;
    let told = sdk.batch.describe_jobs().jobs(id).send().await.expect("jobs");
    let [job] = told.jobs() else { panic!("{told:?}") };
    assert!(job.job_definition().is_some_and(|arn| arn.ends_with("Sdk_JD:1")), "{job:?}");
    assert!(job.started_at() > Some(0) && job.stopped_at() >= job.started_at(), "{job:?}");
    assert_eq!(job.tags().map(|tags| tags["t"].as_str()), Some("1"));
    let container = job.container().expect("a container");
    assert_eq!((container.exit_code(), container.image()), (Some(0), Some("busybox")));
    assert_eq!(container.command(), ["echo", "hi"]);
    assert!(container.task_arn().is_some_and(|arn| arn.contains(":task/")), "{container:?}");
    assert!(
        container.log_stream_name().is_some_and(|name| name.starts_with("Sdk_JD/default/")),
        "{container:?}"
    );
    let attempts = job.attempts();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].status_reason(), Some("Essential container in task exited"));
    assert!(attempts[0].started_at() > Some(0) && attempts[0].stopped_at() > Some(0), "{attempts:?}");
    let codes: Vec<_> = attempts.iter().map(|one| one.container().and_then(|one| one.exit_code())).collect();
    assert_eq!(codes, [Some(1), Some(0)]);
    let listed = sdk.batch.list_jobs().job_queue("queue").job_status(JobStatus::Succeeded).send();
    let listed = listed.await.expect("jobs");
    let [one] = listed.job_summary_list() else { panic!("{listed:?}") };
    assert_eq!((one.job_id(), one.container().and_then(|one| one.exit_code())), (Some(id), Some(0)));
}

async fn end_of_many(sdk: &Sdk) {
    let submit = || async {
        let submit = sdk.batch.submit_job().job_name("Many").job_queue("Sdk_Queue").job_definition("Sdk_JD");
        let made = submit.share_identifier("A1").send().await.expect("a job");
        let id = made.job_id().expect("an id").to_owned();
        sdk.becomes(&id, &JobStatus::Runnable).await;
        id
    };
    let (one, other) = (submit().await, submit().await);
    let ended = sdk.batch.cancel_jobs().jobs(&one).reason("these").send().await.expect("an end");
    assert_eq!((ended.successful(), ended.errors().len()), (&[one.clone()][..], 0));
    let ended = sdk.batch.terminate_jobs().jobs(&other).reason("those").send().await.expect("an end");
    assert_eq!((ended.successful(), ended.errors().len()), (&[other.clone()][..], 0));
    sdk.becomes(&one, &JobStatus::Failed).await;
    sdk.becomes(&other, &JobStatus::Failed).await;
}

async fn tags(sdk: &Sdk, made: &Made) {
    for arn in [&made.environment, &made.policy, &made.queue, &made.tokens] {
        let tag = sdk.batch.tag_resource().resource_arn(arn).tags("new one", "v=1").tags("other", "");
        tag.send().await.expect("tags");
        sdk.batch.untag_resource().resource_arn(arn).tag_keys("other").send().await.expect("one less");
        let told = sdk.batch.list_tags_for_resource().resource_arn(arn).send().await.expect("tags");
        let told = told.tags().expect("tags");
        assert!(told["new one"] == "v=1" && !told.contains_key("other"), "{told:?}");
    }
}

/// In the order that AWS wants.
async fn away(sdk: &Sdk, made: &Made) {
    let off = sdk.batch.update_job_queue().job_queue("Sdk_Queue").state(JqState::Disabled);
    off.send().await.expect("a DISABLED queue");
    sdk.batch.delete_job_queue().job_queue("Sdk_Queue").send().await.expect("no queue");
    sdk.until("the end of the queue", || async {
        let told = sdk.batch.describe_job_queues().job_queues("Sdk_Queue").send().await.expect("queues");
        told.job_queues().is_empty().then_some(())
    })
    .await;
    let off = sdk.batch.update_compute_environment().compute_environment("Sdk_CE").state(CeState::Disabled);
    off.send().await.expect("a DISABLED environment");
    sdk.batch.delete_compute_environment().compute_environment(&made.environment).send().await.expect("none");
    sdk.batch.delete_scheduling_policy().arn(&made.policy).send().await.expect("no policy");
    sdk.batch.delete_consumable_resource().consumable_resource("Seat").send().await.expect("no tokens");
}

// The relay goes on while this thread waits for a door.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_come_as_the_sdks_types() {
    let sdk = Sdk::of("door-sdk-errors").await;
    let submit =
        |client: &Client| client.submit_job().job_name("j").job_queue("absent").job_definition("d").send();
    let refused = submit(&sdk.batch).await.expect_err("there is no such queue").into_service_error();
    let SubmitJobError::ClientException(told) = &refused else { panic!("{refused:?}") };
    assert_eq!(told.message(), Some("JobQueue absent not found."));
    assert!(refused.meta().extra("aws_request_id").is_some(), "{refused:?}");
    // Nothing that is in the SDK's model, but known by its code.
    let stranger = AccessKey { id: "BYAKNOBODYNOBODYNOBO".to_owned(), ..sdk.key.clone() };
    let denied =
        submit(&client(sdk.door.address, &stranger)).await.expect_err("nobody's key").into_service_error();
    assert_eq!(denied.code(), Some("UnrecognizedClientException"), "{denied:?}");

    // A door whose API server does not answer any more.
    let (cut, door) = Door::behind_a_relay().await;
    known(&door, &sdk.key).await;
    cut.lose(usize::MAX);
    let failed =
        submit(&client(door.address, &sdk.key)).await.expect_err("no API server").into_service_error();
    let SubmitJobError::ServerException(told) = &failed else { panic!("{failed:?}") };
    assert_eq!(told.message(), Some("The Kubernetes API server did not answer in time."));
}

#[tokio::test]
async fn n5_a_lost_answer_makes_the_sdk_try_again_and_nothing_is_done_twice() {
    let sdk = Sdk::of("door-sdk-tries").await;
    let relay = Relay::to(sdk.door.address).await;
    let batch = client(relay.address, &sdk.key);

    relay.lose(1);
    let register =
        batch.register_job_definition().job_definition_name("once").r#type(JobDefinitionType::Container);
    let made =
        register.container_properties(container()).send().await.expect("a definition at the second try");
    assert_eq!((made.revision(), relay.left(), sdk.answered("RegisterJobDefinition")), (Some(1), 0, 2));

    relay.lose(2);
    let submit = batch.submit_job().job_name("once").job_queue("queue").job_definition("once");
    let made = submit.send().await.expect("a job at the third try");
    assert_eq!((relay.left(), sdk.answered("SubmitJob")), (0, 3));
    let jobs = sdk.world.api::<BatchJob>().list(&ListParams::default()).await.expect("a list").items;
    let ids: Vec<_> = jobs.iter().map(|job| job.spec.job_id.as_deref()).collect();
    assert_eq!(ids, [made.job_id()]);

    let create = batch.create_consumable_resource().consumable_resource_name("seat").total_quantity(3);
    create.send().await.expect("tokens");
    relay.lose(1);
    let update = batch.update_consumable_resource().consumable_resource("seat").operation("ADD").quantity(2);
    let changed = update.send().await.expect("more at the second try");
    assert_eq!(
        (changed.total_quantity(), relay.left(), sdk.answered("UpdateConsumableResource")),
        (Some(5), 0, 2)
    );
}
