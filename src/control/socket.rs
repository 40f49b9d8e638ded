//! Asks a running instance over its Unix socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any status takes, and a bound on what a stranger's socket can make us read.
const MAX_ANSWER: u64 = 64 << 20;

/// Why an instance gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody is there.
    #[error("failed to connect to the socket {}", .0.display())]
    Connect(PathBuf, #[source] io::Error),
    /// The connection broke.
    #[error("failed to ask over the socket {}", .0.display())]
    Transfer(PathBuf, #[source] io::Error),
    /// The answer is not what was asked for.
    #[error("failed to ask over the socket {}: the answer was {:?}", .0.display(), .1)]
    Refused(PathBuf, String),
}

/// Asks the instance whose socket is at `socket` for `path`, such as `/status.json`, and gives the
/// body of the answer.
///
/// # Errors
/// When nobody listens there, or answers with anything but 200 within 5 s.
pub fn request(socket: &Path, path: &str) -> Result<String, RequestError> {
    let stream = UnixStream::connect(socket)
        .map_err(|error| RequestError::Connect(socket.to_owned(), error))?;
    let answer =
        exchange(stream, path).map_err(|error| RequestError::Transfer(socket.to_owned(), error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(RequestError::Refused(socket.to_owned(), status.to_owned()))
    }
}

fn exchange(mut stream: UnixStream, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection and is never chunked.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
