//! What goes wrong, in words that say what to do next, and the exit codes.

use std::fmt;
use std::process::ExitCode;

use crate::k8s::error::chain;

/// A command that could not do what it was asked for.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What kind of failure it was: the exit code tells scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything else: exit code 1.
    Failed,
    /// What was asked for makes no sense: exit code 2, as for wrong arguments.
    Usage,
    /// It is not there: exit code 3.
    NotFound,
    /// The user may not do that: exit code 4.
    Forbidden,
    /// The API server refuses what was sent: exit code 5.
    Invalid,
    /// The API server cannot be reached: exit code 6.
    Unreachable,
}

/// The outcome of a part of a command.
pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of some kind.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Arguments that make no sense together.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// What to do next.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind it is.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// For the shell.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Forbidden => 4,
            Kind::Invalid => 5,
            Kind::Unreachable => 6,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n{hint}"))
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            let message = format!("the API server cannot be reached: {}", chain(&error));
            return Self::new(Kind::Unreachable, message).with_hint(
                "Check --context and --kubeconfig; kubectl cluster-info shows what kubectl sees.",
            );
        };
        let kind = match status.code {
            401 | 403 => Kind::Forbidden,
            404 => Kind::NotFound,
            400 | 409 | 422 => Kind::Invalid,
            _ => Kind::Failed,
        };
        let plain = Self::new(kind, status.message.clone());
        match kind {
            Kind::Forbidden => plain
                .with_hint("The roles view and edit of a namespace are enough to see and to run jobs in it."),
            // What a server says that has never heard of the kind.
            Kind::NotFound if status.message.contains("could not find the requested resource") => {
                plain.with_hint("Is Batchyard installed in this cluster? Its CRDs are missing.")
            }
            _ => plain,
        }
    }
}
