use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use seedwire_core::netstate::Address;
use seedwire_core::types::InterfaceAddress;

use super::attributes::{address_of, attributes, u8_of, u32_of};
use super::socket::Reply;
use super::{Error, Rtnl};

/// The length of `struct ifaddrmsg`.
const HEADER_LENGTH: usize = 8;
/// Linux 5.18.
const IFA_PROTO: u16 = 11;
/// Linux 4.18.
const IFA_RT_PRIORITY: u16 = 9;

impl Rtnl {
    /// All addresses of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let what = "list addresses";
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let replies = self.socket.dump(what, request)?;
        replies
            .iter()
            .filter(|reply| reply.kind == libc::RTM_NEWADDR)
            .filter_map(|reply| address(what, reply).transpose())
            .collect()
    }

    /// Adds an address; fails if the link has it.
    ///
    /// IPv6 addresses are usable at once, without duplicate address detection. An address alone in
    /// its network makes no prefix route.
    pub fn add_address(&mut self, address: &Address) -> Result<(), Error> {
        let what = format!("add address {} to link {}", address.address, address.link);
        let mut message = message(address);
        let mut flags = AddressFlags::empty();
        if address.address.address().is_ipv6() {
            flags |= AddressFlags::Nodad;
        }
        if address.address.prefix().length() == full_length(&address.address) {
            flags |= AddressFlags::Noprefixroute;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        if address.protocol != 0 {
            let protocol = AddressProtocol::from(address.protocol);
            message
                .attributes
                .push(AddressAttribute::Protocol(protocol));
        }
        if address.metric != 0 {
            message
                .attributes
                .push(AddressAttribute::RoutePriority(address.metric));
        }
        let request = RouteNetlinkMessage::NewAddress(message);
        self.socket
            .request(&what, NLM_F_CREATE | NLM_F_EXCL, request)
    }

    /// Deletes an address.
    pub fn delete_address(&mut self, address: &Address) -> Result<(), Error> {
        let what = format!(
            "delete address {} from link {}",
            address.address, address.link
        );
        let request = RouteNetlinkMessage::DelAddress(message(address));
        self.socket.request(&what, 0, request)
    }
}

fn full_length(address: &InterfaceAddress) -> u8 {
    if address.address().is_ipv4() { 32 } else { 128 }
}

fn message(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    let ip = address.address.address();
    message.header.index = address.link;
    message.header.prefix_len = address.address.length();
    message.header.family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.scope = if ip.is_loopback() {
        AddressScope::Host
    } else {
        AddressScope::Universe
    };
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn address(what: &str, reply: &Reply) -> Result<Option<Address>, Error> {
    let malformed = || Error::Malformed {
        what: what.to_owned(),
    };
    let header = reply.body.get(..HEADER_LENGTH).ok_or_else(malformed)?;
    let (mut local, mut remote, mut protocol, mut metric) = (None, None, 0, 0);
    for (kind, value) in attributes(&reply.body[HEADER_LENGTH..]) {
        match kind {
            libc::IFA_LOCAL => local = address_of(value),
            libc::IFA_ADDRESS => remote = address_of(value),
            IFA_PROTO => protocol = u8_of(value).ok_or_else(malformed)?,
            IFA_RT_PRIORITY => metric = u32_of(value).ok_or_else(malformed)?,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other end; IPv6 often has no IFA_LOCAL.
    let Some(ip) = local.or(remote) else {
        return Ok(None);
    };
    Ok(Some(Address {
        link: u32_of(&header[4..]).ok_or_else(malformed)?,
        address: InterfaceAddress::new(ip, header[1]).ok_or_else(malformed)?,
        protocol,
        metric,
    }))
}
