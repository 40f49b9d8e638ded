use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::types::{InterfaceAddress, Prefix};

use super::step::{LinkProperty, Step};
use super::{
    Address, Desired, DesiredRoute, Family, LINK_ALIAS, Link, MAIN_TABLE, NO_ADDRESS_GENERATION,
    Observed, PROTOCOL, Route, RouteKind, Rule, Table, sysctl,
};

/// The steps that lead from what is to what is desired, in order.
pub type Plan = Vec<Step>;

/// What is desired can't be had beside what belongs to someone else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The tunnel link is missing.
    #[error("link {0} is not there")]
    NoLink(String),
    /// The link has the alias of someone else.
    #[error("link {name} belongs to someone else: its alias is \"{alias}\"")]
    Link {
        /// The name of the link.
        name: String,
        /// Its alias.
        alias: String,
    },
    /// The address is on another link.
    #[error("address {address} of {interface} is already on link {other}")]
    Address {
        /// The address.
        address: IpAddr,
        /// The tunnel link.
        interface: String,
        /// Where it is.
        other: String,
    },
    /// The destination is routed elsewhere.
    #[error("{to} can't be routed to {interface}: there is already a route {other}")]
    Route {
        /// The destination.
        to: Prefix,
        /// The tunnel link.
        interface: String,
        /// The route that is there.
        other: String,
    },
    /// A table of our name that someone else made.
    #[error("nft table inet {0} was not made by seedwire")]
    Table(String),
    /// A sysctl is not as it must be and can't be changed.
    #[error(
        "sysctl {name} is {value} and must be {wanted} {purpose}, but /proc/sys is read-only here"
    )]
    ReadOnlySysctl {
        /// The name as sysctl(8) writes it.
        name: String,
        /// The value.
        value: String,
        /// The value that is needed.
        wanted: String,
        /// What it is needed for.
        purpose: &'static str,
    },
}

/// The steps that lead from `observed` to `desired`: sysctls, link, addresses, routes, rules, nft
/// table, each added to first; then what is ours and no longer desired, in the reverse order.
/// Forwarding and what it needs is switched on but never off: others may rely on it by then.
pub fn plan(desired: &Desired, observed: &Observed) -> Result<Plan, Conflict> {
    let planner = Planner {
        desired,
        observed,
        interface: desired.instance.interface().as_str(),
    };
    let mut steps = planner.sysctls()?;
    if let Some(mtu) = desired.mtu {
        let link = planner.tunnel_link()?;
        steps.extend(planner.link(link, mtu.into())?);
        steps.extend(planner.routes_to_delete(true));
        steps.extend(planner.tunnel_addresses(link)?);
        steps.extend(planner.local_addresses());
        steps.extend(planner.routes(link)?);
    } else {
        steps.extend(planner.local_addresses());
    }
    steps.extend(planner.rules());
    steps.extend(planner.table()?);
    steps.extend(planner.rules_to_delete());
    steps.extend(planner.routes_to_delete(false));
    steps.extend(planner.addresses_to_delete());
    Ok(steps)
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    interface: &'a str,
}

impl Planner<'_> {
    fn tunnel_link(&self) -> Result<&Link, Conflict> {
        let missing = || Conflict::NoLink(self.interface.to_owned());
        self.observed.link(self.interface).ok_or_else(missing)
    }

    fn link(&self, link: &Link, mtu: u32) -> Result<Vec<Step>, Conflict> {
        let alias = link.alias.as_deref().unwrap_or_default();
        if !alias.is_empty() && alias != LINK_ALIAS {
            return Err(Conflict::Link {
                name: link.name.clone(),
                alias: alias.to_owned(),
            });
        }
        let mut properties = Vec::new();
        if alias.is_empty() {
            properties.push(LinkProperty::Alias {
                from: String::new(),
                to: LINK_ALIAS.to_owned(),
            });
        }
        if link.mtu != mtu {
            properties.push(LinkProperty::Mtu {
                from: link.mtu,
                to: mtu,
            });
        }
        if let Some(from) = link
            .address_generation
            .filter(|g| *g != NO_ADDRESS_GENERATION)
        {
            properties.push(LinkProperty::AddressGeneration {
                from,
                to: NO_ADDRESS_GENERATION,
            });
        }
        if !link.up {
            properties.push(LinkProperty::Up {
                from: false,
                to: true,
            });
        }
        let step = |property| Step::Link {
            name: link.name.clone(),
            index: link.index,
            property,
        };
        Ok(properties.into_iter().map(step).collect())
    }

    fn tunnel_addresses(&self, link: &Link) -> Result<Vec<Step>, Conflict> {
        let mut steps: Vec<Step> = Vec::new();
        let mut lost: Vec<Prefix> = Vec::new();
        for there in self
            .observed
            .addresses
            .iter()
            .filter(|a| self.must_go_first(a))
        {
            steps.push(self.address(false, there.clone()));
            lost.push(there.address.prefix());
        }
        for wanted in &self.desired.addresses {
            let same = |a: &&Address| a.address.address() == wanted.address();
            let elsewhere = |a: &&Address| a.link != link.index;
            let mut there = self.observed.addresses.iter().filter(same);
            if let Some(other) = there.clone().find(elsewhere) {
                return Err(Conflict::Address {
                    address: wanted.address(),
                    interface: self.interface.to_owned(),
                    other: self.observed.link_name(other.link).to_owned(),
                });
            }
            let new = Address {
                link: link.index,
                address: *wanted,
                protocol: self.address_protocol(),
                metric: 0,
            };
            match there.find(|a| a.address == *wanted) {
                Some(there) if lost.contains(&wanted.prefix()) => {
                    steps.push(self.address(false, there.clone()));
                    steps.push(self.address(true, new));
                }
                Some(_) => {}
                None => steps.push(self.address(true, new)),
            }
        }
        Ok(steps)
    }

    /// Whether an address that is no longer desired stands in the way of what is: IPv6 takes an
    /// address only once, whatever its length; IPv4 deletes the other addresses of a network
    /// together with its first, and takes no route beside the one that the kernel made for it.
    fn must_go_first(&self, there: &Address) -> bool {
        let desired = &self.desired.addresses;
        let network = there.address.prefix();
        let of_network = there.address.address().is_ipv4() && !is_alone(&there.address);
        let in_the_way = |wanted: &InterfaceAddress| {
            wanted.address() == there.address.address()
                || (of_network && wanted.prefix() == network)
        };
        self.observed.link_name(there.link) == self.interface
            && self.observed.owns_address(&self.desired.instance, there)
            && !desired.contains(&there.address)
            && (desired.iter().any(in_the_way)
                || (of_network && self.wanted_routes().any(|r| r.to == network)))
    }

    /// Whether the kernel made this route for addresses that all go before routes are added.
    fn goes_with_address(&self, route: &Route) -> bool {
        let mut of_network = self.observed.addresses.iter().filter(|a| {
            Some(a.link) == route.link && a.address.prefix() == route.to && !is_alone(&a.address)
        });
        route.protocol != PROTOCOL
            && of_network.clone().next().is_some()
            && of_network.all(|a| self.must_go_first(a))
    }

    fn address_protocol(&self) -> u8 {
        if self.observed.address_protocols {
            PROTOCOL
        } else {
            0
        }
    }

    fn address(&self, add: bool, address: Address) -> Step {
        Step::Address {
            add,
            link: self.observed.link_name(address.link).to_owned(),
            address,
        }
    }

    fn local_addresses(&self) -> Vec<Step> {
        let Some(lo) = self.observed.link("lo") else {
            return Vec::new();
        };
        let lacks = |wanted: &&IpAddr| {
            !self.observed.addresses.iter().any(|there| {
                let all_of_loopback =
                    there.link == lo.index && there.address.address().is_loopback();
                there.address.address() == **wanted
                    || (all_of_loopback && there.address.prefix().contains(**wanted))
            })
        };
        let addresses = self.desired.local_addresses.iter().filter(lacks);
        addresses
            .filter_map(|wanted| {
                let address = InterfaceAddress::new(*wanted, Prefix::host(*wanted).length())?;
                Some(self.address(
                    true,
                    Address {
                        link: lo.index,
                        address,
                        protocol: self.address_protocol(),
                        metric: self.desired.instance.address_metric(),
                    },
                ))
            })
            .collect()
    }

    fn addresses_to_delete(&self) -> Vec<Step> {
        let is_desired = |there: &Address| {
            let address = there.address;
            if self.observed.link_name(there.link) == self.interface {
                self.desired.addresses.contains(&address)
            } else {
                self.desired.local_addresses.contains(&address.address())
            }
        };
        let ours = self.observed.addresses.iter().filter(|a| {
            self.observed.owns_address(&self.desired.instance, a)
                && !is_desired(a)
                && !self.must_go_first(a)
        });
        ours.map(|a| self.address(false, a.clone())).collect()
    }

    /// The routes that are wanted, less those that the kernel makes for the tunnel's addresses.
    fn wanted_routes(&self) -> impl Iterator<Item = &DesiredRoute> {
        let by_kernel = |route: &&DesiredRoute| {
            let of = |a: &InterfaceAddress| a.prefix() == route.to && !is_alone(a);
            route.table == MAIN_TABLE
                && !route.metric_chosen
                && self.desired.addresses.iter().any(of)
        };
        self.desired.routes.iter().filter(move |r| !by_kernel(r))
    }

    fn routes(&self, link: &Link) -> Result<Vec<Step>, Conflict> {
        let mut there = HashMap::<(u32, Prefix), Vec<&Route>>::new();
        for route in &self.observed.routes {
            there
                .entry((route.table, route.to))
                .or_default()
                .push(route);
        }
        let mut steps = Vec::new();
        for wanted in self.wanted_routes() {
            let same = there.get(&(wanted.table, wanted.to));
            let mut present = false;
            for other in same.into_iter().flatten() {
                let here = other.link == Some(link.index) && other.kind == RouteKind::Unicast;
                if here {
                    present |= other.metric == wanted.metric && !self.goes_with_address(other);
                } else if !wanted.metric_chosen || other.metric == wanted.metric {
                    return Err(self.route_conflict(wanted, other));
                }
            }
            if !present {
                let route = Route {
                    table: wanted.table,
                    to: wanted.to,
                    metric: wanted.metric,
                    kind: RouteKind::Unicast,
                    protocol: PROTOCOL,
                    link: Some(link.index),
                    gateway: None,
                    mtu: None,
                };
                steps.push(self.route(true, route));
            }
        }
        Ok(steps)
    }

    fn route_conflict(&self, wanted: &DesiredRoute, other: &Route) -> Conflict {
        let device = match other.link {
            Some(link) => format!(" dev {}", self.observed.link_name(link)),
            None => String::new(),
        };
        Conflict::Route {
            to: wanted.to,
            interface: self.interface.to_owned(),
            other: format!("{other}{device}"),
        }
    }

    fn route(&self, add: bool, route: Route) -> Step {
        Step::Route {
            add,
            link: self.interface.to_owned(),
            route,
        }
    }

    /// Routes of ours that are no longer wanted: those that the kernel will make itself for an
    /// address, which it would do beside ours, or all others.
    fn routes_to_delete(&self, made_by_kernel: bool) -> Vec<Step> {
        let wanted: HashSet<(u32, Prefix, u32)> = match self.desired.mtu {
            Some(_) => self
                .wanted_routes()
                .map(|r| (r.table, r.to, r.metric))
                .collect(),
            None => HashSet::new(),
        };
        let of_address = |route: &Route| {
            let of = |a: &InterfaceAddress| a.prefix() == route.to && !is_alone(a);
            route.to.is_ipv4() && self.desired.addresses.iter().any(of)
        };
        let ours = self.observed.routes.iter().filter(|route| {
            self.observed.owns_route(&self.desired.instance, route)
                && !wanted.contains(&(route.table, route.to, route.metric))
                && of_address(route) == made_by_kernel
        });
        ours.map(|route| self.route(false, route.clone())).collect()
    }

    fn rules(&self) -> Vec<Step> {
        let missing = self
            .desired
            .rules
            .iter()
            .filter(|rule| !self.observed.rules.contains(rule));
        let add = |rule: &Rule| Step::Rule {
            add: true,
            rule: rule.clone(),
        };
        missing.map(add).collect()
    }

    fn rules_to_delete(&self) -> Vec<Step> {
        let ours = self.observed.rules.iter().filter(|rule| {
            self.desired.instance.owns_rule(rule) && !self.desired.rules.contains(rule)
        });
        let delete = |rule: &Rule| Step::Rule {
            add: false,
            rule: rule.clone(),
        };
        ours.map(delete).collect()
    }

    fn table(&self) -> Result<Option<Step>, Conflict> {
        let wanted = self.desired.table.as_ref();
        let there = self.observed.table.as_ref();
        let name = self.desired.instance.nft_table();
        match (wanted, there) {
            (None, None) => return Ok(None),
            (None, Some(there)) if !there.is_ours() => return Ok(None),
            (Some(_), Some(there)) if !there.is_ours() => return Err(Conflict::Table(name)),
            (Some(wanted), Some(there)) if there.is(wanted) => return Ok(None),
            _ => {}
        }
        let from: Option<Table> = there.and_then(|there| there.content.clone());
        Ok(Some(Step::Table {
            name,
            from,
            to: wanted.cloned(),
        }))
    }
}

/// Whether the address is alone in its network, so that the kernel makes no prefix route for it.
fn is_alone(address: &InterfaceAddress) -> bool {
    address.length() == Prefix::host(address.address()).length()
}

/// Sysctls.
impl Planner<'_> {
    fn sysctls(&self) -> Result<Vec<Step>, Conflict> {
        let mut steps = Vec::new();
        if self.desired.forward.contains(&Family::V4) {
            let purpose = "to forward IPv4 (network.forward)";
            steps.extend(self.sysctl(sysctl::IPV4_FORWARD, "1", purpose)?);
            let of_link = sysctl::ipv4_forwarding(self.interface);
            // The global switch above sets it as well.
            if steps.is_empty() {
                steps.extend(self.sysctl(&of_link, "1", purpose)?);
            }
        }
        if self.desired.forward.contains(&Family::V6) {
            steps.extend(self.ipv6_forward()?);
        }
        let is_ipv6 = |a: &InterfaceAddress| a.address().is_ipv6();
        if self.desired.addresses.iter().any(is_ipv6) {
            let purpose = "so that the tunnel link takes its IPv6 address";
            steps.extend(self.sysctl(&sysctl::disable_ipv6(self.interface), "0", purpose)?);
        }
        let private_ipv4 = |rule: &Rule| rule.family == Family::V4;
        if self.desired.rules.iter().any(private_ipv4) && self.filters_strictly() {
            let purpose =
                "so that the strict rp_filter lets replies to the tunnel's marked packets in";
            steps.extend(self.sysctl(sysctl::SRC_VALID_MARK, "1", purpose)?);
        }
        Ok(steps)
    }

    /// Forwarding of IPv6, and router advertisements where they are taken now: a link that
    /// forwards takes them only with `accept_ra` 2, and the host would lose its default route.
    fn ipv6_forward(&self) -> Result<Vec<Step>, Conflict> {
        let purpose = "to forward IPv6 (network.forward)";
        let forward = self.sysctl(sysctl::IPV6_FORWARD, "1", purpose)?;
        let mut steps = Vec::new();
        if forward.is_some() {
            let others = self.observed.links.iter().filter(|link| {
                let accept = self.observed.sysctls.get(&sysctl::accept_ra(&link.name));
                link.name != "lo" && link.name != self.interface && accept.is_some_and(|v| v == "1")
            });
            for link in others {
                let purpose = "to keep taking router advertisements while forwarding IPv6";
                steps.extend(self.sysctl(&sysctl::accept_ra(&link.name), "2", purpose)?);
            }
        }
        steps.extend(forward);
        Ok(steps)
    }

    /// Whether a link that the tunnel's packets may come in by filters by the reverse path.
    fn filters_strictly(&self) -> bool {
        let value = |name: &str| {
            let value = self.observed.sysctls.get(&sysctl::rp_filter(name));
            value.map_or("0", String::as_str)
        };
        let others = self
            .observed
            .links
            .iter()
            .filter(|link| link.name != "lo" && link.name != self.interface);
        others
            .map(|link| value(&link.name).max(value("all")))
            .any(|effective| effective == "1")
    }

    fn sysctl(
        &self,
        path: &str,
        wanted: &str,
        purpose: &'static str,
    ) -> Result<Option<Step>, Conflict> {
        // What the kernel lacks is off and can't be switched on, as IPv6 where it is disabled.
        let Some(value) = self.observed.sysctls.get(path) else {
            return Ok(None);
        };
        if value == wanted {
            return Ok(None);
        }
        if !self.observed.sysctls_writable {
            return Err(Conflict::ReadOnlySysctl {
                name: sysctl::name(path),
                value: value.clone(),
                wanted: wanted.to_owned(),
                purpose,
            });
        }
        Ok(Some(Step::Sysctl {
            path: path.to_owned(),
            from: value.clone(),
            to: wanted.to_owned(),
        }))
    }
}
