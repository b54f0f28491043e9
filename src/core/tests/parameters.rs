//! What holds of `Ref::name` whatever a command and its parameters say.

#[path = "support/cases.rs"]
mod cases;

use batchyard_core::definition::parameters::{LONGEST_COMMAND, Parameters, merge, substitute};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,4}"
}

fn parameters() -> impl Strategy<Value = Parameters> {
    btree_map(name(), ".{0,12}", 0..5)
}

/// Words without a reference, and references, side by side.
fn pieces() -> impl Strategy<Value = Vec<Result<String, String>>> {
    let plain = "[ a-zA-Z0-9=/$.]{0,8}";
    vec(prop_oneof![plain.prop_map(Ok), name().prop_map(Err)], 0..6)
}

proptest! {
    #![proptest_config(cases::config(256))]

    #[test]
    fn what_has_no_reference_stays(command in vec("[^:]{0,20}", 0..5), parameters in parameters()) {
        prop_assert_eq!(substitute(&command, &parameters), Ok(command));
    }

    /// Each reference is replaced by its value alone, and values are not looked at again.
    #[test]
    fn references_become_their_values(pieces in pieces(), known in parameters()) {
        // Something that ends a name stands behind each.
        let written: String = pieces
            .iter()
            .map(|piece| match piece {
                Ok(text) => text.clone(),
                Err(name) => format!("Ref::{name}|"),
            })
            .collect();
        let missing = pieces.iter().filter_map(|piece| piece.as_ref().err()).find(|name| !known.contains_key(*name));
        match (substitute(std::slice::from_ref(&written), &known), missing) {
            (Err(why), Some(name)) => prop_assert!(why.ends_with(&format!(" {name}")), "{why}: {name}"),
            (Ok(got), None) => {
                let value = |piece: &Result<String, String>| match piece {
                    Ok(text) => text.clone(),
                    Err(name) => format!("{}|", known[name]),
                };
                prop_assert_eq!(got, vec![pieces.iter().map(value).collect::<String>()]);
            }
            (got, missing) => prop_assert!(false, "{written:?}: {got:?}, missing {missing:?}"),
        }
    }

    #[test]
    fn a_job_s_values_win_and_nothing_is_lost(definition in parameters(), job in parameters()) {
        let merged = merge(&definition, &job);
        for (name, value) in &merged {
            prop_assert_eq!(Some(value), job.get(name).or_else(|| definition.get(name)));
        }
        prop_assert!(definition.keys().chain(job.keys()).all(|name| merged.contains_key(name)));
    }

    #[test]
    fn no_command_grows_without_bound(references in 1..4000_usize, length in 1..40_000_usize) {
        let known = Parameters::from([("x".to_owned(), "v".repeat(length))]);
        let command = vec!["Ref::x".to_owned(); references];
        let fits = references * length <= LONGEST_COMMAND;
        let result = substitute(&command, &known);
        prop_assert_eq!(result.is_ok(), fits);
        let bytes: usize = result.unwrap_or_default().iter().map(String::len).sum();
        prop_assert!(bytes <= LONGEST_COMMAND);
    }
}
