use std::io;

use seedwire_core::types::InterfaceName;

/// Why the tunnel could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The TUN link could not be made.
    #[error("failed to create the interface {name}")]
    Create {
        /// Its name.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// This kernel has no WireGuard.
    #[error("failed to use the kernel's WireGuard: the kernel has none")]
    NoKernel,
    /// The kernel's WireGuard link could not be made or changed.
    #[error("failed to use the kernel's WireGuard")]
    Kernel(#[source] Box<crate::netlink::Error>),
    /// The UDP sockets could not be bound.
    #[error("failed to bind UDP port {port}")]
    Bind {
        /// The port; 0: any.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mark on the tunnel's packets could not be set.
    #[error("failed to set the fwmark {fwmark:#x}")]
    Mark {
        /// The mark.
        fwmark: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket of the configuration protocol could not be made.
    #[error("failed to listen on {path}")]
    Uapi {
        /// The socket.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("failed to get random numbers for the tunnel")]
    Random,
    /// A thread or an event counter could not be had.
    #[error("failed to start the tunnel's threads")]
    Start(#[source] io::Error),
}

/// Why a tunnel ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A thread panicked; its name.
    #[error("the thread {0} panicked")]
    Panicked(String),
    /// Somebody deleted the interface.
    #[error("the interface {0} was deleted")]
    InterfaceDeleted(InterfaceName),
    /// Somebody deleted the socket of the configuration protocol; its path.
    #[error("the socket {0} was deleted")]
    SocketDeleted(String),
}
