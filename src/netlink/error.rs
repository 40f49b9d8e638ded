use std::io;

/// What the kernel said when it refused a request.
#[derive(Debug, thiserror::Error)]
#[error("{}{errno}", text.as_ref().map(|t| format!("{t}: ")).unwrap_or_default())]
pub struct Refusal {
    /// The error number.
    pub errno: io::Error,
    /// The kernel's own words, where it has some (extended acknowledgement).
    pub text: Option<String>,
}

/// A request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error("failed to open a netlink socket")]
    Open(#[source] io::Error),
    /// The request could not be sent.
    #[error("failed to {what}: failed to send to the kernel")]
    Send {
        /// The request, as the object of "failed to".
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The answer could not be read; whether the kernel did what was asked is not known.
    #[error("failed to {what}: failed to read the kernel's answer")]
    Receive {
        /// The request, as the object of "failed to".
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("failed to {what}")]
    Refused {
        /// The request, as the object of "failed to".
        what: String,
        /// The kernel's answer.
        source: Refusal,
    },
    /// A listing changed under our hands each time it was read.
    #[error("failed to {what}: it kept changing while it was read")]
    Unsteady {
        /// The request, as the object of "failed to".
        what: String,
    },
    /// The kernel's answer has not the form that is documented.
    #[error("failed to {what}: the kernel's answer is malformed")]
    Malformed {
        /// The request, as the object of "failed to".
        what: String,
    },
    /// A file below /proc/sys could not be read or written.
    #[error("failed to {what}")]
    File {
        /// The request, as the object of "failed to".
        what: String,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// The error number with which the kernel refused the request.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.errno.raw_os_error(),
            Self::Open(source) | Self::File { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether it is not known what the kernel did: its answer was lost.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Receive { .. } | Self::Malformed { .. })
    }
}
