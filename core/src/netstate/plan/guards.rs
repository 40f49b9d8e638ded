//! Guards: `unreachable` routes that answer in the tunnel's place while its link is gone, so that
//! packets to what it leads to never leave by the default route.

use std::collections::{BTreeSet, HashMap};

use crate::types::Prefix;

use super::{Conflict, Planner};
use crate::netstate::{PROTOCOL, Route, RouteKind, Step};

impl Planner<'_> {
    /// That no other instance has the marks that guards and addresses on `lo` are known by.
    pub(super) fn marks(&self) -> Result<(), Conflict> {
        let instance = &self.desired.instance;
        let mut others = self.observed.others.iter();
        match others.find(|other| instance.is_confused_with(other)) {
            None => Ok(()),
            Some(other) => Err(Conflict::Marks {
                interface: instance.interface().clone(),
                other: other.clone(),
            }),
        }
    }

    pub(super) fn guards(&self) -> Result<Vec<Step>, Conflict> {
        let instance = &self.desired.instance;
        let there = self.observed.routes.iter();
        let there: HashMap<(u32, Prefix), &Route> = there
            .filter(|route| route.metric == instance.metric())
            .map(|route| ((route.table, route.to), route))
            .collect();
        let mut steps = Vec::new();
        for (table, to) in self.guarded() {
            match there.get(&(table, to)) {
                Some(route) if instance.owns_guard(route) => {}
                Some(other) => return Err(self.route_conflict(to, other)),
                None => steps.push(guard(
                    true,
                    Route {
                        table,
                        to,
                        metric: instance.metric(),
                        kind: RouteKind::Refuse,
                        protocol: PROTOCOL,
                        link: None,
                        gateway: None,
                        mtu: None,
                    },
                )),
            }
        }
        Ok(steps)
    }

    pub(super) fn guards_to_delete(&self) -> Vec<Step> {
        // Those that may be another instance's stay: to leave one of ours is the lesser harm.
        if self.marks().is_err() {
            return Vec::new();
        }
        let wanted = self.guarded();
        let ours = self.observed.routes.iter().filter(|route| {
            self.desired.instance.owns_guard(route) && !wanted.contains(&(route.table, route.to))
        });
        ours.map(|route| guard(false, route.clone())).collect()
    }

    /// Everything that is routed into the tunnel, by whatever metric.
    fn guarded(&self) -> BTreeSet<(u32, Prefix)> {
        let routes = self.desired.routes.iter();
        routes.map(|route| (route.table, route.to)).collect()
    }
}

fn guard(add: bool, route: Route) -> Step {
    Step::Route {
        add,
        link: None,
        route,
    }
}
