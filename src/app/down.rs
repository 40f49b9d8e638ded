//! Removes what an instance that was killed left behind.

use std::path::Path;

use seedwire_core::config::{Parsed, Rejected, default_socket};
use seedwire_core::netstate::Step;
use seedwire_core::types::InterfaceName;

use super::lock::Lock;
use super::scope::network_scope;
use crate::config::ConfigError;
use crate::netstate::NetState;
use crate::{config, control, tunnel};

/// What was removed.
#[derive(Debug)]
pub struct Removed {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What is wrong with the configuration beside the name of the interface, which was enough.
    pub rejected: Option<Rejected>,
}

/// Removes everything that the instance of this configuration's interface owns, whatever else the
/// configuration now says, with the files of its sockets, and returns the steps.
///
/// # Errors
/// When the configuration does not even name an interface, or while an instance runs, with nothing
/// changed; or with what could not be removed.
pub fn down(file: &Path) -> anyhow::Result<Removed> {
    let (scope, socket, rejected) = match config::load(file) {
        Ok(Parsed { config, .. }) => (network_scope(&config), config.control.socket, None),
        Err(ConfigError::Rejected(rejected)) if rejected.interface.is_some() => {
            let interface = rejected.interface.clone();
            let socket = interface.as_ref().map(default_socket);
            (interface, socket, Some(rejected))
        }
        Err(error) => return Err(error.into()),
    };
    let _lock = scope.as_ref().map(Lock::acquire).transpose()?;
    let steps = match &scope {
        Some(scope) => NetState::new(scope.clone()).clear()?.steps,
        None => Vec::new(),
    };
    remove_sockets(socket.as_deref(), scope.as_ref());
    Ok(Removed { steps, rejected })
}

/// Removes the files of sockets that nobody listens on. One that stays does no harm: the next
/// instance takes its place.
fn remove_sockets(status: Option<&Path>, interface: Option<&InterfaceName>) {
    if let Some(path) = status
        && let Err(error) = control::make_room(path)
    {
        tracing::debug!(%error, "left the socket of status");
    }
    if let Some(interface) = interface
        && let Err(error) = tunnel::remove_left_socket(interface)
    {
        tracing::debug!(%error, "left the socket of wg(8)");
    }
}
