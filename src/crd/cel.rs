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
    /// The member that the API server names in the error, relative to the rule's place; see [`hand_down`] for one
    /// without a dot.
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

/// A rule that one member's value must satisfy where it is present; `self` is that value.
///
/// It costs the API server much less than one on the object, see [`hand_down`].
pub(super) const fn own(member: &'static str, rule: &'static str, message: &'static str) -> Rule {
    Rule { rule, message, message_expression: None, field_path: Some(member) }
}

/// The list that goes into a schema.
pub(super) fn rules(list: &[Rule]) -> Value {
    Value::Array(list.iter().map(to_value).collect())
}

/// Rules, and more for each named member: it can be neither changed nor added nor removed.
pub(super) fn rules_and_immutable(list: &[Rule], members: &[&str], message: &str) -> Value {
    let mut all = rules_and_unchanged(list, members, message);
    if let Value::Array(all) = &mut all {
        all.extend(members.iter().map(|member| {
            entry([
                ("rule", format!("has(self.{member}) == has(oldSelf.{member})")),
                ("message", format!("{member} {message}")),
                ("fieldPath", format!(".{member}")),
            ])
        }));
    }
    all
}

/// Rules, and one more for each named member: its value cannot be changed while it is there.
pub(super) fn rules_and_unchanged(list: &[Rule], members: &[&str], message: &str) -> Value {
    let unchanged = members.iter().map(|member| {
        entry([
            ("rule", "self == oldSelf".to_owned()),
            ("message", format!("{member} {message}")),
            ("fieldPath", (*member).to_owned()),
        ])
    });
    Value::Array(list.iter().map(to_value).chain(unchanged).collect())
}

/// A rule for the root of a kind: its spec gains and loses none of these members, and the `wide` ones do not change,
/// whose own schemas have so many members that comparing them with every write would cost much.
///
/// It is one rule for all of them, and looks at none when the phase differs: only a write of the status changes the
/// phase, and that leaves the spec alone. A missing phase is an error, which any other part that is true outweighs.
pub(super) fn keeps_members(members: &[&str], wide: &[&str], message: &str) -> Value {
    let present = members.iter().map(|m| (*m, format!("has(self.spec.{m}) == has(oldSelf.spec.{m})")));
    let equal = wide.iter().map(|m| {
        let both = format!("has(oldSelf.spec.{m}) && self.spec.{m} == oldSelf.spec.{m}");
        (*m, format!("(has(self.spec.{m}) ? {both} : !has(oldSelf.spec.{m}))"))
    });
    let same: Vec<(&str, String)> = present.chain(equal).collect();
    let all_same: Vec<&str> = same.iter().map(|(_, same)| same.as_str()).collect();
    let names: Vec<String> = same.iter().map(|(m, same)| format!("({same} ? '' : '{m}, ')")).collect();
    entry([
        (
            "rule",
            format!(
                "(has(oldSelf.status) ? self.status.phase != oldSelf.status.phase : has(self.status)) || \
                 self.spec == oldSelf.spec || {}",
                all_same.join(" && ")
            ),
        ),
        ("message", format!("members {message}")),
        (
            "messageExpression",
            format!("({} + '{message}').replace(', {message}', ' {message}')", names.join(" + ")),
        ),
        ("fieldPath", ".spec".to_owned()),
    ])
}

/// Moves rules of single members, whose field path is a name without a dot, to the schemas of these members.
///
/// For each look at a member the API server copies the schemas of all members of the object
/// (`model.Structural.Properties` of k8s.io/apiextensions-apiserver), and it evaluates all rules with every write, of
/// the status too. A rule on the member itself needs no look, and none at all where the member is absent.
pub(super) fn hand_down(schema: &mut Map<String, Value>) {
    let Some(Value::Array(all)) = schema.remove(RULES) else { return };
    let (own, kept): (Vec<Value>, Vec<Value>) = all
        .into_iter()
        .partition(|rule| rule["fieldPath"].as_str().is_some_and(|path| !path.starts_with('.')));
    for mut rule in own {
        let path = rule.as_object_mut().and_then(|rule| rule.remove("fieldPath")).unwrap_or_default();
        let member =
            path.as_str().and_then(|name| schema.get_mut("properties")?.get_mut(name)?.as_object_mut());
        let member = member.unwrap_or_else(|| panic!("a rule about {path}, which is no member"));
        if let Value::Array(rules) = member.entry(RULES).or_insert_with(|| Value::Array(Vec::new())) {
            rules.push(rule);
        }
    }
    if !kept.is_empty() {
        schema.insert(RULES.to_owned(), Value::Array(kept));
    }
}

/// Where a schema holds its rules.
pub(super) const RULES: &str = "x-kubernetes-validations";

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
