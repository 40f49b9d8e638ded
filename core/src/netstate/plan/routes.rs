use std::collections::{HashMap, HashSet};

use crate::types::{InterfaceAddress, Prefix};

use super::addresses::is_alone;
use super::{Conflict, Planner};
use crate::netstate::instance::is_guard;
use crate::netstate::{DesiredRoute, Link, MAIN_TABLE, PROTOCOL, Route, RouteKind, Step};

impl Planner<'_> {
    /// The routes that are wanted, less those that the kernel makes for the tunnel's addresses.
    pub(super) fn wanted_routes(&self) -> impl Iterator<Item = &DesiredRoute> {
        let by_kernel = |route: &&DesiredRoute| {
            let of = |a: &InterfaceAddress| a.prefix() == route.to && !is_alone(a);
            route.table == MAIN_TABLE
                && !route.metric_chosen
                && self.desired.addresses.iter().any(of)
        };
        self.desired.routes.iter().filter(move |r| !by_kernel(r))
    }

    pub(super) fn routes(&self, link: &Link) -> Result<Vec<Step>, Conflict> {
        let mut there = HashMap::<(u32, Prefix), Vec<&Route>>::new();
        for route in self.observed.routes.iter().filter(|r| !is_guard(r)) {
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
                    return Err(self.route_conflict(wanted.to, other));
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

    pub(super) fn route_conflict(&self, to: Prefix, other: &Route) -> Conflict {
        let device = match other.link {
            Some(link) => format!(" dev {}", self.observed.link_name(link)),
            None => String::new(),
        };
        Conflict::Route {
            to,
            interface: self.interface.to_owned(),
            other: format!("{other}{device}"),
        }
    }

    fn route(&self, add: bool, route: Route) -> Step {
        Step::Route {
            add,
            link: Some(self.interface.to_owned()),
            route,
        }
    }

    /// Routes of ours that are no longer wanted: those that the kernel will make itself for an
    /// address, which it would do beside ours, or all others.
    pub(super) fn routes_to_delete(&self, made_by_kernel: bool) -> Vec<Step> {
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

    /// Whether the kernel made this route for addresses that all go before routes are added.
    fn goes_with_address(&self, route: &Route) -> bool {
        let mut of_network = self.observed.addresses.iter().filter(|a| {
            Some(a.link) == route.link && a.address.prefix() == route.to && !is_alone(&a.address)
        });
        route.protocol != PROTOCOL
            && of_network.clone().next().is_some()
            && of_network.all(|a| self.must_go_first(a))
    }
}
