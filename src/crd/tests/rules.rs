//! Each rule is tried, with its message.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{all_cases, crds, schema, verdict};

#[test]
fn every_case_gets_the_answer_it_should() {
    let mut wrong = Vec::new();
    for case in all_cases() {
        let mut want = case.says.clone();
        want.sort_unstable();
        let said = verdict(case.kind, case.old.as_ref(), &case.new);
        if said != want {
            wrong.push(format!("{} {}\n  said {said:?}\n  want {want:?}", case.kind, case.new));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_has_a_case() {
    let cases = all_cases();
    let tried: BTreeSet<&str> = cases.iter().flat_map(|case| case.says.iter().copied()).collect();
    let mut missing = Vec::new();
    for crd in crds() {
        let kind = crd.spec.names.kind.as_str();
        let mut messages = BTreeSet::new();
        collect_messages(&schema(kind), &mut messages);
        missing.extend(
            messages.into_iter().filter(|m| !tried.contains(m.as_str())).map(|m| format!("{kind}: {m}")),
        );
    }
    assert!(missing.is_empty(), "no case for:\n{}", missing.join("\n"));
}

/// The messages of all rules below; a rule with a message expression stands with the value that the cases give it.
fn collect_messages(schema: &Value, messages: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = match rule.get("messageExpression") {
            Some(expression) if expression == "\"User '\" + self + \"' does not match regex\"" => {
                "User 'Not Valid' does not match regex".to_owned()
            }
            Some(expression)
                if expression.as_str().is_some_and(|text| text.starts_with("((has(self.spec.")) =>
            {
                "tags cannot be changed after the job was submitted".to_owned()
            }
            Some(other) => panic!("a message expression without a case: {other}"),
            None => rule["message"].as_str().expect("each rule has a message").to_owned(),
        };
        messages.insert(message);
    }
    for key in ["items", "additionalProperties"] {
        collect_messages_in(schema.get(key), messages);
    }
    for below in schema["properties"].as_object().into_iter().flat_map(|p| p.values()) {
        collect_messages(below, messages);
    }
}

fn collect_messages_in(schema: Option<&Value>, messages: &mut BTreeSet<String>) {
    if let Some(schema) = schema {
        collect_messages(schema, messages);
    }
}
