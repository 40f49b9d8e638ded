//! The sockets of the control server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::listen::Families;

const BACKLOG: i32 = 128;
const DIRECTORY_MODE: u32 = 0o755;

/// Why the control server can't be reached where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address of health and metrics can't be listened on.
    #[error("failed to listen on {0} for health and metrics")]
    Http(SocketAddr, #[source] io::Error),
    /// The socket can't be listened on.
    #[error("failed to listen on the socket {}", .0.display())]
    Socket(PathBuf, #[source] io::Error),
    /// Someone listens there.
    #[error("failed to listen on the socket {}: another process listens there", .0.display())]
    InUse(PathBuf),
    /// Something else is there.
    #[error("failed to listen on the socket {}: the file is there and is no socket", .0.display())]
    NoSocket(PathBuf),
}

/// Listens on a TCP address; the unspecified IPv6 address takes IPv4 too, and stands for the
/// unspecified IPv4 address where the kernel has no IPv6.
pub(super) fn http(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listener = match listen_tcp(address) {
        Err(error)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            listen_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        listener => listener,
    };
    listener.map_err(|error| BindError::Http(address, error))
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let families = match address.ip().is_unspecified() {
        true => Families::Both,
        false => Families::Own,
    };
    TcpListener::from_std(crate::listen::tcp(address, families, BACKLOG)?)
}

/// A listening Unix socket that takes its file away when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, which may be another instance's by the time it is removed.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Listens on `path` for the same user alone. A socket there that nobody listens on is
    /// replaced. `None`, with a warning in the log, where the folder can't be made or written.
    pub(super) async fn bind(path: &Path) -> Result<Option<Self>, BindError> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(folder);
            if let Err(error) = made {
                return without(path, error);
            }
        }
        match make_room(path).and_then(|()| listen_unix(path)) {
            Ok(listener) => Ok(Some(Self {
                listener,
                path: path.to_owned(),
                identity: identity(path),
            })),
            Err(BindError::Socket(_, error)) => without(path, error),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Nothing can be done about a file that stays; the next instance replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Status is worth less than the tunnel: a folder that can't be written does not stop it.
fn without(path: &Path, error: io::Error) -> Result<Option<SocketFile>, BindError> {
    let unwritable = matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::NotFound
    );
    if !unwritable {
        return Err(BindError::Socket(path.to_owned(), error));
    }
    tracing::warn!(
        socket = %path.display(),
        %error,
        "the folder of the socket can't be written: `seedwire status` won't reach this instance"
    );
    Ok(None)
}

/// Removes a socket that its process left behind.
///
/// # Errors
/// When there is something else in its place, or somebody listens on it.
pub fn make_room(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NoSocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Socket(path.to_owned(), error)),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| BindError::Socket(path.to_owned(), error))
        }
        _ => Err(BindError::InUse(path.to_owned())),
    }
}

fn listen_unix(path: &Path) -> Result<UnixListener, BindError> {
    let listen = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // The file takes the mode of the socket (unix_bind_bsd in the kernel's net/unix/af_unix.c),
        // so that there is no moment at which others could connect.
        fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        UnixListener::from_std(socket.into())
    };
    listen().map_err(|error: io::Error| BindError::Socket(path.to_owned(), error))
}
