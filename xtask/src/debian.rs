//! Debian packages without installing them: what apt knows is downloaded and unpacked into a folder.
//!
//! apt resolves the dependencies and checks signatures, with lists of its own below `target/debian`, so that nothing of
//! this machine changes. The packages' scripts are not run: users, alternatives and caches that they would make are
//! missing, which programs that only need their files do not mind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cluster::repository;
use crate::process::{command, on_path, output};
use crate::step::step;

/// Which packages.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packages {
    /// These, and all that they depend on.
    pub(crate) with_dependencies: Vec<String>,
    /// These alone.
    #[serde(default)]
    pub(crate) alone: Vec<String>,
    /// Not these, whatever depends on them.
    #[serde(default)]
    pub(crate) without: Vec<String>,
}

/// Why packages cannot be unpacked on this machine, if so.
pub(crate) fn obstacle() -> Option<String> {
    let missing: Vec<_> = ["apt-get", "dpkg-deb", "tar"].into_iter().filter(|name| !on_path(name)).collect();
    if !missing.is_empty() {
        return Some(format!(
            "{} is missing: that works on Debian and its relatives only",
            missing.join(", ")
        ));
    }
    (!nix::unistd::geteuid().is_root()).then(|| "it takes root: files of packages belong to root".to_owned())
}

/// Unpacks packages into a new folder, unless the very same ones are there already.
pub(crate) fn unpack(packages: &Packages, root: &Path) -> Result<()> {
    if let Some(obstacle) = obstacle() {
        bail!("cannot unpack Debian packages: {obstacle}");
    }
    let apt = Apt::new()?;
    let title = format!("{} from Debian", packages.with_dependencies.join(", "));
    step(title, || {
        let files = apt.files(packages)?;
        let done = root.with_extension("packages");
        if fs::read_to_string(&done).is_ok_and(|text| text == files.join("\n")) {
            return Ok(());
        }
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        // As every Debian of today has it; older packages have files in both places.
        for folder in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(root.join("usr").join(folder))?;
            symlink(format!("usr/{folder}"), root.join(folder))?;
        }
        for file in &files {
            unpack_one(&apt.archives.join(file), root)?;
        }
        Ok(fs::write(done, files.join("\n"))?)
    })
}

/// A package's files, where links to folders stay what they are.
fn unpack_one(package: &Path, root: &Path) -> Result<()> {
    let mut files = Command::new("dpkg-deb");
    let mut files = files.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--keep-directory-symlink").arg("--directory").arg(root);
    let unpacked = tar.stdin(files.stdout.take().context("it writes")?).status()?;
    if !files.wait()?.success() || !unpacked.success() {
        bail!("cannot unpack {}", package.display());
    }
    Ok(())
}

/// Downloads packages and all that they need.
const INSTALL: [&str; 3] = ["install", "--no-install-recommends", "--download-only"];

/// apt with lists and a cache of its own, for a machine on which nothing is installed.
struct Apt {
    archives: PathBuf,
    /// A folder without any: apt lists only what it has not downloaded.
    none: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new() -> Result<Self> {
        let folder = repository()?.join("target/debian");
        let (archives, lists, status) =
            (folder.join("archives"), folder.join("lists"), folder.join("status"));
        let none = folder.join("none");
        for folder in [archives.join("partial"), none.join("partial"), lists.join("partial")] {
            fs::create_dir_all(folder)?;
        }
        fs::write(&status, "")?;
        let settings = [
            format!("Dir::State::lists={}", lists.display()),
            format!("Dir::State::status={}", status.display()),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            // The files belong to whoever runs this.
            "APT::Sandbox::User=root".to_owned(),
            // What hooks of this machine do is meant for what is installed here.
            "DPkg::Post-Invoke::=true".to_owned(),
        ];
        let options = settings.iter().flat_map(|setting| ["--option".to_owned(), setting.clone()]).collect();
        Ok(Self { archives, none, options })
    }

    fn run(&self, args: &[&str], packages: &[String]) -> Result<String> {
        self.run_in(&self.archives, args, packages)
    }

    fn run_in(&self, archives: &Path, args: &[&str], packages: &[String]) -> Result<String> {
        let mut apt = command("apt-get", &self.options);
        apt.arg("--option").arg(format!("Dir::Cache::archives={}", archives.display()));
        output(apt.args(["--yes", "--quiet=2"]).args(args).args(packages).current_dir(archives))
    }

    /// The names of the files that a command would download.
    fn list(&self, args: &[&str], packages: &[String]) -> Result<Vec<String>> {
        let listed = self.run_in(&self.none, &[args, &["--print-uris"]].concat(), packages)?;
        Ok(names(&listed).collect())
    }

    /// The names of the packages' files, which are there then. What apt knew last is good enough while all of them are:
    /// only then is nobody asked over the network.
    fn files(&self, packages: &Packages) -> Result<Vec<String>> {
        let is_there = |file: &String| self.archives.join(file).exists();
        // Without any lists apt knows no package.
        if let Ok(files) = self.needed(packages)
            && files.iter().all(is_there)
        {
            return Ok(files);
        }
        self.run(&["update"], &[])?;
        self.run(&INSTALL, &packages.with_dependencies)?;
        if !packages.alone.is_empty() {
            self.run(&["download"], &packages.alone)?;
        }
        self.needed(packages)
    }

    /// The names of the files that the packages consist of, by what apt knows.
    fn needed(&self, packages: &Packages) -> Result<Vec<String>> {
        let mut files = self.list(&INSTALL, &packages.with_dependencies)?;
        let is_wanted = |file: &String| {
            let name = file.split('_').next().unwrap_or_default();
            !packages.without.iter().any(|other| other == name)
        };
        files.retain(is_wanted);
        if !packages.alone.is_empty() {
            files.extend(self.list(&["download"], &packages.alone)?);
        }
        Ok(files)
    }
}

/// The file names in lines such as `'http://…/x.deb' x_1_amd64.deb 4096 SHA256:…`.
fn names(listed: &str) -> impl Iterator<Item = String> + '_ {
    let lines = listed.lines().filter(|line| line.starts_with('\''));
    lines.filter_map(|line| line.split(' ').nth(1)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_from_what_apt_prints() {
        let listed = "Reading…\n'http://deb.debian.org/x/jwm_2.4.3-1_amd64.deb' jwm_2.4.3-1_amd64.deb 21 SHA256:0\n\
                      'http://deb.debian.org/x/l.deb' libx11-6_2%3a1.8.4-2_amd64.deb 7 SHA256:1\n";
        assert_eq!(
            names(listed).collect::<Vec<_>>(),
            ["jwm_2.4.3-1_amd64.deb", "libx11-6_2%3a1.8.4-2_amd64.deb"]
        );
    }
}
