use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use seedwire_core::netstate::{Family, Route, RouteKind};
use seedwire_core::types::Prefix;

use super::attributes::{address_of, attribute, attributes, u32_of};
use super::socket::Reply;
use super::watch::Watch;
use super::{Error, Rtnl};

/// The length of `struct rtmsg`.
const HEADER_LENGTH: usize = 12;
/// Routes that the kernel learned by itself for single destinations are not part of the state.
const RTM_F_CLONED: u32 = 0x200;
const RTAX_MTU: u16 = 2;

/// Where the kernel would send a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The route that was taken, with the destination as a host prefix.
    pub route: Route,
    /// The source address that it would get.
    pub source: Option<IpAddr>,
}

impl Rtnl {
    /// All routes of both families in all tables, less what the kernel cached.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let what = "list routes";
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let request = RouteNetlinkMessage::GetRoute(message);
            // A listing of IPv4 routes goes on by destination, and so lacks none that stays.
            let watch = match family {
                AddressFamily::Inet6 => {
                    Some(Watch::new(NETLINK_ROUTE, &[libc::RTNLGRP_IPV6_ROUTE])?)
                }
                _ => None,
            };
            let replies = self.socket.dump_watched(what, request, watch.as_ref())?;
            for reply in replies.iter().filter(|r| r.kind == libc::RTM_NEWROUTE) {
                // Without IPv6 in the kernel a listing of it is one of every family.
                if reply.body.first() == Some(&family.into()) {
                    routes.extend(route(what, reply)?);
                }
            }
        }
        Ok(routes)
    }

    /// Adds a route; fails if one with its destination, table and metric is there.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let what = format!("add route {}", route.to);
        let request = RouteNetlinkMessage::NewRoute(message(route));
        self.socket
            .request(&what, NLM_F_CREATE | NLM_F_EXCL, request)
    }

    /// Adds routes, many to a system call; the answer to each stands in its place. After an error
    /// of the socket itself the answers end.
    pub fn add_routes(&mut self, routes: &[Route]) -> Vec<Result<(), Error>> {
        let request = |route: &Route| {
            let what = format!("add route {}", route.to);
            (what, RouteNetlinkMessage::NewRoute(message(route)))
        };
        let requests = routes.iter().map(request).collect();
        self.socket.requests(NLM_F_CREATE | NLM_F_EXCL, requests)
    }

    /// Deletes the route with exactly these properties.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        let what = format!("delete route {}", route.to);
        let request = RouteNetlinkMessage::DelRoute(message(route));
        self.socket.request(&what, 0, request)
    }

    /// Deletes routes, many to a system call; the answer to each stands in its place.
    pub fn delete_routes(&mut self, routes: &[Route]) -> Vec<Result<(), Error>> {
        let request = |route: &Route| {
            let what = format!("delete route {}", route.to);
            (what, RouteNetlinkMessage::DelRoute(message(route)))
        };
        self.socket
            .requests(0, routes.iter().map(request).collect())
    }

    /// Where a packet to `to` with this mark would go (`ip route get TO mark MARK`); `None` when
    /// there is no route.
    pub fn lookup(&mut self, to: IpAddr, mark: Option<u32>) -> Result<Option<Lookup>, Error> {
        let what = format!("look up the route to {to}");
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.destination_prefix_length = Prefix::host(to).length();
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(to))];
        message.attributes.extend(mark.map(RouteAttribute::Mark));
        let answer = self
            .socket
            .get(&what, RouteNetlinkMessage::GetRoute(message));
        let reply = match answer {
            Ok(reply) => reply,
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let source = reply
            .body
            .get(HEADER_LENGTH..)
            .and_then(|body| attribute(body, libc::RTA_PREFSRC))
            .and_then(address_of);
        let route = parse(&what, &reply)?;
        Ok(route
            .filter(|route| route.kind != RouteKind::Refuse)
            .map(|route| Lookup { route, source }))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match Family::of(address) {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.to.address());
    header.destination_prefix_length = route.to.length();
    header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    header.protocol = RouteProtocol::from(route.protocol);
    header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Refuse => RouteType::Unreachable,
        RouteKind::Other => RouteType::Unspec,
    };
    header.scope = match (route.gateway, route.to.is_ipv4(), route.kind) {
        (None, true, RouteKind::Unicast) => RouteScope::Link,
        (None, true, RouteKind::Local) => RouteScope::Host,
        _ => RouteScope::Universe,
    };
    let mut add = |attribute| message.attributes.push(attribute);
    if !route.to.is_default() {
        add(RouteAttribute::Destination(RouteAddress::from(
            route.to.address(),
        )));
    }
    add(RouteAttribute::Table(route.table));
    if let Some(link) = route.link {
        add(RouteAttribute::Oif(link));
    }
    if let Some(gateway) = route.gateway {
        add(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    }
    if route.metric != 0 {
        add(RouteAttribute::Priority(route.metric));
    }
    if let Some(mtu) = route.mtu {
        add(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}

/// The route, unless it is one that the kernel cached.
fn route(what: &str, reply: &Reply) -> Result<Option<Route>, Error> {
    let flags = reply.body.get(8..).and_then(u32_of).unwrap_or_default();
    if flags & RTM_F_CLONED != 0 {
        return Ok(None);
    }
    parse(what, reply)
}

/// The route, unless its destination is of another family.
fn parse(what: &str, reply: &Reply) -> Result<Option<Route>, Error> {
    let malformed = || Error::Malformed {
        what: what.to_owned(),
    };
    let header = reply.body.get(..HEADER_LENGTH).ok_or_else(malformed)?;
    let any: IpAddr = match AddressFamily::from(header[0]) {
        AddressFamily::Inet => [0u8; 4].into(),
        AddressFamily::Inet6 => [0u8; 16].into(),
        _ => return Ok(None),
    };
    let mut to = any;
    let mut route = Route {
        table: header[4].into(),
        to: Prefix::host(any),
        metric: 0,
        kind: kind(header[7]),
        protocol: header[5],
        link: None,
        gateway: None,
        mtu: None,
    };
    for (kind, value) in attributes(&reply.body[HEADER_LENGTH..]) {
        match kind {
            libc::RTA_DST => to = address_of(value).ok_or_else(malformed)?,
            libc::RTA_TABLE => route.table = u32_of(value).ok_or_else(malformed)?,
            libc::RTA_PRIORITY => route.metric = u32_of(value).ok_or_else(malformed)?,
            libc::RTA_OIF => route.link = u32_of(value),
            libc::RTA_GATEWAY => route.gateway = address_of(value),
            libc::RTA_METRICS => route.mtu = attribute(value, RTAX_MTU).and_then(u32_of),
            _ => {}
        }
    }
    route.to = Prefix::of(to, header[1]).ok_or_else(malformed)?;
    Ok(Some(route))
}

fn kind(raw: u8) -> RouteKind {
    match RouteType::from(raw) {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Refuse,
        _ => RouteKind::Other,
    }
}
