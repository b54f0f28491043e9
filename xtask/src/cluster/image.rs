//! Images of our own, made without Docker from the recipes in `tests/images`.
//!
//! An image becomes an archive as `docker save` writes it: one layer, a configuration and a
//! manifest. The local provider pushes it into its registry, so that nodes really pull it; kind
//! loads it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;
use tar::{Builder, EntryType, Header, HeaderMode};

use super::local::Local;
use super::repository;
use super::state::write_atomically;
use super::tools::Tools;
use crate::debian::{self, Packages};
use crate::process::{command, output, sh, sha256};
use crate::step::step;

/// `image.json` in a folder of `tests/images`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    /// The names that the image gets.
    tags: Vec<String>,
    /// Whether it has busybox and a link for each of its applets.
    #[serde(default)]
    busybox: bool,
    /// Executable files: path in the image, path in the recipe's folder.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// A static program of the tools, put into the root folder.
    tool: Option<String>,
    /// A program that Cargo built beside this one; it comes with the libraries it links to.
    program: Option<String>,
    /// Debian packages that it is made of, unpacked; it has no other programs then.
    debian: Option<Packages>,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    cmd: Vec<String>,
    /// uid[:gid]; root if absent.
    #[serde(default)]
    user: String,
}

/// The folders of the recipes that need no program of ours; these images are always there.
const BUILT_IN: &[&str] = &["pause", "alpine", "random-ec", "ring", "device-plugin", "session"];

/// The folder of the recipe of the operator's image.
pub(crate) const OPERATOR: &str = "operator";

/// An archive with a name that it is to have.
pub(crate) struct Archive {
    /// The image name, as in a pod.
    pub(crate) tag: String,
    /// The archive.
    pub(crate) file: PathBuf,
}

/// Pushes the built-in images unless the registry has them already.
pub(crate) fn push_built_in(local: &Local) -> Result<()> {
    BUILT_IN.iter().try_for_each(|recipe| push_recipe(local, recipe))
}

/// Makes an image and pushes it, unless the very same one was pushed before.
pub(crate) fn push_recipe(local: &Local, recipe: &str) -> Result<()> {
    let folder = local.folder.join("images");
    let image = build(&local.tools, recipe, &folder)?;
    for archive in image.archives {
        let digest = &image.digest;
        let pushed = folder.join(reference(&archive.tag).replace(['/', ':'], "_"));
        if fs::read_to_string(&pushed).is_ok_and(|text| text == *digest) {
            continue;
        }
        step(format!("push {}", archive.tag), || push(local, &archive))?;
        write_atomically(&pushed, digest)?;
    }
    Ok(())
}

/// Pushes an archive into the registry under the name that nodes ask for.
pub(crate) fn push(local: &Local, archive: &Archive) -> Result<()> {
    let unpacked = local.folder.join("images/oci-layout");
    let source = if is_oci_layout(&archive.file)? {
        let _ = fs::remove_dir_all(&unpacked);
        tar::Archive::new(File::open(&archive.file)?).unpack(&unpacked)?;
        &unpacked
    } else {
        &archive.file
    };
    let target = format!("{}/{}", local.state.net.registry(), reference(&archive.tag));
    let mut crane = command(local.tools.program("crane")?, ["push", "--insecure"]);
    output(crane.arg(source).arg(target))?;
    Ok(())
}

/// An image made from a recipe.
pub(crate) struct Image {
    /// The archive, once per name.
    pub(crate) archives: Vec<Archive>,
    /// Changes whenever the content or the configuration does.
    digest: String,
}

/// The tool that a recipe puts into its image, if any.
pub(crate) fn tool(recipe: &str) -> Result<Option<String>> {
    Ok(read(recipe)?.1.tool)
}

/// The folder of a recipe, and what it says.
fn read(recipe: &str) -> Result<(PathBuf, Recipe)> {
    let source = repository()?.join("tests/images").join(recipe);
    let text = fs::read_to_string(source.join("image.json"))
        .with_context(|| format!("no recipe in {}", source.display()))?;
    Ok((source, serde_json::from_str(&text).with_context(|| format!("recipe {recipe}"))?))
}

/// Makes the archive of a recipe in `folder`.
pub(crate) fn build(tools: &Tools, recipe: &str, folder: &Path) -> Result<Image> {
    let (source, parsed) = read(recipe)?;
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("{recipe}.tar"));
    let layer = layer(tools, &parsed, &source)?;
    let config = config(&parsed, &sha256(&layer)?);
    write_archive(&file, &parsed, &config, &layer)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let archives = parsed.tags.into_iter().map(|tag| Archive { tag, file: file.clone() }).collect();
    Ok(Image { archives, digest: sha256(config.as_bytes())? })
}

fn layer(tools: &Tools, recipe: &Recipe, source: &Path) -> Result<Vec<u8>> {
    let mut layer = Layer(Builder::new(Vec::new()));
    let with_programs: &[&str] = if recipe.debian.is_some() { &[] } else { &["bin", "lib", "lib64"] };
    let folders = ["dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var"];
    if let Some(packages) = &recipe.debian {
        let root = repository()?.join("target/debian").join(recipe.tags[0].replace(['/', ':'], "-"));
        debian::unpack(packages, &root)?;
        layer.tree(&root)?;
    }
    for folder in with_programs.iter().chain(&folders) {
        let folder = *folder;
        layer.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 })?;
    }
    layer.file(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65532:65532:nobody:/tmp:/bin/false\n",
        0o644,
    )?;
    layer.file("etc/group", b"root:x:0:\nnobody:x:65532:\n", 0o644)?;
    layer.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n", 0o644)?;
    if recipe.busybox {
        layer.file("bin/busybox", &fs::read("/bin/busybox")?, 0o755)?;
        for applet in sh("/bin/busybox", "--list-full")?.lines().filter(|applet| *applet != "bin/busybox") {
            layer.link(applet, "/bin/busybox")?;
        }
    }
    for (path, file) in &recipe.files {
        layer.file(path, &fs::read(source.join(file))?, 0o755)?;
    }
    if let Some(tool) = &recipe.tool {
        layer.file(tool, &fs::read(tools.program(tool)?)?, 0o755)?;
    }
    if let Some(program) = &recipe.program {
        layer.program(program)?;
    }
    Ok(layer.0.into_inner()?)
}

/// A file system layer whose bytes depend on its content only, not on times and owners.
struct Layer<W: Write>(Builder<W>);

impl<W: Write> Layer<W> {
    fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = header(EntryType::Directory, mode, 0);
        Ok(self.0.append_data(&mut header, format!("{path}/"), std::io::empty())?)
    }

    fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let mut header = header(EntryType::Regular, mode, content.len());
        Ok(self.0.append_data(&mut header, path.trim_start_matches('/'), content)?)
    }

    /// A folder with all that is in it.
    fn tree(&mut self, folder: &Path) -> Result<()> {
        self.0.mode(HeaderMode::Deterministic);
        self.0.follow_symlinks(false);
        Ok(self.0.append_dir_all("", folder)?)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        Ok(self.0.append_link(&mut header, path, target)?)
    }

    /// A dynamically linked program with what the loader needs to start it.
    fn program(&mut self, name: &str) -> Result<()> {
        let path = built_program(name)?;
        self.file(&format!("usr/local/bin/{name}"), &fs::read(&path)?, 0o755)?;
        for library in libraries(&sh("ldd", &path.display().to_string())?) {
            self.file(library, &fs::read(library)?, 0o755)?;
        }
        Ok(())
    }
}

/// A program that Cargo built into the same folder as this one; tests are one folder deeper.
pub(crate) fn built_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let own = own.parent().context("a program lies in a folder")?;
    let path = if own.ends_with("deps") { own.with_file_name(name) } else { own.join(name) };
    if !path.exists() {
        bail!("{} does not exist; `cargo build` makes it", path.display());
    }
    Ok(path)
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

/// The absolute paths that `ldd` names: the loader and the libraries it found.
fn libraries(ldd: &str) -> Vec<&str> {
    ldd.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|word| word.trim_end_matches(':'))
        .collect()
}

/// The image's configuration; the digest of its layer makes it different for different content.
fn config(recipe: &Recipe, layer_digest: &str) -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": recipe.entrypoint,
            "Cmd": recipe.cmd,
            "User": recipe.user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    })
    .to_string()
}

fn write_archive(file: &Path, recipe: &Recipe, config: &str, layer: &[u8]) -> Result<()> {
    let manifest =
        json!([{"Config": "config.json", "RepoTags": recipe.tags, "Layers": ["layer.tar"]}]).to_string();
    let mut archive = Layer(Builder::new(File::create(file)?));
    archive.file("config.json", config.as_bytes(), 0o644)?;
    archive.file("layer.tar", layer, 0o644)?;
    archive.file("manifest.json", manifest.as_bytes(), 0o644)?;
    archive.0.finish()?;
    Ok(())
}

fn is_oci_layout(file: &Path) -> Result<bool> {
    let file = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    for entry in tar::Archive::new(file).entries()? {
        if entry?.path()?.ends_with("manifest.json") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name of an image in a registry: without a registry's name, with `library/` where Docker
/// Hub has it.
fn reference(tag: &str) -> String {
    let path = match tag.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest.to_owned(),
        Some(_) => tag.to_owned(),
        None => format!("library/{tag}"),
    };
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { path } else { format!("{path}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_as_docker_completes_them() {
        for (tag, expected) in [
            ("alpine", "library/alpine:latest"),
            ("alpine:3", "library/alpine:3"),
            ("qnib/random-ec:2020-10-13.3", "qnib/random-ec:2020-10-13.3"),
            ("registry.k8s.io/pause:3.10", "pause:3.10"),
            ("localhost/a/b", "a/b:latest"),
        ] {
            assert_eq!(reference(tag), expected);
        }
    }

    #[test]
    fn the_loader_and_the_libraries_are_found() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(libraries(ldd), ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
