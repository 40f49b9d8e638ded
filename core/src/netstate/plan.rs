mod addresses;
mod guards;
mod routes;
mod sysctls;

use std::net::IpAddr;

use crate::types::{InterfaceName, Prefix};

use super::step::{LinkProperty, Step};
use super::{Desired, LINK_ALIAS, Link, NO_ADDRESS_GENERATION, Observed, Rule, Table};

/// Around more than these there is no way worth looking for.
const MOST_CONFLICTS: usize = 64;

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
    /// There is a link of that name, and it has no alias of ours.
    #[error("link {0} is already there and was not made by seedwire")]
    Foreign(String),
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
    /// Another instance has the same marks as this one.
    #[error(
        "what {interface} and {other} write can't be told apart by its marks, which are made from \
         the names: give one of the interfaces another name"
    )]
    Marks {
        /// The tunnel link.
        interface: InterfaceName,
        /// The link of the other instance.
        other: InterfaceName,
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

/// The steps that lead from `observed` to `desired`: sysctls, guards, link, addresses, routes,
/// rules, nft table, each added to first; then what is ours and no longer desired, in the reverse
/// order: there is no moment in which a packet for the tunnel could leave by another way.
/// Forwarding and what it needs is switched on but never off: others may rely on it by then.
pub fn plan(desired: &Desired, observed: &Observed) -> Result<Plan, Conflict> {
    let planner = Planner {
        desired,
        observed,
        interface: desired.instance.interface().as_str(),
    };
    let mut steps = planner.sysctls()?;
    if let Some(mtu) = desired.mtu {
        planner.marks()?;
        let link = planner.tunnel_link()?;
        steps.extend(planner.guards()?);
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
    steps.extend(planner.guards_to_delete());
    steps.extend(planner.addresses_to_delete());
    Ok(steps)
}

/// As [`plan`], but around what belongs to someone else, which is returned too. While there is such
/// a conflict nothing is deleted: what is left of ours may be all that still works.
pub fn plan_around(desired: &Desired, observed: &Observed) -> (Plan, Vec<Conflict>) {
    let mut desired = desired.clone();
    let mut conflicts = Vec::new();
    loop {
        match plan(&desired, observed) {
            Ok(mut steps) => {
                if !conflicts.is_empty() {
                    steps.retain(|step| !step.removes());
                }
                return (steps, conflicts);
            }
            Err(conflict) => {
                let goes_on = conflicts.len() < MOST_CONFLICTS && give_up(&mut desired, &conflict);
                conflicts.push(conflict);
                if !goes_on {
                    return (Plan::new(), conflicts);
                }
            }
        }
    }
}

/// Wants no longer what someone else is in the way of; false where nothing works without it.
fn give_up(desired: &mut Desired, conflict: &Conflict) -> bool {
    match conflict {
        Conflict::Address { address, .. } => desired.addresses.retain(|a| a.address() != *address),
        Conflict::Route { to, .. } => desired.routes.retain(|route| route.to != *to),
        Conflict::Table(_) => desired.table = None,
        Conflict::ReadOnlySysctl { .. } if !desired.forward.is_empty() => desired.forward.clear(),
        Conflict::ReadOnlySysctl { .. }
        | Conflict::NoLink(_)
        | Conflict::Marks { .. }
        | Conflict::Link { .. }
        | Conflict::Foreign(_) => return false,
    }
    true
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
        let instance = &self.desired.instance;
        let others_need = |rule: &Rule| {
            let mut rules = self.observed.rules.iter();
            rule.priority == instance.priority()
                && rules.any(|r| r.family == rule.family && instance.shares_priority(r))
        };
        let ours = self.observed.rules.iter().filter(|rule| {
            instance.owns_rule(rule) && !self.desired.rules.contains(rule) && !others_need(rule)
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
