//! What Fluent Bit's plugins take, as its source says.
//!
//! `facts.txt` has a line for each plugin: names only. Fluent Bit does not start with a property that its plugin does
//! not know, so that every configuration is held against this list.

use std::collections::BTreeMap;

/// The lines of the list.
const FACTS: &str = include_str!("facts.txt");

/// A kind of plugin, or of what goes with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The section `service`.
    Service,
    /// An input.
    Input,
    /// A filter.
    Filter,
    /// An output.
    Output,
    /// Properties of connections, which go with each output.
    Net,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Input => "input",
            Self::Filter => "filter",
            Self::Output => "output",
            Self::Net => "net",
        }
    }
}

/// What a property takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any text.
    Text,
    /// A yes or no.
    Flag,
    /// A number.
    Number,
    /// A number of bytes.
    Size,
    /// A number of seconds.
    Time,
}

impl Type {
    /// Looks whether Fluent Bit could read the text. Much of what it cannot read it takes for zero.
    ///
    /// # Errors
    /// What the text is not.
    pub fn check(self, text: &str) -> Result<(), String> {
        let number = |text: &str| text.parse::<i64>().is_ok();
        let with_unit = |units: &[&str]| {
            let lower = text.to_ascii_lowercase();
            let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            number(digits) && units.contains(&&lower[digits.len()..])
        };
        let (fits, what) = match self {
            Self::Text => (true, ""),
            Self::Flag => (flag(text).is_some(), "neither true nor false"),
            Self::Number => (number(text), "no whole number"),
            Self::Size => (with_unit(&["", "k", "kb", "m", "mb", "g", "gb"]), "no size such as 10M"),
            Self::Time => (with_unit(&["", "s", "m", "h", "d"]), "no time such as 10s"),
        };
        if fits { Ok(()) } else { Err(format!("{text:?} is {what}")) }
    }
}

/// Yes or no, in the spellings that Fluent Bit knows; nothing if it is neither.
pub fn flag(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match (is_one_of(["true", "on", "yes"]), is_one_of(["false", "off", "no"])) {
        (false, false) => None,
        (yes, _) => Some(yes),
    }
}

/// A property by its name, and what it takes.
pub type Property = (&'static str, Type);

fn property(word: &'static str) -> Property {
    match word.split_once(':') {
        None => (word, Type::Text),
        Some((name, kind)) => {
            let kind = match kind {
                "bool" => Type::Flag,
                "int" => Type::Number,
                "size" => Type::Size,
                "time" => Type::Time,
                _ => Type::Text,
            };
            (name, kind)
        }
    }
}

/// The properties of a plugin, without those that all of its kind have; nothing if there is no such plugin.
pub fn properties(kind: Kind, plugin: &str) -> Option<impl Iterator<Item = Property>> {
    let lines = FACTS.lines().filter(|line| !line.starts_with('#'));
    let mut found = lines.filter_map(|line| {
        let mut words = line.split(' ');
        (words.next() == Some(kind.as_str()) && words.next() == Some(plugin)).then(|| words.map(property))
    });
    found.next()
}

/// All properties that a plugin may have, by name.
pub fn all_properties(kind: Kind, plugin: &str) -> Option<BTreeMap<&'static str, Type>> {
    let own = properties(kind, plugin)?;
    let shared = properties(kind, "*");
    let net = properties(Kind::Net, "*").filter(|_| kind == Kind::Output);
    Some(shared.into_iter().flatten().chain(net.into_iter().flatten()).chain(own).collect())
}

/// The outputs.
pub fn outputs() -> impl Iterator<Item = &'static str> {
    let lines = FACTS.lines().filter_map(|line| line.strip_prefix("output "));
    lines.filter_map(|line| line.split(' ').next()).filter(|name| *name != "*")
}
