//! The parts that a container is described by, whichever kind of job it belongs to.

use super::secrets::SecretKey;

/// A user by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: Option<i64>,
}

/// Names that mean the same in every image, and their numbers: the superuser, and the user who owns nothing. An old
/// distribution may know the latter by another number; 65534 owns nothing there either.
const KNOWN: [(&str, i64); 2] = [("root", 0), ("nobody", 65_534)];
/// Debian's name for the group of `nobody`.
const NOGROUP: &str = "nogroup";

impl User {
    /// Reads `1000`, `1000:1000`, `root` or `nobody`; any other name cannot be known before the image is there.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |name: &str| {
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            known.map(|(_, number)| *number).or_else(|| name.parse().ok().filter(|number| *number >= 0))
        };
        match text.split_once(':') {
            None => Some(Self { uid: number(text)?, gid: None }),
            Some((user, group)) => {
                let group = if group == NOGROUP { "nobody" } else { group };
                Some(Self { uid: number(user)?, gid: Some(number(group)?) })
            }
        }
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub source: Source,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing at first; it goes with the pod.
    Empty,
    /// A folder of the host.
    Host(String),
    /// A file system that outlives the job, by the PersistentVolumeClaim of the job's namespace that stands for it.
    Claim {
        /// The claim's name.
        name: String,
        /// The folder in it that becomes the volume, without a slash at its ends; empty for all of it.
        folder: String,
    },
}

/// The name of the claim that stands for a file system of AWS: the file system's id, and the access point's behind it.
///
/// ```
/// use batchyard_core::definition::container::claim;
/// assert_eq!(claim("fs-0123abcd", None), "fs-0123abcd");
/// assert_eq!(claim("fs-0123abcd", Some("fsap-0a1b")), "fs-0123abcd-fsap-0a1b");
/// ```
pub fn claim(file_system: &str, access_point: Option<&str>) -> String {
    let last = |reference: &str| crate::name::resource(reference).to_owned();
    let parts: Vec<String> = std::iter::once(file_system).chain(access_point).map(last).collect();
    crate::name::slug(&parts.join("-"))
}

/// Where a volume appears in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// The path in the container.
    pub path: String,
    /// Whether it can be written.
    pub read_only: bool,
}

/// `linuxParameters` and `ulimits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linux {
    /// `sharedMemorySize`, MiB.
    pub shared_memory_mib: Option<i64>,
    /// `tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `initProcessEnabled`: somebody reaps the children of processes that are gone.
    pub init_process: bool,
    /// `devices`.
    pub devices: Vec<Device>,
    /// `ulimits`.
    pub ulimits: Vec<Ulimit>,
}

impl Linux {
    /// Boxed, if it says anything.
    pub fn stated(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// A file system in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its path in the container.
    pub path: String,
    /// Its size in MiB.
    pub size_mib: i64,
    /// It cannot be written.
    pub read_only: bool,
}

/// Options of a tmpfs that say what a volume in memory is anyway.
const AS_IT_IS: [&str; 12] = [
    "defaults",
    "rw",
    "dev",
    "exec",
    "suid",
    "async",
    "relatime",
    "nomand",
    "private",
    "rprivate",
    "mode=777",
    "mode=0777",
];

/// Whether a mount option of a tmpfs has its effect here: it is the case anyway, or makes the mount read-only.
pub fn is_known_mount_option(option: &str) -> bool {
    option == READ_ONLY || AS_IT_IS.contains(&option)
}

/// The mount option that a mount can have here.
pub const READ_ONLY: &str = "ro";

/// A device of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its path on the node.
    pub host_path: String,
    /// Its path in the container.
    pub path: String,
}

/// A limit of the container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name, such as `nofile`.
    pub name: String,
    /// The soft limit; -1 for none.
    pub soft: i64,
    /// The hard limit; -1 for none.
    pub hard: i64,
}

/// A variable whose value stands in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretVariable {
    /// The variable.
    pub name: String,
    /// Where its value stands.
    pub from: SecretKey,
}

/// What kind of machine a job needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// `cpuArchitecture`.
    pub architecture: Option<Architecture>,
    /// `operatingSystemFamily`.
    pub system: Option<System>,
}

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `X86_64`
    X86,
    /// `ARM64`
    Arm,
}

impl Architecture {
    /// Reads AWS's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "X86_64" => Some(Self::X86),
            "ARM64" => Some(Self::Arm),
            _ => None,
        }
    }
}

/// An operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// `LINUX`
    Linux,
    /// One of `WINDOWS_SERVER_…`, by the build that its nodes say they are
    /// (<https://learn.microsoft.com/en-us/windows-server/get-started/windows-server-release-info>).
    Windows(&'static str),
}

impl System {
    /// Reads AWS's word; CORE and FULL are the same to a container.
    pub fn parse(text: &str) -> Option<Self> {
        let Some(version) = text.strip_prefix("WINDOWS_SERVER_") else {
            return (text == "LINUX").then_some(Self::Linux);
        };
        let version = version.trim_end_matches("_CORE").trim_end_matches("_FULL");
        let builds =
            [("2016", "10.0.14393"), ("2019", "10.0.17763"), ("2022", "10.0.20348"), ("2025", "10.0.26100")];
        builds.iter().find(|(known, _)| *known == version).map(|(_, build)| Self::Windows(build))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_mounts_that_mean_something_here() {
        assert!(is_known_mount_option(READ_ONLY) && is_known_mount_option("rw"));
        assert!(!is_known_mount_option("bind") && !is_known_mount_option("mode=0700"));
    }

    #[test]
    fn users() {
        for (text, want) in [
            ("1000", Some((1000, None))),
            ("1000:100", Some((1000, Some(100)))),
            ("root", Some((0, None))),
            ("0:0", Some((0, Some(0)))),
            ("root:root", Some((0, Some(0)))),
            ("nobody", Some((65_534, None))),
            ("nobody:nogroup", Some((65_534, Some(65_534)))),
            ("nogroup", None),
            ("www-data", None),
            ("1000:staff", None),
            ("1000:", None),
            (":", None),
            ("-1", None),
            ("", None),
        ] {
            let want = want.map(|(uid, gid)| User { uid, gid });
            assert_eq!(User::parse(text), want, "{text}");
        }
    }

    #[test]
    fn platforms() {
        for (text, want) in [
            ("LINUX", Some(System::Linux)),
            ("WINDOWS_SERVER_2019_CORE", Some(System::Windows("10.0.17763"))),
            ("WINDOWS_SERVER_2022_FULL", Some(System::Windows("10.0.20348"))),
            ("WINDOWS_SERVER_2003_FULL", None),
            ("linux", None),
        ] {
            assert_eq!(System::parse(text), want, "{text}");
        }
        assert_eq!(Architecture::parse("X86_64"), Some(Architecture::X86));
        assert_eq!(Architecture::parse("ARM64"), Some(Architecture::Arm));
        assert_eq!(Architecture::parse("RISCV"), None);
    }

    #[test]
    fn linux_parameters_are_stated_if_any_of_them_says_something() {
        assert_eq!(Linux::default().stated(), None);
        let nofile = Ulimit { name: "nofile".to_owned(), soft: 1024, hard: 4096 };
        for says in [
            Linux { init_process: true, ..Linux::default() },
            Linux { shared_memory_mib: Some(64), ..Linux::default() },
            Linux { ulimits: vec![nofile], ..Linux::default() },
        ] {
            assert_eq!(says.clone().stated(), Some(Box::new(says)));
        }
    }

    #[test]
    fn claims() {
        let s3 = "arn:aws:s3files:eu-west-1:123456789012:file-system/fs-0a";
        let point = "arn:aws:s3files:eu-west-1:123456789012:file-system/fs-0a/access-point/fsap-1";
        assert_eq!(claim(s3, Some(point)), "fs-0a-fsap-1");
        assert_eq!(claim("FS_1", None), crate::name::slug("FS_1"), "a name that is none becomes one");
    }
}
