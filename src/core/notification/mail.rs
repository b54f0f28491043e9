//! Notifications as e-mail: the words.

use super::content::{BlockedQueue, Job, Subject};
use super::moment::{Moment, What};
use crate::reason::clean::line;

/// Longest subject, in characters.
const SUBJECT: usize = 200;
/// Longest line of the body, in characters: a statusReason is shorter, and a URL may be this long.
const LINE: usize = 2048;

/// What may stand in braces in a subject.
pub const PLACEHOLDERS: [&str; 7] = ["jobName", "jobId", "queue", "namespace", "status", "reason", "url"];

/// An e-mail's subject and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

/// The names in braces in a template that stand for nothing.
pub fn unknown_placeholders(template: &str) -> Vec<String> {
    let (unknown, _) = parts(template, |name| PLACEHOLDERS.contains(&name).then(String::new));
    unknown
}

/// Fills a template in; what stands for nothing stays as it is.
fn parts(template: &str, value: impl Fn(&str) -> Option<String>) -> (Vec<String>, String) {
    let (mut unknown, mut text, mut rest) = (Vec::new(), String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            break;
        };
        match value(name) {
            Some(value) => text.push_str(&value),
            None => {
                unknown.push(name.to_owned());
                text.push_str(&format!("{{{name}}}"));
            }
        }
        rest = behind;
    }
    text.push_str(rest);
    (unknown, text)
}

/// The e-mail for something that is told. `rule` is the rule's namespace and name; `template` its own subject, if any.
pub fn mail(subject: &Subject, rule: &str, template: Option<&str>) -> Mail {
    let (headline, facts) = match subject {
        Subject::Job(job, moment) => of_job(job, moment),
        Subject::Queue(queue, head) => of_queue(queue, head.as_deref()),
    };
    let own = template.map(|template| parts(template, |name| placeholder(subject, name)).1);
    let facts: String = facts.iter().map(|(what, fact)| format!("{what}: {}\n", line(fact, LINE))).collect();
    let about = line(&headline, LINE);
    Mail {
        subject: line(own.as_deref().unwrap_or(&headline), SUBJECT),
        body: format!(
            "{about}.\n\n{facts}\nNotificationRule {rule} of Batchyard sent this. Id: {}\n",
            subject.id()
        ),
    }
}

fn placeholder(subject: &Subject, name: &str) -> Option<String> {
    let (job, status, reason) = match subject {
        Subject::Job(job, moment) => {
            (Some(job), moment.what.as_str(), job.record.status_reason.clone().unwrap_or_default())
        }
        Subject::Queue(queue, head) => (head.as_ref(), "BLOCKED", queue.message.clone()),
    };
    Some(match name {
        "jobName" => job.map(|job| job.job_name.clone()).unwrap_or_default(),
        "jobId" => {
            job.map(|job| job.record.job_id.clone().unwrap_or_else(|| job.uid.clone())).unwrap_or_default()
        }
        "queue" => match subject {
            Subject::Job(job, _) => job.job_queue.clone(),
            Subject::Queue(queue, _) => queue.name.clone(),
        },
        "namespace" => match subject {
            Subject::Job(job, _) => job.namespace.clone(),
            Subject::Queue(queue, _) => queue.namespace.clone(),
        },
        "status" => status.to_owned(),
        "reason" => reason,
        "url" => job.and_then(|job| Some(job.session.as_ref()?.url.clone())).unwrap_or_default(),
        _ => return None,
    })
}

fn of_job(job: &Job, moment: &Moment) -> (String, Vec<(&'static str, String)>) {
    let name = &job.job_name;
    let headline = match moment.what {
        What::SessionReady => format!("The session of job {name} is ready"),
        what => format!("Job {name} is {}", what.as_str()),
    };
    let mut facts = Vec::new();
    if let (What::SessionReady, Some(session)) = (moment.what, &job.session) {
        facts.push(("Connect to", session.url.clone()));
    }
    if let Some(reason) = job.record.status_reason.as_ref().filter(|_| !moment.passed) {
        facts.push(("Reason", reason.clone()));
    }
    let last = job.record.attempts.last().filter(|_| moment.what.phase().is_terminal());
    if let Some(code) = last.and_then(|attempt| attempt.container.exit_code) {
        facts.push(("Exit code", code.to_string()));
    }
    facts.push(("Job", format!("{} ({})", job.name, job.record.job_id.as_deref().unwrap_or(&job.uid))));
    facts.push(("Namespace", job.namespace.clone()));
    facts.push(("Queue", job.job_queue.clone()));
    if moment.attempt > 0 {
        facts.push(("Attempt", moment.attempt.to_string()));
    }
    if let Some(array) = &job.array {
        let counts = array.counts.iter().filter(|(_, count)| **count > 0);
        let counts: Vec<String> = counts.map(|(phase, count)| format!("{count} {phase}")).collect();
        facts.push(("Children", counts.join(", ")));
    }
    facts.push(("Since", moment.at.to_string()));
    (headline, facts)
}

fn of_queue(queue: &BlockedQueue, head: Option<&Job>) -> (String, Vec<(&'static str, String)>) {
    let mut facts = vec![("Reason", queue.message.clone()), ("Code", queue.reason.clone())];
    if let Some(job) = head {
        facts.push(("Job", format!("{} ({})", job.name, job.record.job_id.as_deref().unwrap_or(&job.uid))));
    }
    facts.push(("Namespace", queue.namespace.clone()));
    facts.push(("Since", queue.since.to_string()));
    (format!("Queue {} is blocked", queue.name), facts)
}
