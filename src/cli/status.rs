use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::config;
use crate::control::{RequestError, request};

use super::output;

/// Where the sockets of instances are unless the configuration says otherwise.
const FOLDER: &str = "/run/seedwire";

/// Show how an instance is doing
///
/// Asks a running instance over its Unix socket and prints its peers with their handshakes, bytes,
/// endpoints and states, its routes, its DNS zones with the health of their upstreams, and its
/// last error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire status -c /etc/seedwire/config.yaml
  seedwire status --socket /run/seedwire/seed0.sock --json")]
pub struct Status {
    /// The configuration of the instance, which says where its socket is
    #[arg(short, long, value_name = "FILE", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
    /// The socket of the instance; without it and without FILE, every one in /run/seedwire
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON object a line for each instance instead of tables
    #[arg(long)]
    pub json: bool,
}

impl Status {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = if self.json { "/status.json" } else { "/status" };
        let answers = match self.named_socket()? {
            Some(socket) => vec![ask(&socket, path)?],
            None => ask_all(Path::new(FOLDER), path)?,
        };
        let between = if self.json { "" } else { "\n" };
        output::write(answers.join(between))
    }

    fn named_socket(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(file) = &self.config else {
            return Ok(self.socket.clone());
        };
        match config::load(file)?.config.control.socket {
            Some(socket) => Ok(Some(socket)),
            None => bail!("{} has no control.socket to ask over", file.display()),
        }
    }
}

fn ask(socket: &Path, path: &str) -> anyhow::Result<String> {
    request(socket, path).map_err(|error| match advice(&error) {
        Some(advice) => anyhow::Error::new(error).context(advice),
        None => error.into(),
    })
}

fn advice(error: &RequestError) -> Option<&'static str> {
    let RequestError::Connect(_, cause) = error else {
        return None;
    };
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Some("no instance runs there; `seedwire run -c FILE` starts one")
        }
        io::ErrorKind::PermissionDenied => Some("only the user who runs the instance may ask it"),
        _ => None,
    }
}

/// Asks every instance whose socket is in `folder`, in the order of their names; sockets that
/// nobody listens on are passed over while there are others.
fn ask_all(folder: &Path, path: &str) -> anyhow::Result<Vec<String>> {
    let mut answers = Vec::new();
    let mut failure = None;
    for socket in sockets(folder)? {
        match ask(&socket, path) {
            Ok(answer) => answers.push(answer),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) if answers.is_empty() => Err(error),
        None if answers.is_empty() => bail!(
            "no instance runs here: {} has no socket; `seedwire run -c FILE` starts one, and \
             --socket PATH or -c FILE say where another socket is",
            folder.display()
        ),
        _ => Ok(answers),
    }
}

fn sockets(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to read {}", folder.display()))?,
    };
    let mut sockets = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("failed to read {}", folder.display()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "sock")
        {
            sockets.push(path);
        }
    }
    sockets.sort();
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_instance_the_error_says_how_to_start_one() {
        let error = ask_all(Path::new("/nonexistent/seedwire"), "/status").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("no instance runs here"), "{text}");
        assert!(text.contains("seedwire run -c FILE"), "{text}");
    }
}
