//! The log sidecar of a pod: Fluent Bit's configuration, and what it needs besides.
//!
//! [`plan`] depends on the definition's revision, its queue and its environment only, so that many jobs share one
//! configuration; what is of one pod comes by [`environment`]. Whoever makes the pod mounts what [`Needs`] says at the
//! paths that stand here.

use super::fluent_bit::outputs::{MEMBERS, OF_LINES, References, STRUCTURED_DATA, plugin};
use super::fluent_bit::{
    Document, MultilineParser, Pipeline, Plugin, Properties, Rule, Setting, Text, Variable,
};
use super::health;
use super::options::SecretText;
use super::route::{Buffer, Output, Route};
use super::stream;
use super::tag::{Subject, Tag, is_plain};

/// The sidecar's name in its pod.
pub const CONTAINER: &str = "batchyard-log";
/// The folder with the configuration, from a Secret, read-only.
pub const CONFIGURATION: &str = "/batchyard/config";
/// The configuration's name in it, and its key in the Secret.
pub const CONFIGURATION_FILE: &str = "fluent-bit.yaml";
/// The pod's own log folder of the node, read-only; in it are folders by the containers' names.
pub const LOGS: &str = "/batchyard/logs";
/// A folder that goes with the pod, for what is not delivered yet.
pub const BUFFER: &str = "/batchyard/buffer";
/// The folder for [`SecretFile`]s, from Secrets, read-only.
pub const CERTIFICATES: &str = "/batchyard/certificates";
/// The folder for the driver json-file: the pod's own below [`NODE_FILES`].
pub const FILES: &str = "/batchyard/files";
/// The folder of the node in which the driver json-file has one for each pod, named as that in /var/log/pods is.
pub const NODE_FILES: &str = "/var/log/batchyard";
/// Below it the folders of unix sockets appear, by number.
pub const SOCKETS: &str = "/batchyard/sockets";
/// The name in its pod of the helper that follows the pod's output through the API ([`Source::Api`]).
pub const FOLLOWER: &str = "batchyard-log-follow";
/// Where that sends to: a unix socket of Fluent Bit, with its forward protocol and the tag that [`tag_of`] gives. Its
/// records have `log` and `time`, the runtime's text of when the line was written.
pub const FORWARD_SOCKET: &str = "/batchyard/buffer/forward.sock";
/// How much undelivered output is kept, unless something else is said.
pub const DEFAULT_BUFFER_MIB: u64 = 256;
/// What a container has of it at least, in MiB: Fluent Bit keeps its buffer in chunks of 2 MB, and drops the oldest when
/// there are too many. Less would lose output that a sink takes gladly.
pub const LEAST_BUFFER_MIB: u64 = 8;
/// So long reading to the end of a log may take, unless something else is said: twice what 40 MB took on two cores that
/// compiled at the same time.
pub const DRAIN_SECONDS: u64 = 10;
/// The node's name; a `fieldRef` to `spec.nodeName` gives it.
pub const NODE_VARIABLE: &str = "BATCHYARD_NODE";

/// Where the sidecar reads from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The pod's log folder on the node.
    #[default]
    Folder,
    /// A helper that follows the pod's log through the API.
    Api,
}

/// Which part of a job a pod runs; it says which members its records have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// A job of one pod.
    #[default]
    Whole,
    /// A child of an array.
    Child,
    /// A node of a multi-node job.
    Node,
}

/// How sidecars work in an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `logging.source`.
    pub source: Source,
    /// `logging.bufferMiB`.
    pub buffer_mib: u64,
    /// So long Fluent Bit goes on flushing after it was told to end; a little less than what is left of the pod's grace.
    pub grace_seconds: u64,
    /// The kubelet asks Fluent Bit whether its sinks take what it has ([`super::health`]).
    pub tells_health: bool,
}

/// A container with a route. All of a pod's are planned together, in the order of the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The container's name in the pod, which is that of its log folder.
    pub container: &'a str,
    /// Where its output goes.
    pub route: &'a Route,
}

/// A variable whose value is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVariable {
    /// The variable's name.
    pub name: String,
    /// Where its value is: in the user's Secret, or here, from where it goes into the operator's. Both reach the
    /// sidecar by `secretKeyRef`.
    pub value: SecretText,
}

/// A file from a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Its name in [`CERTIFICATES`].
    pub name: String,
    /// The `valueFrom` ([`crate::definition::secrets::locate`]).
    pub reference: String,
}

/// What a pod's sidecar needs of the pod and its node, besides its configuration and its buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The node's folder for the driver json-file, at [`FILES`], writable.
    pub files: bool,
    /// Folders of the node with unix sockets in them, each with its path in the sidecar.
    pub sockets: Vec<(String, String)>,
    /// The kubelet's question and the pod's address ([`super::health`]).
    pub probe: bool,
    /// Credentials of AWS: the pod's role, or the environment's `credentialsSecret` as variables.
    pub aws_credentials: bool,
}

/// A sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Fluent Bit's configuration. No secret is in it.
    pub document: Document,
    /// Variables with secret values.
    pub secrets: Vec<SecretVariable>,
    /// Files from Secrets.
    pub files: Vec<SecretFile>,
    /// What else it needs.
    pub needs: Needs,
    /// How much undelivered output of all its containers together is kept, in MiB: what the environment says, or more
    /// where that is less than each of them needs.
    pub buffer_mib: u64,
    /// Buffers that are smaller than the job states them.
    pub cut: Vec<Cut>,
    /// Containers and those of their options in which a secret stands in plain text, for the condition
    /// `PlainTextSecret`.
    pub plain_text: Vec<(String, &'static str)>,
}

/// A buffer that the environment cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The container.
    pub container: String,
    /// What the job states.
    pub stated: Buffer,
    /// What is left of it, in bytes.
    pub left: u64,
}

impl Sidecar {
    /// So long the sidecar must be left alone after the last container has ended (a `preStop` sleep), where it is to have
    /// so many seconds to read: Fluent Bit stops reading at once when it is told to end, and has to come to the end of
    /// the log first.
    pub fn drain_seconds(&self, reads: u64) -> u64 {
        reads + self.settle_seconds()
    }

    /// So long Fluent Bit must be left alone after it got the last line: it may wait for more of a record of several.
    pub const fn settle_seconds(&self) -> u64 {
        if self.document.multiline_parsers.is_empty() { 0 } else { RECORD_SECONDS }
    }
}

/// What is known of a pod when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod<'a> {
    /// The pod's name.
    pub name: &'a str,
    /// The job's id, with the index of a child (`id:3`) or a node (`id#3`).
    pub job_id: &'a str,
    /// The job's name.
    pub job_name: &'a str,
    /// The queue's name.
    pub queue: &'a str,
    /// The definition, as in `name:3`; nothing for a job with an inline definition.
    pub definition: Option<&'a str>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The index of a child or a node.
    pub index: Option<u32>,
}

/// True for the containers that the operator adds to a pod for its output.
pub fn is_ours(container: &str) -> bool {
    [CONTAINER, FOLLOWER].contains(&container)
}

/// What of a container its route's tag may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container<'a> {
    /// The container and its route, as they were planned.
    pub member: Member<'a>,
    /// Its name in the stream's: [`stream::ONLY`] for the only container of a job.
    pub stream: &'a str,
    /// Its image.
    pub image: &'a str,
}

/// The tag of a container's records within Fluent Bit.
pub fn tag_of(container: &str) -> String {
    format!("job.{container}")
}

/// Plans the sidecar of a pod; nothing if no container has a route.
pub fn plan(members: &[Member<'_>], part: Part, settings: &Settings) -> Option<Sidecar> {
    if members.is_empty() {
        return None;
    }
    let mut given = Given::default();
    let mut pipeline =
        Pipeline { inputs: inputs(members, settings), filters: Vec::new(), outputs: Vec::new() };
    let mut multiline_parsers = Vec::new();
    let (buffer_mib, share) = shares(settings.buffer_mib, members.len());
    for (number, member) in members.iter().enumerate() {
        multiline_parsers.extend(parser(number, member.route));
        pipeline.filters.extend(filters(number, member, part));
        let mut references =
            Of { container: member.container, number, secrets: given.secrets.len(), given: &mut given };
        let mut output = plugin(&member.route.output, &mut references);
        let own = core::mem::take(&mut output.properties);
        let stated = member.route.buffer;
        let buffer = stated.map_or(share, |stated| stated.bytes.max(LEAST_BUFFER_MIB << 20).min(share));
        output.properties = Properties::default()
            .with("match", Text::fixed(tag_of(member.container)))
            .and(own)
            .with("retry_limit", retries(output.name))
            // One thread; it sends several chunks at the same time all the same, so that times tell the order.
            .with("workers", 1)
            .with("storage.total_limit_size", buffer);
        pipeline.outputs.push(output);
        let variable = |(offset, (_, secret)): (usize, (&'static str, &SecretText))| SecretVariable {
            name: Variable::numbered("SECRET", given.secrets.len() + offset).name().to_owned(),
            value: secret.clone(),
        };
        let secrets: Vec<SecretVariable> =
            member.route.secrets().into_iter().enumerate().map(variable).collect();
        given.secrets.extend(secrets);
        given.needs.files |= matches!(member.route.output, Output::JsonFile(_));
        given.needs.aws_credentials |= member.route.needs_aws_credentials();
    }
    let plain = members.iter().flat_map(|member| {
        let options = member.route.plain_text_secrets().into_iter();
        options.map(|option| (member.container.to_owned(), option))
    });
    let cut = members.iter().filter_map(|member| {
        let stated = member.route.buffer.filter(|stated| stated.bytes > share)?;
        Some(Cut { container: member.container.to_owned(), stated, left: share })
    });
    let mut document = Document { service: service(settings), multiline_parsers, pipeline };
    if settings.tells_health {
        health::tell(&mut document);
        given.needs.probe = true;
    }
    Some(Sidecar {
        document,
        secrets: given.secrets,
        files: given.files,
        needs: given.needs,
        buffer_mib,
        cut: cut.collect(),
        plain_text: plain.collect(),
    })
}

/// The buffer of a pod in MiB, and what each of so many containers has of it in bytes.
fn shares(stated_mib: u64, containers: usize) -> (u64, u64) {
    let count = containers.max(1) as u64;
    let all = stated_mib.max(LEAST_BUFFER_MIB.saturating_mul(count));
    (all, all.saturating_mul(1 << 20) / count)
}

/// How often an output tries again: as long as it takes. The output s3 counts for itself, and takes no limit for five.
fn retries(output: &str) -> Setting {
    if output == "s3" { Setting::Number(1_000_000) } else { Setting::from("no_limits") }
}

/// The variables of a pod's sidecar that are no secret, by name.
pub fn environment(containers: &[Container<'_>], part: Part, pod: &Pod<'_>) -> Vec<(String, String)> {
    let plain = |name: &str, value: &str| (Variable::plain(name).name().to_owned(), word(value));
    let mut all = vec![
        plain("JOB_ID", pod.job_id),
        plain("JOB_NAME", pod.job_name),
        plain("QUEUE", pod.queue),
        plain("DEFINITION", pod.definition.unwrap_or_default()),
        plain("ATTEMPT", &pod.attempt.to_string()),
    ];
    all.extend(index_member(part).map(|_| plain("INDEX", &pod.index.unwrap_or_default().to_string())));
    for (number, container) in containers.iter().enumerate() {
        let route = container.member.route;
        let own = |name: &str, value: String| (Variable::numbered(name, number).name().to_owned(), value);
        let subject = Subject {
            job_id: pod.job_id,
            pod: pod.name,
            container: container.member.container,
            image: container.image,
        };
        all.extend(tag(route).map(|tag| own("TAG", word(&tag.of(&subject)))));
        all.extend(log_stream(container, pod).map(|stream| own("STREAM", stream)));
        if let Output::S3(s3) = &route.output {
            let prefix = s3.prefix.as_ref().map_or(String::new(), |prefix| format!("/{}", prefix.as_str()));
            let stream = stream_of(None, container, pod);
            let end = if s3.gzip { ".log.gz" } else { ".log" };
            all.push(own("KEY", format!("{prefix}/{stream}/$UUID{end}")));
        }
    }
    all
}

/// The name of the stream of an attempt in CloudWatch Logs, for `status.logs`; nothing for other drivers.
pub fn log_stream(container: &Container<'_>, pod: &Pod<'_>) -> Option<String> {
    match &container.member.route.output {
        Output::Awslogs(awslogs) => {
            let prefix = awslogs.prefix.as_ref().map(|prefix| prefix.as_str());
            Some(stream_of(prefix, container, pod))
        }
        _ => None,
    }
}

/// Fluent Bit puts a stream's name into JSON as it is; names of definitions have no such characters, and must not.
fn stream_of(prefix: Option<&str>, container: &Container<'_>, pod: &Pod<'_>) -> String {
    let definition = pod.definition.map(word);
    stream::name(prefix, definition.as_deref(), container.stream, pod.name)
}

/// A value that ends up in a list of words, in which a space or a quote would begin another one.
fn word(text: &str) -> String {
    let word: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// What was given out so far.
#[derive(Default)]
struct Given {
    secrets: Vec<SecretVariable>,
    files: Vec<SecretFile>,
    needs: Needs,
}

/// What one output refers to.
struct Of<'a> {
    container: &'a str,
    /// The container's number.
    number: usize,
    /// The number of its first secret.
    secrets: usize,
    given: &'a mut Given,
}

impl References for Of<'_> {
    fn container(&self) -> &str {
        self.container
    }

    fn own(&mut self, name: &'static str) -> Variable {
        Variable::numbered(name, self.number)
    }

    fn secret(&mut self, number: usize) -> Variable {
        Variable::numbered("SECRET", self.secrets + number)
    }

    fn file(&mut self, reference: &str) -> String {
        let name = format!("{}.pem", self.given.files.len());
        let path = format!("{CERTIFICATES}/{name}");
        self.given.files.push(SecretFile { name, reference: reference.to_owned() });
        path
    }

    fn socket(&mut self, path: &str) -> String {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let mounted = format!("{SOCKETS}/{}", self.given.needs.sockets.len());
        self.given.needs.sockets.push((folder.to_owned(), mounted.clone()));
        format!("{mounted}/{file}")
    }
}

fn tag(route: &Route) -> Option<&Tag> {
    match &route.output {
        Output::Fluentd(fluentd) => Some(&fluentd.tag),
        Output::Syslog(syslog) => Some(&syslog.tag),
        Output::Splunk(splunk) => splunk.tag.as_ref(),
        Output::Gelf(gelf) => gelf.tag.as_ref(),
        Output::JsonFile(file) => file.tag.as_ref(),
        _ => None,
    }
}

fn service(settings: &Settings) -> Properties {
    Properties::default()
        .with("flush", 1)
        .with("grace", settings.grace_seconds)
        .with("log_level", "warn")
        .with("storage.path", Text::fixed(format!("{BUFFER}/chunks")))
        .with("storage.sync", "normal")
        // So many chunks of 2 MB are in memory; the others wait on disk.
        .with("storage.max_chunks_up", 16)
        .with("storage.backlog.mem_limit", 8 << 20)
        // A sink that comes back is noticed soon, and one that does not is not asked for ever faster.
        .with("scheduler.base", 1)
        .with("scheduler.cap", 30)
}

fn inputs(members: &[Member<'_>], settings: &Settings) -> Vec<Plugin> {
    match settings.source {
        Source::Folder => {
            members.iter().enumerate().map(|(number, member)| tail(number, member.container)).collect()
        }
        Source::Api => {
            let properties = Properties::default()
                .with("unix_path", FORWARD_SOCKET)
                .with("unix_perm", "0600")
                .with("buffer_chunk_size", 1 << 20)
                .with("buffer_max_size", 8 << 20)
                .with("storage.type", "filesystem");
            vec![Plugin { name: "forward", properties }]
        }
    }
}

/// Longer than any pod.
const YEAR_SECONDS: u64 = 31_536_000;

/// What a container wrote, from its log folder. The kubelet rotates at 10 MiB and compresses older files.
fn tail(number: usize, container: &str) -> Plugin {
    let folder = format!("{LOGS}/{container}");
    let properties = Properties::default()
        .with("tag", Text::fixed(tag_of(container)))
        // Rotated files first, which have older lines.
        .with("path", Text::fixed(format!("{folder}/*.log.*,{folder}/*.log")))
        .with("exclude_path", "*.gz,*.tmp")
        .with("read_from_head", true)
        // Lines of the runtime have 16 KiB at most; longer ones of the job come in parts, which are joined here.
        .with("multiline.parser", "cri")
        .with("skip_long_lines", true)
        // Folders appear when their container starts, and files when they are rotated.
        .with("refresh_interval", 1)
        // A rotated file stays known for as long as it is there. Fluent Bit would forget it after this time, find it
        // again, since it matches, and send all of it once more; it lets go of files that are deleted by itself.
        .with("rotate_wait", YEAR_SECONDS)
        // A file that was found with lines in it is read to its end before the next one: after as many bytes Fluent Bit
        // begins at its first file again, and otherwise takes a piece of each in turn.
        .with("static_batch_size", 1)
        .with("buffer_chunk_size", 1 << 20)
        .with("buffer_max_size", 8 << 20)
        .with("db", Text::fixed(format!("{BUFFER}/tail-{number}.db")))
        .with("db.locking", true)
        .with("storage.type", "filesystem");
    Plugin { name: "tail", properties }
}

fn parser_name(number: usize) -> String {
    format!("records-{number}")
}

/// The states of a multi-line parser; Fluent Bit knows the first by its name.
const FIRST: &str = "start_state";
const OTHER: &str = "more";
/// So long a record is waited for that may go on. On AWS it is 5 to 10 s; here it is a part of each pod's end, because
/// Fluent Bit drops what waits when it is told to end.
const RECORD_SECONDS: u64 = 3;

fn parser(number: usize, route: &Route) -> Option<MultilineParser> {
    let multiline = route.multiline.as_ref()?;
    Some(MultilineParser {
        name: parser_name(number),
        kind: "regex",
        key_content: "log",
        key_group: "stream",
        flush_timeout: RECORD_SECONDS * 1000,
        rules: vec![
            Rule { state: FIRST, regex: multiline.first(), next_state: OTHER },
            Rule { state: OTHER, regex: multiline.other(), next_state: OTHER },
        ],
    })
}

/// The member for the index, if the part of a job has one.
const fn index_member(part: Part) -> Option<&'static str> {
    match part {
        Part::Whole => None,
        Part::Child => Some("array_index"),
        Part::Node => Some("node_index"),
    }
}

fn filters(number: usize, member: &Member<'_>, part: Part) -> Vec<Plugin> {
    let of = |name: &'static str, properties: Properties| Plugin {
        name,
        properties: Properties::default()
            .with("match", Text::fixed(tag_of(member.container)))
            .and(properties),
    };
    let route = member.route;
    let mut filters = Vec::new();
    if route.multiline.is_some() {
        let properties = Properties::default()
            .with("multiline.key_content", "log")
            .with("multiline.parser", Text::fixed(parser_name(number)))
            .with("flush_ms", RECORD_SECONDS * 1000)
            .with("emitter_storage.type", "filesystem");
        filters.push(of("multiline", properties));
    }
    if let Output::Firelens(firelens) = &route.output {
        let grep = |name: &'static str, pattern: &super::value::Literal| {
            of("grep", Properties::default().with(name, Text::fixed(format!("log (?:{})", pattern.as_str()))))
        };
        filters.extend(firelens.include.as_ref().map(|pattern| grep("regex", pattern)));
        filters.extend(firelens.exclude.as_ref().map(|pattern| grep("exclude", pattern)));
    }
    match &route.output {
        // An event of CloudWatch is the line; nothing else is looked at.
        Output::Awslogs(_) => {}
        output => filters.push(of("record_modifier", members(number, member, part, output))),
    }
    match &route.output {
        Output::Splunk(splunk) if !splunk.raw => {
            let renamed = ["log line", "stream source"].map(Text::fixed).to_vec();
            filters.push(of("modify", Properties::default().with("rename", Setting::Texts(renamed))));
        }
        Output::Syslog(syslog) if syslog.rfc5424 => {
            let index = index_member(part);
            let inside = MEMBERS.into_iter().filter(|name| *name != "node").chain(OF_LINES).chain(index);
            let properties = Properties::default()
                .with("operation", "nest")
                .with("wildcard", Setting::Texts(inside.map(Text::fixed).collect()))
                .with("nest_under", STRUCTURED_DATA);
            filters.push(of("nest", properties));
        }
        _ => {}
    }
    filters
}

/// What records say besides their line, stream and time.
fn members(number: usize, member: &Member<'_>, part: Part, output: &Output) -> Properties {
    let plain = |word, name| Text::word_and_variable(word, &Variable::plain(name));
    let mut record: Vec<Text> = vec![
        plain("job_id", "JOB_ID"),
        plain("job_name", "JOB_NAME"),
        plain("queue", "QUEUE"),
        plain("definition", "DEFINITION"),
        plain("attempt", "ATTEMPT"),
        plain("node", "NODE"),
        Text::fixed(format!("container {}", member.container)),
    ];
    record.extend(index_member(part).map(|word| plain(word, "INDEX")));
    let tagged = match output {
        Output::Splunk(splunk) => splunk.tag.is_some(),
        Output::Gelf(gelf) => gelf.tag.is_some(),
        Output::JsonFile(file) => file.tag.is_some(),
        _ => false,
    };
    record.extend(tagged.then(|| Text::word_and_variable("tag", &Variable::numbered("TAG", number))));
    // The runtime's mark of parts goes; its time stays, by which a sink can put lines in order.
    Properties::default().with("record", Setting::Texts(record)).with("remove_key", "_p")
}
