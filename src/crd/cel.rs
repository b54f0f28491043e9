//! CEL rules in the form that a CRD's schema holds them.

use serde_json::{Map, Value};

/// One rule of `x-kubernetes-validations`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The expression; true means valid.
    pub(super) rule: &'static str,
    /// What the user reads when it is false.
    pub(super) message: &'static str,
    /// An expression for the message, used instead of `message` where it works.
    pub(super) message_expression: Option<&'static str>,
    /// The member that the API server names in the error, relative to the rule's place.
    pub(super) field_path: Option<&'static str>,
}

/// A rule about the object as a whole.
pub(super) const fn rule(rule: &'static str, message: &'static str) -> Rule {
    Rule { rule, message, message_expression: None, field_path: None }
}

/// A rule about one member of the object.
pub(super) const fn on(field_path: &'static str, rule: &'static str, message: &'static str) -> Rule {
    Rule { rule, message, message_expression: None, field_path: Some(field_path) }
}

/// The list that goes into a schema.
pub(super) fn rules(list: &[Rule]) -> Value {
    Value::Array(list.iter().map(to_value).collect())
}

/// Rules, and one more for each named member: it can be neither changed nor added nor removed.
pub(super) fn rules_and_immutable(list: &[Rule], members: &[&str], message: &str) -> Value {
    let mut all: Vec<Value> = list.iter().map(to_value).collect();
    all.extend(members.iter().map(|member| {
        entry([
            (
                "rule",
                // Each look at a member costs the API server in proportion to all members of the object, and
                // this is asked with every write of a status: two looks for a member that is not there.
                format!(
                    "has(self.{member}) ? has(oldSelf.{member}) && self.{member} == oldSelf.{member} : \
                     !has(oldSelf.{member})"
                ),
            ),
            ("message", format!("{member} {message}")),
            ("fieldPath", format!(".{member}")),
        ])
    }));
    Value::Array(all)
}

fn to_value(rule: &Rule) -> Value {
    let optional = [("messageExpression", rule.message_expression), ("fieldPath", rule.field_path)];
    entry(
        [("rule", rule.rule.to_owned()), ("message", rule.message.to_owned())]
            .into_iter()
            .chain(optional.into_iter().filter_map(|(key, text)| Some((key, text?.to_owned())))),
    )
}

fn entry(members: impl IntoIterator<Item = (&'static str, String)>) -> Value {
    Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), Value::String(v))).collect::<Map<_, _>>())
}
