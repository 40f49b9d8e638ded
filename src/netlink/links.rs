use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use seedwire_core::netstate::Link;

use super::attributes::{attribute, attributes, text_of, u8_of, u32_of};
use super::socket::Reply;
use super::{Error, Rtnl};

const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const AF_INET6: u16 = libc::AF_INET6 as u16;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// The length of `struct ifinfomsg`.
const HEADER_LENGTH: usize = 16;

/// A network namespace other than that of the socket.
#[derive(Clone, Copy, Debug)]
pub enum Namespace<'a> {
    /// By an open file such as /proc/PID/ns/net.
    File(BorrowedFd<'a>),
    /// That of a process.
    Process(u32),
}

impl Namespace<'_> {
    fn attribute(self) -> LinkAttribute {
        match self {
            Self::File(file) => LinkAttribute::NetNsFd(file.as_raw_fd()),
            Self::Process(pid) => LinkAttribute::NetNsPid(pid),
        }
    }
}

/// A link that is to be made.
#[derive(Clone, Copy, Debug)]
pub enum NewLink<'a> {
    /// A pair of Ethernet links; what enters one leaves the other.
    Veth {
        /// The name of the first.
        name: &'a str,
        /// The name of the second.
        peer: &'a str,
        /// Where the second is put, if not beside the first.
        peer_namespace: Option<Namespace<'a>>,
    },
    /// An Ethernet bridge.
    Bridge {
        /// The name.
        name: &'a str,
    },
    /// A link of the kernel's WireGuard.
    Wireguard {
        /// The name.
        name: &'a str,
    },
}

/// A change of one property of a link.
#[derive(Clone, Copy, Debug)]
pub enum LinkChange<'a> {
    /// Administratively up or down.
    Up(bool),
    /// The MTU in bytes.
    Mtu(u32),
    /// The alias; empty: none.
    Alias(&'a str),
    /// How the kernel makes an IPv6 link-local address (`IN6_ADDR_GEN_MODE_*`).
    AddressGeneration(u8),
    /// The index of the bridge that it becomes a port of.
    Bridge(u32),
    /// The network namespace that it is moved to.
    Namespace(Namespace<'a>),
}

impl Rtnl {
    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let what = "list links";
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self.socket.dump(what, request)?;
        replies
            .iter()
            .filter(|reply| reply.kind == RTM_NEWLINK)
            .map(|reply| link(what, reply))
            .collect()
    }

    /// The link of this name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let what = format!("look up link {name}");
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        match self
            .socket
            .get(&what, RouteNetlinkMessage::GetLink(message))
        {
            Ok(reply) => link(&what, &reply).map(Some),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of this index, if there is one.
    pub fn link_at(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let what = format!("look up link {index}");
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self
            .socket
            .get(&what, RouteNetlinkMessage::GetLink(message))
        {
            Ok(reply) => link(&what, &reply).map(Some),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a link; fails if one of this name is there.
    pub fn create_link(&mut self, new: NewLink<'_>) -> Result<(), Error> {
        let (what, name, kind, data) = match new {
            NewLink::Veth {
                name,
                peer,
                peer_namespace,
            } => {
                let mut message = LinkMessage::default();
                message
                    .attributes
                    .push(LinkAttribute::IfName(peer.to_owned()));
                message
                    .attributes
                    .extend(peer_namespace.map(Namespace::attribute));
                let data = InfoData::Veth(InfoVeth::Peer(message));
                let what = format!("create veth pair {name} and {peer}");
                (what, name, InfoKind::Veth, Some(data))
            }
            NewLink::Bridge { name } => {
                let what = format!("create bridge {name}");
                (what, name, InfoKind::Bridge, None)
            }
            NewLink::Wireguard { name } => {
                let what = format!("create WireGuard link {name}");
                (what, name, InfoKind::Wireguard, None)
            }
        };
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(info),
        ];
        let request = RouteNetlinkMessage::NewLink(message);
        self.socket
            .request(&what, NLM_F_CREATE | NLM_F_EXCL, request)
    }

    /// Changes a link.
    pub fn change_link(&mut self, index: u32, change: LinkChange<'_>) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mut add = |attribute| message.attributes.push(attribute);
        let what = match change {
            LinkChange::Up(up) => {
                message.header.change_mask = LinkFlags::Up;
                message.header.flags = if up {
                    LinkFlags::Up
                } else {
                    LinkFlags::empty()
                };
                format!("set link {index} {}", if up { "up" } else { "down" })
            }
            LinkChange::Mtu(mtu) => {
                add(LinkAttribute::Mtu(mtu));
                format!("set the MTU of link {index} to {mtu}")
            }
            LinkChange::Alias(alias) => {
                add(LinkAttribute::IfAlias(alias.to_owned()));
                format!("set the alias of link {index}")
            }
            LinkChange::AddressGeneration(mode) => {
                let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::from(mode));
                let inet6 = AfSpecUnspec::Inet6(vec![mode]);
                add(LinkAttribute::AfSpecUnspec(vec![inet6]));
                format!("set addr_gen_mode of link {index}")
            }
            LinkChange::Bridge(bridge) => {
                add(LinkAttribute::Controller(bridge));
                format!("add link {index} to bridge {bridge}")
            }
            LinkChange::Namespace(namespace) => {
                add(namespace.attribute());
                format!("move link {index} to another network namespace")
            }
        };
        let request = RouteNetlinkMessage::SetLink(message);
        self.socket.request(&what, 0, request)
    }

    /// Deletes a link.
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let request = RouteNetlinkMessage::DelLink(message);
        self.socket
            .request(&format!("delete link {index}"), 0, request)
    }
}

fn link(what: &str, reply: &Reply) -> Result<Link, Error> {
    let malformed = || Error::Malformed {
        what: what.to_owned(),
    };
    let header = reply.body.get(..HEADER_LENGTH).ok_or_else(malformed)?;
    let flags = u32_of(&header[8..]).ok_or_else(malformed)?;
    let mut link = Link {
        index: u32_of(&header[4..]).ok_or_else(malformed)?,
        name: String::new(),
        alias: None,
        kind: None,
        mtu: 0,
        up: LinkFlags::from_bits_retain(flags).contains(LinkFlags::Up),
        address_generation: None,
    };
    for (kind, value) in attributes(&reply.body[HEADER_LENGTH..]) {
        match kind {
            libc::IFLA_IFNAME => link.name = text_of(value),
            libc::IFLA_IFALIAS => link.alias = Some(text_of(value)).filter(|a| !a.is_empty()),
            libc::IFLA_MTU => link.mtu = u32_of(value).ok_or_else(malformed)?,
            libc::IFLA_LINKINFO => {
                link.kind = attribute(value, libc::IFLA_INFO_KIND).map(text_of);
            }
            libc::IFLA_AF_SPEC => {
                let inet6 = attribute(value, AF_INET6);
                link.address_generation = inet6
                    .and_then(|inet6| attribute(inet6, IFLA_INET6_ADDR_GEN_MODE))
                    .and_then(u8_of);
            }
            _ => {}
        }
    }
    Ok(link)
}
