//! Removes what an instance that was killed left behind.

use std::path::Path;

use seedwire_core::netstate::Step;

use super::lock::Lock;
use super::scope::network_scope;
use crate::config;
use crate::netstate::NetState;

/// Removes everything that the instance of this configuration's interface owns, whatever else the
/// configuration now says, and returns the steps.
///
/// # Errors
/// While an instance runs, with nothing changed; or with what could not be removed.
pub fn down(file: &Path) -> anyhow::Result<Vec<Step>> {
    let parsed = config::load(file)?;
    let Some(scope) = network_scope(&parsed.config) else {
        return Ok(Vec::new());
    };
    let _lock = Lock::acquire(&scope)?;
    Ok(NetState::new(scope).clear()?.steps)
}
