//! Fluent Bit's configuration in its YAML format, as data.
//!
//! [`Text`] is the only thing that becomes a value. It is made of what the user wrote ([`Literal`]) or of a variable
//! ([`Variable`]) and of nothing else, so that no text of a user can become a variable, and YAML is written by a library
//! from data, so that none can become anything but the value at its place.

pub mod facts;
pub(super) mod outputs;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::value::Literal;

/// A variable of the sidecar's environment, which Fluent Bit reads when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable(String);

impl Variable {
    /// Ours have a prefix of their own; `number` tells those of several containers or secrets apart.
    pub(super) fn numbered(name: &str, number: usize) -> Self {
        Self(format!("BATCHYARD_{name}_{number}"))
    }

    pub(super) fn plain(name: &str) -> Self {
        Self(format!("BATCHYARD_{name}"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The text of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// What the user wrote.
    pub(super) fn literal(literal: &Literal) -> Self {
        Self(literal.as_str().to_owned())
    }

    /// What we write.
    pub(super) fn fixed(text: impl Into<String>) -> Self {
        let text = text.into();
        debug_assert!(!text.contains("${"), "{text}");
        Self(text)
    }

    /// A variable alone.
    pub(super) fn variable(variable: &Variable) -> Self {
        Self(format!("${{{}}}", variable.0))
    }

    /// A word of ours, a space, and a variable. A brace that closes before the variable would keep Fluent Bit from
    /// seeing it, so that nothing of a user's stands before one.
    pub(super) fn word_and_variable(word: &'static str, variable: &Variable) -> Self {
        debug_assert!(!word.contains(['}', '$']), "{word}");
        Self(format!("{word} ${{{}}}", variable.0))
    }

    /// The same for a word that was checked to have no brace: the name of a header.
    pub(super) fn name_and_variable(name: &Literal, variable: &Variable) -> Self {
        debug_assert!(!name.as_str().contains(['}', '{', '$', ' ']), "{name:?}");
        Self(format!("{} ${{{}}}", name.as_str(), variable.0))
    }
}

/// What a property is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A text.
    Text(Text),
    /// The property several times.
    Texts(Vec<Text>),
    /// A number.
    Number(u64),
    /// A yes or no.
    Flag(bool),
}

impl From<&Literal> for Setting {
    fn from(literal: &Literal) -> Self {
        Self::Text(Text::literal(literal))
    }
}

impl From<Text> for Setting {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<&'static str> for Setting {
    fn from(text: &'static str) -> Self {
        Self::Text(Text::fixed(text))
    }
}

impl From<u64> for Setting {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Setting {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(&text.0),
            Self::Texts(texts) => serializer.collect_seq(texts.iter().map(|text| &text.0)),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

/// Properties by name, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(&'static str, Setting)>);

impl Properties {
    /// With one more.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, setting: impl Into<Setting>) -> Self {
        debug_assert!(!self.0.iter().any(|(known, _)| *known == name), "{name} is set twice");
        self.0.push((name, setting.into()));
        self
    }

    /// With one more, if there is a value for it.
    #[must_use]
    pub(super) fn with_some(self, name: &'static str, setting: Option<impl Into<Setting>>) -> Self {
        match setting {
            Some(setting) => self.with(name, setting),
            None => self,
        }
    }

    /// With all of the others behind.
    #[must_use]
    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.0.iter().map(|(name, setting)| (*name, setting))
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// An input, a filter or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// The plugin's name.
    pub name: &'static str,
    /// How it is set up.
    pub properties: Properties,
}

impl Serialize for Plugin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        self.properties.iter().try_for_each(|(name, setting)| map.serialize_entry(name, setting))?;
        map.end()
    }
}

/// A rule of a multi-line parser.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rule {
    /// The state in which the rule is tried.
    pub state: &'static str,
    /// The regular expression. Fluent Bit looks for no variables in it.
    pub regex: String,
    /// The state after a line that matches.
    pub next_state: &'static str,
}

/// A multi-line parser.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MultilineParser {
    /// Its name.
    pub name: String,
    /// `regex`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The member that has the line.
    pub key_content: &'static str,
    /// The member whose values are told apart: standard output and standard error make records of their own.
    pub key_group: &'static str,
    /// A record is given up waiting for after so many milliseconds.
    pub flush_timeout: u64,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// Inputs, filters and outputs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pipeline {
    /// The inputs.
    pub inputs: Vec<Plugin>,
    /// The filters, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Plugin>,
    /// The outputs.
    pub outputs: Vec<Plugin>,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Document {
    /// The section `service`.
    pub service: Properties,
    /// The multi-line parsers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub multiline_parsers: Vec<MultilineParser>,
    /// The rest.
    pub pipeline: Pipeline,
}

impl Document {
    /// The file.
    pub fn to_yaml(&self) -> String {
        // Text of one line each: values have no line breaks, and folding is for people.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(self, options).unwrap_or_default()
    }
}
