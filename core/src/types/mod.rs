//! Values that every layer speaks of; one that is not valid can't be built.

mod dns_name;
mod endpoint;
mod ifname;
mod key;
mod prefix;
#[cfg(test)]
mod tests;

pub use dns_name::{DnsName, InvalidDnsName};
pub use endpoint::{Endpoint, Host, InvalidEndpoint};
pub use ifname::{InterfaceName, InvalidInterfaceName};
pub use key::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
pub use prefix::{InterfaceAddress, InvalidPrefix, Prefix};
