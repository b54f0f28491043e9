//! The options of a log driver: which there are, and reading them one by one.
//!
//! Each option that AWS or Docker documents for a driver stands in the driver's table, as one that is honoured or one
//! that is refused with the reason. What is in no table is refused by its name: nothing is ignored.

use std::collections::BTreeMap;

use super::value::{self, Literal};
use super::{Configuration, Refusal};

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It has its effect.
    Honoured,
    /// It has its effect and is kept from sight: it may come by `secretOptions`, and goes through a Secret if not.
    Secret,
    /// A certificate or a key, which comes by `secretOptions` and becomes a file.
    File,
    /// It cannot have its effect, for this reason.
    Refused(&'static str),
}

/// An option by its name, and what becomes of it.
pub type Entry = (&'static str, Rule);

/// The options of every driver
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LogConfiguration.html>).
pub(super) const COMMON: &[Entry] = &[("mode", Rule::Honoured), ("max-buffer-size", Rule::Honoured)];

const NO_LABELS: &str = "records carry what is known of the job, and nothing of the container's labels";
const NO_VARIABLES: &str =
    "records carry what is known of the job, and no variables of the container, which may be secret";
const OWN_COPY: &str = "kubectl logs has its own copy, which no driver changes";

/// Options that Docker has for most drivers
/// (<https://docs.docker.com/engine/logging/configure/>).
pub(super) const DOCKER: &[Entry] = &[
    ("labels", Rule::Refused(NO_LABELS)),
    ("labels-regex", Rule::Refused(NO_LABELS)),
    ("env", Rule::Refused(NO_VARIABLES)),
    ("env-regex", Rule::Refused(NO_VARIABLES)),
    ("cache-disabled", Rule::Refused(OWN_COPY)),
    ("cache-max-size", Rule::Refused(OWN_COPY)),
    ("cache-max-file", Rule::Refused(OWN_COPY)),
    ("cache-compress", Rule::Refused(OWN_COPY)),
];

/// A value that nobody but the sink may see.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretText {
    /// It stood in `options`; the operator puts it into a Secret of its own.
    Plain(String),
    /// `valueFrom` of `secretOptions`; the user's Secret ([`crate::definition::secrets::locate`]).
    Reference(String),
}

impl core::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(…)"),
            Self::Reference(reference) => f.debug_tuple("Reference").field(reference).finish(),
        }
    }
}

/// The options of one configuration while they are read. What is wrong is collected, so that all of it is said at once.
pub(super) struct Options<'a> {
    plain: &'a BTreeMap<String, String>,
    secret: BTreeMap<&'a str, &'a str>,
    refusals: Vec<Refusal>,
}

impl<'a> Options<'a> {
    /// Looks each name up in the tables of its driver.
    pub(super) fn open(configuration: &'a Configuration, tables: &[&[Entry]]) -> Self {
        let mut this = Self { plain: &configuration.options, secret: BTreeMap::new(), refusals: Vec::new() };
        let driver = configuration.driver.as_str();
        let rule = |name: &str| {
            tables.iter().copied().flatten().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
        };
        for name in configuration.options.keys() {
            match rule(name) {
                None => this.refuse(name, format!("the driver {driver} has no such option")),
                Some(Rule::Refused(why)) => this.refuse(name, why),
                Some(Rule::File) => this.refuse(
                    name,
                    "a file of the node cannot be read; name a Secret that has it in secretOptions",
                ),
                Some(Rule::Honoured | Rule::Secret) => {}
            }
        }
        for one in &configuration.secret_options {
            match rule(&one.name) {
                None => this.refuse_secret(&one.name, format!("the driver {driver} has no such option")),
                Some(Rule::Refused(why)) => this.refuse_secret(&one.name, why),
                Some(Rule::Honoured) => {
                    this.refuse_secret(&one.name, "it must stand in options, where it can be checked")
                }
                Some(Rule::Secret | Rule::File) => {
                    if let Err(why) = crate::definition::secrets::locate(&one.value_from) {
                        this.refuse_secret(&one.name, why);
                    }
                }
            }
            let again = this.secret.insert(&one.name, &one.value_from).is_some();
            if again || this.plain.contains_key(&one.name) {
                this.refuse_secret(&one.name, "it is stated twice");
            }
        }
        this
    }

    /// Refuses an option of `options`.
    pub(super) fn refuse(&mut self, name: &str, why: impl Into<String>) {
        self.refusals.push(Refusal { member: format!("options.{name}"), why: why.into() });
    }

    fn refuse_secret(&mut self, name: &str, why: impl Into<String>) {
        self.refusals.push(Refusal { member: format!("secretOptions.{name}"), why: why.into() });
    }

    /// The option's text as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.plain.get(name).map(String::as_str)
    }

    /// The option, read. What cannot be read is refused and counts as not stated.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        reader: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match reader(self.raw(name)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    /// Text that means itself.
    pub(super) fn text(&mut self, name: &str) -> Option<Literal> {
        self.read(name, Literal::read)
    }

    /// Text for a place where a dollar sign means something.
    pub(super) fn plain_text(&mut self, name: &str) -> Option<Literal> {
        self.read(name, Literal::without_dollar)
    }

    /// A yes or no.
    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.read(name, value::boolean)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        self.read(name, |text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
            let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| format!("{text:?} is none of {}", known()))
        })
    }

    /// An option that may be secret, from wherever it comes.
    pub(super) fn secret(&mut self, name: &str) -> Option<SecretText> {
        if let Some(reference) = self.secret.get(name) {
            return Some(SecretText::Reference((*reference).to_owned()));
        }
        self.read(name, Literal::read).map(|text| SecretText::Plain(text.as_str().to_owned()))
    }

    /// The `valueFrom` of a certificate or key.
    pub(super) fn file(&self, name: &str) -> Option<String> {
        self.secret.get(name).map(|reference| (*reference).to_owned())
    }

    /// Refuses the configuration without one of its options.
    pub(super) fn missing(&mut self, name: &str) {
        self.require(name, "it is required");
    }

    /// Refuses the configuration without an option that goes with another.
    pub(super) fn missing_beside(&mut self, name: &str, there: &str) {
        self.require(name, format!("it is required beside {there}"));
    }

    /// What is stated and cannot be read was refused when it was read.
    fn require(&mut self, name: &str, why: impl Into<String>) {
        if self.raw(name).is_none() && !self.secret.contains_key(name) {
            self.refuse(name, why);
        }
    }

    /// Everything that is wrong, in the order of the names.
    pub(super) fn close(mut self) -> Vec<Refusal> {
        self.refusals.sort();
        self.refusals.dedup();
        self.refusals
    }
}
