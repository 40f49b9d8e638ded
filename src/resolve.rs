//! The seam between those who need an address for a name and those who can find it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use seedwire_core::types::DnsName;

/// A name could not be turned into an address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to resolve {name}")]
pub struct ResolveError {
    /// The name that was asked for.
    pub name: DnsName,
    /// Why: no answer from whom, or which answer.
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

/// The future of a look-up.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'a>>;

/// Turns names into addresses; never through libc.
pub trait Resolve: Send + Sync {
    /// The IPv4 and IPv6 addresses of `name`, at least one.
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a>;
}
