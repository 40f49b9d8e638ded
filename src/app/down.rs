//! Removes what an instance that was killed left behind.

use std::path::Path;

use seedwire_core::config::Config;
use seedwire_core::netstate::Step;

use super::lock::Lock;
use super::scope::network_scope;
use crate::netstate::NetState;
use crate::{config, control, tunnel};

/// Removes everything that the instance of this configuration's interface owns, whatever else the
/// configuration now says, with the files of its sockets, and returns the steps.
///
/// # Errors
/// While an instance runs, with nothing changed; or with what could not be removed.
pub fn down(file: &Path) -> anyhow::Result<Vec<Step>> {
    let parsed = config::load(file)?;
    let scope = network_scope(&parsed.config);
    let _lock = scope.as_ref().map(Lock::acquire).transpose()?;
    let steps = match scope {
        Some(scope) => NetState::new(scope).clear()?.steps,
        None => Vec::new(),
    };
    remove_sockets(&parsed.config);
    Ok(steps)
}

/// Removes the files of sockets that nobody listens on. One that stays does no harm: the next
/// instance takes its place.
fn remove_sockets(config: &Config) {
    if let Some(path) = &config.control.socket
        && let Err(error) = control::make_room(path)
    {
        tracing::debug!(%error, "left the socket of status");
    }
    if let Some(tunnel) = &config.tunnel
        && let Err(error) = tunnel::remove_left_socket(&tunnel.interface)
    {
        tracing::debug!(%error, "left the socket of wg(8)");
    }
}
