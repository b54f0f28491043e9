//! What kubectl shows: the rows as a Table, for clients that ask for one
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>).

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::crd::waiting_job::WaitingJob;

/// True if the client prefers a Table.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let words: Vec<&str> = kind.split(';').map(str::trim).collect();
        words[0] == "application/json"
            && ["as=Table", "v=v1", "g=meta.k8s.io"].iter().all(|word| words.contains(word))
    })
}

/// What a row carries of its object: `includeObject` of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// The Table of some rows.
pub(super) fn table(metadata: &Value, rows: &[&WaitingJob], include: Include) -> Value {
    let column = |name: &str, kind: &str, priority: i32, description: &str| {
        json!({"name": name, "type": kind, "format": if name == "Name" { "name" } else { "" },
            "priority": priority, "description": description})
    };
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "Table",
        "metadata": metadata,
        "columnDefinitions": [
            column("Name", "string", 0, "The job's name"),
            column("Queue", "string", 0, "Its queue"),
            column("Position", "string", 0, "Its place in its queue; 1 is next"),
            column("Elsewhere", "string", 1, "Jobs of other queues on the same environments before it"),
            column("Waits for", "string", 0, "What it waits for"),
            column("Since", "string", 0, "Since when"),
        ],
        "rows": rows.iter().map(|row| json!({
            "cells": cells(row),
            "object": object(row, include),
        })).collect::<Vec<_>>(),
    })
}

fn cells(row: &WaitingJob) -> Vec<Value> {
    let status = &row.status;
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let since = status.since.map(|since| since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    vec![
        json!(row.metadata.name),
        json!(status.job_queue),
        json!(number(status.position)),
        json!(number(status.ahead_in_other_queues)),
        json!(status.waits_for),
        json!(since),
    ]
}

fn object(row: &WaitingJob, include: Include) -> Value {
    match include {
        Include::None => Value::Null,
        Include::Metadata => json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": row.metadata}),
        Include::Object => json!(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_wants_a_table_and_programs_do_not() {
        let wants = |accept: &str| {
            is_wanted(&[(header::ACCEPT, accept.parse().expect("a value"))].into_iter().collect())
        };
        assert!(wants(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
        ));
        assert!(wants("application/json; as=Table; g=meta.k8s.io; v=v1"));
        for accept in ["application/json", "*/*", "application/json;as=Table;v=v1beta1;g=meta.k8s.io"] {
            assert!(!wants(accept), "{accept}");
        }
    }
}
