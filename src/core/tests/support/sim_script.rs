//! The language of the scripts: one line, one happening.
//!
//! ```text
//! environment compute-0 maxvCpus=32 nodeLostTimeoutSeconds=120
//! queue queue-0 priority=1 environments=compute-0 maxRunning=4 strictFencing=true
//! definition randomEC attempts=10 vcpus=2 timeout=60s: onExitCode 1 RETRY, onReason * EXIT
//! node spot-1 4 vCPUs in compute-0
//! submit job-1 randomEC to queue-0
//! bind job-1 spot-1                    container starts job-1      container exits job-1 1
//! pull fails job-1: not found          kubelet rejects job-1       kubelet stops job-1
//! drain spot-1                         power off spot-1            remove node spot-1
//! terminate job-1: enough              cancel job-1: enough        delete queue queue-0
//! user deletes pod of job-1            user force-deletes pod of job-1
//! user removes finalizer of job-1      policy refuses job-1: no
//! close compute-0                      open compute-0              wait 60s
//! API is slow                          API answers                 API is back
//! scheduler overtakes job-1 spot-1
//! operator stops                       operator starts             operator stops after 1 effects
//! leader pauses after 1 effects        old leader resumes
//! ```
//!
//! A leader that pauses is in the middle of a write; another one takes over at once. When the old one
//! resumes, that write arrives.
//!
//! While the API is slow, creates are sent and not carried out until it answers. Once it is back,
//! new ones are carried out at once, while those of a stopped operator still hang somewhere.

use batchyard_core::job::decide::Deletion;
use batchyard_core::job::record::RetryAction;
use batchyard_core::job::retry::{EvaluateOnExit, RetryStrategy};
use batchyard_core::reason;
use jiff::SignedDuration;

use super::sim_operator::{Definition, EnvironmentSpec, QueueSpec, SimJob, World};

/// Applies one line; the operator has not seen it yet. An error means that it cannot happen now.
pub(crate) fn apply(world: &mut World, line: &str) -> Result<(), String> {
    let (head, tail) = line.split_once(": ").unwrap_or((line, ""));
    let words: Vec<_> = head.split_whitespace().collect();
    match words.as_slice() {
        ["environment" | "queue" | "definition" | "node" | "submit", ..] => set_up(world, &words, tail),
        ["terminate" | "cancel" | "user" | "policy" | "delete" | "close" | "open", ..] => {
            person(world, &words, tail)
        }
        ["wait", duration] => {
            world.wait(seconds(duration)?);
            Ok(())
        }
        ["API", "is", "slow"] => {
            world.slow = true;
            world.was_slow = true;
            Ok(())
        }
        ["API", "is", "back"] => {
            world.slow = false;
            Ok(())
        }
        ["scheduler", "overtakes", job, node] => {
            world.overtakes = Some(((*job).to_owned(), (*node).to_owned()));
            Ok(())
        }
        ["API", "answers"] => {
            world.answer();
            Ok(())
        }
        ["operator", "stops"] => {
            world.stop();
            Ok(())
        }
        ["operator", "stops", "after", count, "effects"] => {
            world.crash_before = Some(world.effects + number::<usize>(count)?);
            world.stay_down = true;
            Ok(())
        }
        ["leader", "pauses", "after", count, "effects"] => {
            world.pause_before = Some(world.effects + number::<usize>(count)?);
            Ok(())
        }
        ["old", "leader", "resumes"] => world.resume(),
        ["operator", "starts"] => {
            world.down = false;
            Ok(())
        }
        _ => cluster(world, &words, tail),
    }
}

fn set_up(world: &mut World, words: &[&str], tail: &str) -> Result<(), String> {
    match *words {
        ["environment", name, ref options @ ..] => {
            let mut spec = EnvironmentSpec::default();
            for option in options {
                match option.split_once('=').ok_or("an option is name=value")? {
                    ("maxvCpus", value) => spec.max_vcpus = Some(number(value)?),
                    ("nodeLostTimeoutSeconds", value) => spec.node_lost = Some(seconds(value)?),
                    _ => return Err(format!("no such option: {option}")),
                }
            }
            world.environments.insert(name.to_owned(), spec);
        }
        ["queue", name, ref options @ ..] => {
            let mut spec = QueueSpec::default();
            for option in options {
                match option.split_once('=').ok_or("an option is name=value")? {
                    ("priority", value) => spec.priority = number(value)?,
                    ("strictFencing", value) => spec.strict_fencing = value == "true",
                    ("maxRunning", value) => spec.max_running = Some(number(value)?),
                    ("environments", value) => {
                        spec.environments = value.split(',').map(str::to_owned).collect()
                    }
                    _ => return Err(format!("no such option: {option}")),
                }
            }
            world.queues.insert(name.to_owned(), spec);
        }
        ["definition", name, ref options @ ..] => {
            let definition = definition(options, tail)?;
            world.definitions.insert(name.to_owned(), definition);
        }
        ["node", name, vcpus, "vCPUs", "in", environment] if !world.cluster.nodes.contains_key(name) => {
            world.cluster.add_node(name, number(vcpus)?, environment);
        }
        ["submit", name, definition, "to", queue] => submit(world, name, definition, queue)?,
        ["node", name, ..] => return Err(format!("{name} cannot be added")),
        _ => return Err("cannot be read".into()),
    }
    Ok(())
}

fn submit(world: &mut World, name: &str, definition: &str, queue: &str) -> Result<(), String> {
    if world.jobs.contains_key(name) {
        return Err(format!("{name} exists"));
    }
    let job = SimJob {
        uid: format!("{:08x}-0000", world.jobs.len() + 1),
        definition: definition.to_owned(),
        queue: queue.to_owned(),
        created_at: world.cluster.now,
        terminate: None,
        cancel: None,
        stop: None,
        record: Default::default(),
        version: 0,
    };
    world.jobs.insert(name.to_owned(), job);
    Ok(())
}

fn definition(options: &[&str], tail: &str) -> Result<Definition, String> {
    let strategy = RetryStrategy { attempts: 1, evaluate_on_exit: Vec::new() };
    let mut definition = Definition { strategy, timeout: None, vcpus: 2 };
    for option in options {
        match option.trim_end_matches(':').split_once('=').ok_or("an option is name=value")? {
            ("attempts", value) => definition.strategy.attempts = number(value)?,
            ("vcpus", value) => definition.vcpus = number(value)?,
            ("timeout", value) => definition.timeout = Some(seconds(value)?),
            _ => return Err(format!("no such option: {option}")),
        }
    }
    for entry in tail.split(", ").filter(|entry| !entry.is_empty()) {
        definition.strategy.evaluate_on_exit.push(evaluate_on_exit(entry)?);
    }
    Ok(definition)
}

/// `onStatusReason Host EC2* RETRY`
fn evaluate_on_exit(text: &str) -> Result<EvaluateOnExit, String> {
    let (condition, rest) = text.split_once(' ').ok_or("an entry is a condition, a pattern and an action")?;
    let (pattern, action) =
        rest.rsplit_once(' ').ok_or("an entry is a condition, a pattern and an action")?;
    let action = match action {
        "RETRY" => RetryAction::Retry,
        "EXIT" => RetryAction::Exit,
        _ => return Err(format!("no such action: {action}")),
    };
    let when = |name: &str| (condition == name).then(|| pattern.to_owned());
    let entry = EvaluateOnExit {
        on_status_reason: when("onStatusReason"),
        on_reason: when("onReason"),
        on_exit_code: when("onExitCode"),
        action,
    };
    let stated = [&entry.on_status_reason, &entry.on_reason, &entry.on_exit_code].iter().any(|c| c.is_some());
    if stated { Ok(entry) } else { Err(format!("no such condition: {condition}")) }
}

/// What people do.
fn person(world: &mut World, words: &[&str], tail: &str) -> Result<(), String> {
    let missing = || "no such object".to_owned();
    match *words {
        [order @ ("terminate" | "cancel"), job] => {
            let job = world.jobs.get_mut(job).ok_or_else(missing)?;
            let member = if order == "cancel" { &mut job.cancel } else { &mut job.terminate };
            // Once set, it stays.
            member.get_or_insert_with(|| tail.to_owned());
            job.version += 1;
        }
        ["policy", "refuses", job] => _ = world.policy.insert(job.to_owned(), tail.to_owned()),
        ["close", environment] => world.environments.get_mut(environment).ok_or_else(missing)?.closed = true,
        ["open", environment] => world.environments.get_mut(environment).ok_or_else(missing)?.closed = false,
        ["delete", "queue", queue] => {
            world.queues.remove(queue).ok_or_else(missing)?;
            for job in world.jobs.values_mut().filter(|j| j.queue == queue) {
                job.stop = Some(reason::QUEUE_DELETED.to_owned());
            }
        }
        ["user", deed, .., "of", job] => {
            let pod = world.cluster.pod_of(job, |_| true)?;
            let (name, uid) = (pod.view.name.clone(), pod.view.uid.clone());
            let changed = match deed {
                "deletes" => world.cluster.delete(&name, &uid, Deletion::Graceful),
                "force-deletes" => world.cluster.delete(&name, &uid, Deletion::Forced),
                "removes" => world.cluster.release(&name, &uid),
                _ => return Err("cannot be read".into()),
            };
            return if changed { Ok(()) } else { Err("changes nothing".into()) };
        }
        _ => return Err("cannot be read".into()),
    }
    Ok(())
}

/// What the cluster does.
fn cluster(world: &mut World, words: &[&str], tail: &str) -> Result<(), String> {
    let cluster = &mut world.cluster;
    match *words {
        ["bind", job, node] => cluster.bind(job, node),
        ["container", "starts", job] => cluster.start(job),
        ["container", "exits", job, code] => cluster.exit(job, number(code)?),
        ["kubelet", "stops", job] => cluster.stop_unstarted(job),
        ["kubelet", "rejects", job] => cluster.reject(job, "OutOfcpu"),
        ["pull", "fails", job] => cluster.pull_fails(job, tail),
        ["drain", node] => cluster.drain(node),
        ["power", "off", node] => cluster.power_off(node),
        ["remove", "node", node] => cluster.remove_node(node),
        ["PodGC", "runs"] => {
            cluster.collect_garbage();
            Ok(())
        }
        _ => Err("cannot be read".into()),
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

fn seconds(text: &str) -> Result<SignedDuration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("not a duration: {text}")),
    };
    Ok(SignedDuration::from_secs(number::<i64>(digits)? * per))
}
