//! CloudWatch Logs on the same door, as much of it as tools need that fetch what a job wrote: the output of the pods that
//! there are, read from their nodes. Nothing is stored here, and nothing can be written.
//!
//! `streams` says which there are, `read` opens one, `lines` makes events of it, `events` and `filter` are the two ways to
//! ask for those.

mod events;
mod filter;
mod lines;
mod pattern;
mod read;
mod streams;

use kube::runtime::reflector::ObjectRef;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, input, millis};
use super::failure::Failure;
use super::page::{open, seal};
use read::broken;
use streams::Stream;

/// What begins the name of an operation in its header.
pub(super) const TARGET: &str = "Logs_20140328.";

/// The operations that there are.
pub(super) const OPERATIONS: &[&str] =
    &["DescribeLogGroups", "DescribeLogStreams", "FilterLogEvents", "GetLogEvents"];

/// So many groups or streams an answer has at most.
const PAGE: usize = 50;

/// Carries out an operation.
///
/// # Errors
/// When it cannot be carried out.
pub(super) async fn serve(call: &Call, body: Value) -> Result<Value, Failure> {
    if !call.gateway.settings.logs {
        return Err(Failure::unknown("CloudWatch Logs is not served here: gateway.logs.enabled is false."));
    }
    call.may_read_logs().await?;
    match call.operation {
        "DescribeLogGroups" => describe_log_groups(call, body).await,
        "DescribeLogStreams" => describe_log_streams(call, body).await,
        "FilterLogEvents" => filter::filter_log_events(call, body).await,
        "GetLogEvents" => events::get_log_events(call, body).await,
        _ => Err(Failure::unknown("There is no such operation.")),
    }
}

/// The name of a log group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group(String);

impl Group {
    /// Reads which of two members names it, one of which must.
    fn read(call: &Call, name: Option<String>, identifier: Option<String>) -> Result<Self, Failure> {
        match (name, identifier) {
            (Some(name), None) => named("logGroupName", &name),
            (None, Some(identifier)) => Self::identified(call, "logGroupIdentifier", &identifier),
            _ => Err(Failure::client("Exactly one of logGroupName and logGroupIdentifier must be given")),
        }
    }

    /// Reads a name, or an ARN of this account.
    fn identified(call: &Call, member: &str, identifier: &str) -> Result<Self, Failure> {
        if !identifier.starts_with("arn:") {
            return named(member, identifier);
        }
        let own = call.account.log_group("");
        match identifier.strip_prefix(&own) {
            Some(name) => named(member, name.strip_suffix(":*").unwrap_or(name)),
            None => Err(Failure::client(format!("{member}: {identifier} is no log group of this account"))),
        }
    }
}

fn named(member: &str, name: &str) -> Result<Group, Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '#');
    match (1..=512).contains(&name.len()) && name.chars().all(allowed) {
        true => Ok(Group(name.to_owned())),
        false => Err(Failure::client(format!(
            "{member}: {name:?} is no log group: 1 to 512 letters, digits and . - _ / #"
        ))),
    }
}

/// A time and another one, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    start: Option<i64>,
    end: Option<i64>,
}

impl Window {
    fn read(start: Option<i64>, end: Option<i64>) -> Result<Self, Failure> {
        for (member, time) in [("startTime", start), ("endTime", end)] {
            if time.is_some_and(|time| time < 0) {
                return Err(Failure::client(format!("{member} must not be negative")));
            }
        }
        if start.zip(end).is_some_and(|(start, end)| start > end) {
            return Err(Failure::client("startTime must not be after endTime"));
        }
        Ok(Self { start, end })
    }
}

/// How many are wanted, at most so many.
fn limit(asked: Option<i64>, most: usize) -> Result<Option<usize>, Failure> {
    let read = |asked| usize::try_from(asked).ok().filter(|asked| (1..=most).contains(asked));
    asked
        .map(|asked| {
            read(asked).ok_or_else(|| Failure::client(format!("limit must be between 1 and {most}")))
        })
        .transpose()
}

/// The page of a list behind what a token says. The list stands in the order of its keys, or in that order turned round.
fn page<T>(
    list: &str,
    size: usize,
    token: Option<&str>,
    mut entries: Vec<T>,
    (key, descending): (impl Fn(&T) -> String, bool),
) -> Result<(Vec<T>, Option<String>), Failure> {
    if let Some(token) = token {
        let after =
            open(list, token).ok_or_else(|| Failure::client("The specified nextToken is invalid."))?;
        entries.retain(|entry| if descending { key(entry) < after } else { key(entry) > after });
    }
    entries.sort_by_cached_key(&key);
    if descending {
        entries.reverse();
    }
    let has_more = entries.len() > size;
    entries.truncate(size);
    let token = entries.last().filter(|_| has_more).map(|last| seal(list, &key(last)));
    Ok((entries, token))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Groups {
    #[serde(default)]
    account_identifiers: Vec<String>,
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    include_linked_accounts: bool,
    log_group_class: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
}

async fn describe_log_groups(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Groups = input(body)?;
    let size = limit(asked.limit, PAGE)?.unwrap_or(PAGE);
    if asked.include_linked_accounts || !asked.account_identifiers.is_empty() {
        return Err(Failure::client(
            "includeLinkedAccounts, accountIdentifiers: a namespace has no linked accounts",
        ));
    }
    let (prefix, pattern) = (asked.log_group_name_prefix.as_deref(), asked.log_group_name_pattern.as_deref());
    if prefix.is_some() && pattern.is_some() {
        return Err(Failure::client("logGroupNamePrefix and logGroupNamePattern cannot both be given"));
    }
    let others = prefix.is_some() || pattern.is_some() || asked.log_group_class.is_some();
    let only = match &asked.log_group_identifiers {
        Some(_) if others => {
            return Err(Failure::client("logGroupIdentifiers cannot stand beside another choice of groups"));
        }
        Some(list) if list.is_empty() || list.len() > PAGE => {
            return Err(Failure::client(format!("logGroupIdentifiers must have 1 to {PAGE} elements")));
        }
        Some(list) => {
            let read = |one: &String| Group::identified(call, "logGroupIdentifiers", one);
            Some(list.iter().map(read).collect::<Result<Vec<_>, _>>()?)
        }
        None => None,
    };
    let has_class = match asked.log_group_class.as_deref() {
        None | Some("STANDARD") => true,
        Some("INFREQUENT_ACCESS" | "DELIVERY") => false,
        Some(other) => {
            return Err(Failure::client(format!(
                "logGroupClass: {other} is none of STANDARD, INFREQUENT_ACCESS and DELIVERY"
            )));
        }
    };
    let mut groups: Vec<String> = call.groups().await?.into_iter().collect();
    groups.retain(|group| {
        has_class
            && group.starts_with(prefix.unwrap_or_default())
            && group.contains(pattern.unwrap_or_default())
            && only.as_ref().is_none_or(|only| only.iter().any(|one| one.0 == *group))
    });
    let (groups, token) =
        page("log groups", size, asked.next_token.as_deref(), groups, (String::clone, false))?;
    let namespace = call.world().namespaces.get(&ObjectRef::new(call.namespace()));
    let created = namespace.and_then(|found| Some(millis(found.metadata.creation_timestamp.as_ref()?.0)));
    let told = |group: &String| {
        let arn = call.account.log_group(group);
        json!({"logGroupName": group, "creationTime": created, "metricFilterCount": 0, "arn": format!("{arn}:*"),
            "storedBytes": 0, "logGroupClass": "STANDARD", "logGroupArn": arn, "deletionProtectionEnabled": false,
            "bearerTokenAuthenticationEnabled": false})
    };
    Ok(json!({"logGroups": groups.iter().map(told).collect::<Vec<_>>(), "nextToken": token}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Streams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    next_token: Option<String>,
    limit: Option<i64>,
}

async fn describe_log_streams(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Streams = input(body)?;
    let group = Group::read(call, asked.log_group_name, asked.log_group_identifier)?;
    let size = limit(asked.limit, PAGE)?.unwrap_or(PAGE);
    let by_time = match asked.order_by.as_deref() {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") => true,
        Some(other) => {
            return Err(Failure::client(format!(
                "orderBy: {other} is none of LogStreamName and LastEventTime"
            )));
        }
    };
    if by_time && asked.log_stream_name_prefix.is_some() {
        return Err(Failure::client("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let prefix = asked.log_stream_name_prefix.as_deref().unwrap_or_default();
    let streams = call.streams_of(&group, prefix).await?;
    let last = |stream: &Stream| millis(stream.stopped.unwrap_or(call.now));
    let key = |stream: &Stream| match by_time {
        // What still runs is the newest, whenever that is asked.
        true => {
            let last = stream.stopped.map_or(i64::MAX, millis);
            format!("{last:020}/{}", stream.name)
        }
        false => stream.name.clone(),
    };
    let list = format!("log streams {} {by_time} {}", group.0, asked.descending);
    let (streams, token) = page(&list, size, asked.next_token.as_deref(), streams, (key, asked.descending))?;
    let told = |stream: &Stream| {
        let arn = format!("{}:log-stream:{}", call.account.log_group(&group.0), stream.name);
        let (first, last) = (millis(stream.started), last(stream));
        json!({"logStreamName": stream.name, "creationTime": first, "firstEventTimestamp": first,
            "lastEventTimestamp": last, "lastIngestionTime": last, "arn": arn, "storedBytes": 0})
    };
    Ok(json!({"logStreams": streams.iter().map(told).collect::<Vec<_>>(), "nextToken": token}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_pages_in_both_directions() {
        let all: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
        for descending in [false, true] {
            let (mut seen, mut token) = (Vec::new(), None::<String>);
            loop {
                let order = (String::clone, descending);
                let (found, next) = page("l", 10, token.as_deref(), all.clone(), order).expect("a page");
                seen.extend(found);
                token = next;
                if token.is_none() {
                    break;
                }
            }
            let mut expected = all.clone();
            if descending {
                expected.reverse();
            }
            assert_eq!(seen, expected);
        }
        let token = seal("other", "x");
        page("l", 10, Some(&token), all, (String::clone, false)).expect_err("a token of another list");
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(limit(None, 50), Ok(None));
        assert_eq!(limit(Some(50), 50), Ok(Some(50)));
        for wrong in [0, -1, 51] {
            limit(Some(wrong), 50).expect_err("out of bounds");
        }
        Window::read(Some(5), Some(5)).expect("a moment");
        for (start, end) in [(Some(-1), None), (None, Some(-1)), (Some(6), Some(5))] {
            Window::read(start, end).expect_err("no window");
        }
        for wrong in ["", "a:b", "a*", &"g".repeat(513)] {
            named("logGroupName", wrong).expect_err(wrong);
        }
        named("logGroupName", "/aws/batch/job").expect("a group");
    }
}
