//! What Fluent Bit's plugins take, as its source says.
//!
//! `facts.txt` has a line for each plugin: names only. Fluent Bit does not start with a property that its plugin does
//! not know, so that every configuration is held against this list.

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

/// The properties of a plugin, without those that all of its kind have; nothing if there is no such plugin.
pub fn properties(kind: Kind, plugin: &str) -> Option<impl Iterator<Item = &'static str>> {
    let lines = FACTS.lines().filter(|line| !line.starts_with('#'));
    let mut found = lines.filter_map(|line| {
        let mut words = line.split(' ');
        (words.next() == Some(kind.as_str()) && words.next() == Some(plugin)).then_some(words)
    });
    found.next()
}

/// All properties that a plugin of this kind may have.
pub fn all_properties(kind: Kind, plugin: &str) -> Option<Vec<&'static str>> {
    let own = properties(kind, plugin)?;
    let shared = properties(kind, "*").filter(|_| plugin != "*");
    let net = properties(Kind::Net, "*").filter(|_| kind == Kind::Output);
    Some(own.chain(shared.into_iter().flatten()).chain(net.into_iter().flatten()).collect())
}

/// The outputs.
pub fn outputs() -> impl Iterator<Item = &'static str> {
    let lines = FACTS.lines().filter_map(|line| line.strip_prefix("output "));
    lines.filter_map(|line| line.split(' ').next()).filter(|name| *name != "*")
}
