//! The driver journald: from a record to an entry of the node's journal.
//!
//! Fluent Bit has no output for the journal. It sends its records, a JSON object in each line, to a helper on the pod's
//! loopback, which writes what [`entry`] makes of each line to the socket of the node's journal, one datagram for each
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). The fields are those of Docker's driver
//! (<https://docs.docker.com/engine/logging/drivers/journald/>) and, with a prefix, those that tell of the job.

use serde_json::{Map, Value};

/// The socket of the journal on the node.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Priorities of syslog, as Docker gives them.
const INFO: &str = "6";
const ERROR: &str = "3";

/// The datagram for a line; nothing if the line is no record.
pub fn entry(line: &[u8]) -> Option<Vec<u8>> {
    let record: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let mut datagram = Vec::new();
    field(&mut datagram, "MESSAGE", text("log")?);
    field(&mut datagram, "PRIORITY", if text("stream") == Some("stderr") { ERROR } else { INFO });
    for (name, member) in [
        ("SYSLOG_IDENTIFIER", "tag"),
        ("SYSLOG_TIMESTAMP", "time"),
        ("CONTAINER_TAG", "tag"),
        ("CONTAINER_NAME", "container"),
    ] {
        if let Some(value) = text(member) {
            field(&mut datagram, name, value);
        }
    }
    let known = ["job_id", "job_name", "queue", "definition", "attempt", "array_index", "node_index"];
    for member in known {
        if let Some(value) = text(member) {
            field(&mut datagram, &format!("BATCHYARD_{}", member.to_ascii_uppercase()), value);
        }
    }
    Some(datagram)
}

/// A field. A value with a line break has its length before it, so that no line of a job can be another field.
fn field(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let line = br#"{"date":1,"time":"2026-03-01T00:00:00.000000001Z","log":"hello","stream":"stderr","job_id":"a:3","array_index":"3",
            "tag":"t","container":"c","x":"y"}"#;
        let want = "MESSAGE=hello\nPRIORITY=3\nSYSLOG_IDENTIFIER=t\nSYSLOG_TIMESTAMP=2026-03-01T00:00:00.000000001Z\nCONTAINER_TAG=t\nCONTAINER_NAME=c\nBATCHYARD_JOB_ID=a:3\n\
                    BATCHYARD_ARRAY_INDEX=3\n";
        assert_eq!(String::from_utf8(entry(line).expect("a record")).expect("text"), want);
        for line in [&b""[..], b"x", b"[]", b"{}", b"{\"log\":1}", b"\xff"] {
            assert_eq!(entry(line), None);
        }
    }

    #[test]
    fn no_line_becomes_a_field() {
        let datagram = entry(br#"{"log":"a\nPRIORITY=0","stream":"stdout"}"#).expect("a record");
        let mut want = b"MESSAGE\n".to_vec();
        want.extend_from_slice(&12u64.to_le_bytes());
        want.extend_from_slice(b"a\nPRIORITY=0\nPRIORITY=6\n");
        assert_eq!(datagram, want);
    }
}
