//! A registry that is not well: it listens on the cluster's own bridge and answers every request
//! as the first part of the image's name says.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::cluster::{self, Cluster};
use crate::process::sha256;

/// Where it listens.
const PORT: u16 = 5050;
/// Where nobody listens.
const CLOSED: u16 = 5051;

/// The registry's name in images.
pub(super) fn address(cluster: &Cluster) -> Result<String> {
    own(cluster, PORT)
}

/// The registry that does not answer, in the words of images.
pub(super) fn closed(cluster: &Cluster) -> Result<String> {
    own(cluster, CLOSED)
}

fn own(cluster: &Cluster, port: u16) -> Result<String> {
    let registry = cluster.registry.as_deref().context("the cluster has no registry of ours")?;
    let (host, _) = registry.split_once(':').context("a registry has a port")?;
    Ok(format!("{host}:{port}"))
}

/// A registry at an address that nobody has.
pub(super) fn away(cluster: &Cluster) -> Result<String> {
    let own = address(cluster)?;
    let (network, _) = own.rsplit_once('.').context("an address has dots")?;
    Ok(format!("{network}.250:{PORT}"))
}

/// While it is held, the registry answers and the nodes know the way to it.
pub(super) struct Registry {
    ways: Vec<PathBuf>,
    /// Connections that are never answered.
    _held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Registry {
    /// Opens it for these nodes.
    pub(super) fn open(cluster: &Cluster, nodes: &[String]) -> Result<Self> {
        let listener = TcpListener::bind(address(cluster)?).context("the address of the bad registry")?;
        let name = address(cluster)?;
        let held = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&held);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (name, keep) = (name.clone(), Arc::clone(&keep));
                // A client that goes away in the middle is no concern of ours.
                thread::spawn(move || answer(connection, &name, &keep));
            }
        });
        let mut ways = Vec::new();
        for node in nodes {
            for registry in [own(cluster, PORT)?, own(cluster, CLOSED)?, away(cluster)?] {
                ways.push(way(cluster, node, &registry)?);
            }
        }
        Ok(Self { ways, _held: held })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for way in &self.ways {
            // What stays leads to a port where nobody listens.
            let _ = fs::remove_dir_all(way);
        }
    }
}

/// Lets a node ask this registry for images that are named after it; all others come from the
/// cluster's own.
fn way(cluster: &Cluster, node: &str, name: &str) -> Result<PathBuf> {
    let folder = cluster::node_folder(&cluster.name, node)?.join("etc/certs.d").join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("hosts.toml"), format!("server = \"http://{name}\"\n"))?;
    Ok(folder)
}

/// Answers the first request of a connection and closes it.
fn answer(connection: TcpStream, own: &str, held: &Mutex<Vec<TcpStream>>) -> Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for header in lines {
        if header?.is_empty() {
            break;
        }
    }
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let place = path.trim_start_matches("/v2/").split(['/', '?']).find(|part| !part.is_empty());
    match place.unwrap_or_default() {
        "slow" => held.lock().unwrap_or_else(PoisonError::into_inner).push(connection),
        "cut" => {}
        place => {
            let Answer { status, headers, body } = of(place, own)?;
            let length = body.len();
            let body = if request.starts_with("HEAD") { String::new() } else { body };
            let head =
                format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n");
            write!(&connection, "{head}\r\n{body}")?;
        }
    }
    Ok(())
}

struct Answer {
    status: &'static str,
    headers: String,
    body: String,
}

/// The answers, in the form of <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>.
fn of(place: &str, own: &str) -> Result<Answer> {
    let error = |status, code: &str, message: &str| Answer {
        status,
        headers: "Content-Type: application/json\r\n".to_owned(),
        body: format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#),
    };
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"capture\"\r\n");
    Ok(match place {
        "unauthorized" => Answer {
            headers: challenge,
            ..error("401 Unauthorized", "UNAUTHORIZED", "authentication required")
        },
        "token" => error("401 Unauthorized", "UNAUTHORIZED", "authentication required"),
        "forbidden" => error("403 Forbidden", "DENIED", "requested access to the resource is denied"),
        "limited" => {
            error("429 Too Many Requests", "TOOMANYREQUESTS", "You have reached your pull rate limit")
        }
        "broken" => error("503 Service Unavailable", "UNAVAILABLE", "the registry is being repaired"),
        "other-platform" => index()?,
        _ => error("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
    })
}

/// An image that exists for another platform only.
fn index() -> Result<Answer> {
    let kind = "application/vnd.oci.image.index.v1+json";
    let nothing = sha256(b"")?;
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{nothing}","size":2,"platform":{{"architecture":"s390x","os":"linux"}}}}]}}"#
    );
    let headers =
        format!("Content-Type: {kind}\r\nDocker-Content-Digest: sha256:{}\r\n", sha256(body.as_bytes())?);
    Ok(Answer { status: "200 OK", headers, body })
}
