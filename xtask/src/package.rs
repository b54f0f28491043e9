//! `cargo xtask package`: the kubectl plugin as an archive, and the manifest by which krew installs it
//! (<https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/>).

use std::env::consts::{ARCH, OS};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use crate::cluster::repository;
use crate::process::{output, sha256};
use crate::step::{say, step};

/// The plugin as krew installs it: an archive for this machine's platform, and the manifest.
#[derive(Debug, Args)]
pub struct PackageArgs {
    /// Where to write; archives of other platforms that lie there already are listed, too
    #[arg(long, value_name = "FOLDER", default_value = "target/package")]
    out: PathBuf,
    /// Where the archives will be downloaded from
    #[arg(long, value_name = "URL", default_value = concat!(env!("CARGO_PKG_REPOSITORY"), "/releases/download"))]
    download: String,
}

/// The version that is packaged, as krew writes it.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Builds the plugin and writes both files.
pub fn run(args: &PackageArgs) -> Result<()> {
    let folder = repository()?.join(&args.out);
    let program = step("build kubectl batch", built)?;
    let archive = folder.join(format!("kubectl-batch-{VERSION}-{}-{}.tar.gz", os(OS), arch(ARCH)));
    step(format!("write {}", archive.display()), || {
        fs::create_dir_all(&folder)?;
        fs::write(&archive, packed(&contents(&program)?)?)?;
        Ok(())
    })?;
    let file = folder.join("batch.yaml");
    fs::write(&file, manifest(&archives(&folder)?, &args.download))?;
    say(format!("wrote {}", file.display()));
    say(format!(
        "try it: kubectl krew install --manifest={} --archive={}",
        file.display(),
        archive.display()
    ));
    Ok(())
}

fn built() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = repository()?;
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "--package", "batchyard", "--bin", "kubectl-batch"]);
    output(build.current_dir(&root))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/kubectl-batch"))
}

/// A file of the archive: name, mode and content.
type Entry = (&'static str, u32, Vec<u8>);

/// The program, what it prints for packages, and the licence, which krew asks for.
fn contents(program: &Path) -> Result<Vec<Entry>> {
    let printed = |words: &[&str]| output(Command::new(program).args(words)).map(String::into_bytes);
    Ok(vec![
        ("kubectl-batch", 0o755, fs::read(program).with_context(|| program.display().to_string())?),
        ("LICENSE", 0o644, fs::read(repository()?.join("LICENSE"))?),
        ("man/man1/kubectl-batch.1", 0o644, printed(&["man"])?),
        ("completions/kubectl-batch.bash", 0o644, printed(&["completion", "bash"])?),
        ("completions/_kubectl-batch", 0o644, printed(&["completion", "zsh"])?),
        ("completions/kubectl-batch.fish", 0o644, printed(&["completion", "fish"])?),
    ])
}

/// The same bytes for the same content, whenever and by whomever it is packed.
fn packed(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (name, mode, content) in entries {
        let mut header = Header::new_ustar();
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_size(u64::try_from(content.len())?);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    Ok(archive.into_inner()?.finish()?)
}

/// An archive of this version.
struct Archive {
    name: String,
    os: String,
    arch: String,
    sha256: String,
}

/// The archives in a folder, by their names.
fn archives(folder: &Path) -> Result<Vec<Archive>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let platform = name
            .strip_prefix(&format!("kubectl-batch-{VERSION}-"))
            .and_then(|rest| rest.strip_suffix(".tar.gz"))
            .and_then(|platform| platform.split_once('-'));
        let Some((os, arch)) = platform else { continue };
        let (os, arch) = (os.to_owned(), arch.to_owned());
        found.push(Archive { os, arch, sha256: sha256(&fs::read(&path)?)?, name });
    }
    ensure!(!found.is_empty(), "{} holds no archive of {VERSION}", folder.display());
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn manifest(archives: &[Archive], download: &str) -> String {
    let mut text = format!(
        "apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: batch
spec:
  version: {VERSION}
  homepage: {homepage}
  shortDescription: AWS Batch's jobs, queues and retry strategies
  description: |
    Works with the jobs of Batchyard, which brings the semantics of AWS Batch
    to any Kubernetes cluster: submits them, shows why they wait or ended and
    which retry rule decided, follows their output across attempts, ends them,
    and runs them again.
  caveats: |
    The cluster needs Batchyard's operator and resources.
    Words are completed once kubectl finds the program by a second name:
      ln -s \"$(command -v kubectl-batch)\" ~/.local/bin/kubectl_complete-batch
  platforms:
",
        homepage = env!("CARGO_PKG_REPOSITORY"),
    );
    for Archive { name, os, arch, sha256 } in archives {
        let _ = write!(
            text,
            "  - selector:
      matchLabels:
        os: {os}
        arch: {arch}
    uri: {download}/{VERSION}/{name}
    sha256: {sha256}
    bin: kubectl-batch
"
        );
    }
    text
}

/// As Go names it.
fn os(rust: &str) -> &str {
    match rust {
        "macos" => "darwin",
        other => other,
    }
}

/// As Go names it.
fn arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_the_same_archive() {
        let entries = [("kubectl-batch", 0o755, b"program".to_vec()), ("LICENSE", 0o644, b"words".to_vec())];
        let one = packed(&entries).expect("an archive");
        assert_eq!(one, packed(&entries).expect("an archive"));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(one.as_slice()));
        let names: Vec<_> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let mode = entry.header().mode().expect("a mode");
                (entry.path().expect("a path").display().to_string(), mode)
            })
            .collect();
        assert_eq!(names, [("kubectl-batch".to_owned(), 0o755), ("LICENSE".to_owned(), 0o644)]);
    }

    #[test]
    fn the_manifest_lists_each_platform() {
        let archive = |os: &str| Archive {
            name: format!("kubectl-batch-{VERSION}-{os}-arm64.tar.gz"),
            os: os.to_owned(),
            arch: "arm64".to_owned(),
            sha256: "ab".repeat(32),
        };
        let text = manifest(&[archive("darwin"), archive("linux")], "https://example.com/d");
        assert_eq!(text.matches("bin: kubectl-batch\n").count(), 2);
        let uri =
            format!("uri: https://example.com/d/{VERSION}/kubectl-batch-{VERSION}-linux-arm64.tar.gz\n");
        assert!(text.contains(&uri), "{text}");
        assert!(text.contains("        os: darwin\n        arch: arm64\n"), "{text}");
        // krew refuses a longer one.
        let short = text.lines().find_map(|line| line.trim().strip_prefix("shortDescription: "));
        assert!(short.is_some_and(|short| short.len() <= 50), "{short:?}");
    }
}
