//! A kernel in memory, as strict as the real one where the steps depend on it.

use std::io;

use seedwire_core::netstate::{
    Address, Instance, LinkProperty, MAIN_TABLE, Observed, ObservedTable, Route, RouteKind, Step,
};
use seedwire_core::types::Prefix;

use crate::netlink::{Error, Refusal};

use super::Kernel;

/// The index of `lo`.
const LOOPBACK: Option<u32> = Some(1);
/// Who made the prefix route of an address (`RTPROT_KERNEL`).
const BY_KERNEL: u8 = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct FakeKernel {
    pub(super) state: Observed,
    /// What goes wrong; `None`: nothing.
    pub(super) fault: Option<Fault>,
    /// Whether every listing breaks off.
    pub(super) unreadable: bool,
}

/// Something that goes wrong with a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// How many more steps succeed before.
    pub(super) after: usize,
    /// What it is.
    pub(super) kind: FaultKind,
    /// Whether it strikes all steps from there on, rather than one.
    pub(super) lasts: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FaultKind {
    /// The kernel refuses the step.
    Refused,
    /// Neither it nor those sent with it reach the kernel, and no answer comes.
    LostUndone,
    /// It and those sent with it are done, but no answer comes.
    LostDone,
    /// As [`FaultKind::LostDone`], and the kernel refuses what comes after.
    LostThenRefused,
}

impl Kernel for FakeKernel {
    fn observe(&mut self, _: &Instance) -> Result<Observed, Error> {
        if self.unreadable {
            return Err(lost());
        }
        let mut observed = self.state.clone();
        if let Some(table) = &mut observed.table {
            table.content = None;
        }
        Ok(observed)
    }

    fn table(&mut self, instance: &Instance) -> Result<Option<ObservedTable>, Error> {
        Ok(self.observe(instance)?.table)
    }

    fn run(&mut self, steps: &[Step]) -> Vec<Result<(), Error>> {
        let mut answers = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            match self.struck() {
                None => answers.push(self.state_run(step)),
                Some(FaultKind::Refused) => answers.push(Err(refused(libc::EIO))),
                Some(kind) => {
                    if !matches!(kind, FaultKind::LostUndone) {
                        for step in &steps[index..] {
                            // Nobody learns how it went.
                            let _ = self.state_run(step);
                        }
                    }
                    answers.push(Err(lost()));
                    break;
                }
            }
        }
        answers
    }
}

fn lost() -> Error {
    Error::Receive {
        what: "run a step".to_owned(),
        source: io::Error::from_raw_os_error(libc::ENOBUFS),
    }
}

fn refused(errno: i32) -> Error {
    Error::Refused {
        what: "run a step".to_owned(),
        source: Refusal {
            errno: io::Error::from_raw_os_error(errno),
            text: None,
        },
    }
}

impl FakeKernel {
    /// Whether the next step is struck by the fault.
    fn struck(&mut self) -> Option<FaultKind> {
        let fault = self.fault.as_mut()?;
        if let Some(fewer) = fault.after.checked_sub(1) {
            fault.after = fewer;
            return None;
        }
        let kind = fault.kind;
        if !fault.lasts {
            // So that the roll back can be seen to work.
            self.fault = None;
        } else if matches!(kind, FaultKind::LostThenRefused) {
            fault.kind = FaultKind::Refused;
        }
        Some(kind)
    }

    fn state_run(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Sysctl { path, to, .. } => {
                self.state.sysctls.insert(path.clone(), to.clone());
                Ok(())
            }
            Step::Link {
                index, property, ..
            } => self.change_link(*index, property),
            Step::RemoveLink { index, .. } => {
                self.state.links.retain(|link| link.index != *index);
                Ok(())
            }
            Step::Address { add, address, .. } => self.change_address(*add, address),
            Step::Route { add, route, .. } => self.change_route(*add, route),
            Step::Rule { add, rule } => change(&mut self.state.rules, *add, rule),
            Step::Table { to, .. } => {
                self.state.table = to.clone().map(|table| ObservedTable {
                    comment: Some(table.comment()),
                    rules: table.rules(),
                    fingerprint: 0,
                    content: Some(table),
                    edited: false,
                });
                Ok(())
            }
        }
    }

    fn change_link(&mut self, index: u32, property: &LinkProperty) -> Result<(), Error> {
        let mut links = self.state.links.iter_mut();
        let link = links.find(|link| link.index == index);
        let link = link.ok_or_else(|| refused(libc::ENODEV))?;
        match property {
            LinkProperty::Up { to, .. } => link.up = *to,
            LinkProperty::Mtu { to, .. } => link.mtu = *to,
            LinkProperty::AddressGeneration { to, .. } => link.address_generation = Some(*to),
            LinkProperty::Alias { to, .. } => {
                link.alias = Some(to.clone()).filter(|alias| !alias.is_empty());
            }
        }
        Ok(())
    }

    fn change_address(&mut self, add: bool, address: &Address) -> Result<(), Error> {
        let ip = address.address.address();
        let taken = |there: &Address| {
            there.link == address.link
                && there.address.address() == ip
                && (ip.is_ipv6() || there.address.length() == address.address.length())
        };
        if add && self.state.addresses.iter().any(taken) {
            return Err(refused(libc::EEXIST));
        }
        let to = address.address.prefix();
        let prefix_route = Route {
            table: MAIN_TABLE,
            to,
            metric: if to.is_ipv4() { 0 } else { 256 },
            kind: RouteKind::Unicast,
            protocol: BY_KERNEL,
            link: Some(address.link),
            gateway: None,
            mtu: None,
        };
        change(&mut self.state.addresses, add, address)?;
        let in_prefix =
            |there: &Address| there.link == address.link && there.address.prefix() == to;
        let others = self.state.addresses.iter().filter(|a| in_prefix(a)).count();
        let first_or_last = others == usize::from(add);
        if to != Prefix::host(ip) && first_or_last {
            change(&mut self.state.routes, add, &prefix_route)?;
        }
        Ok(())
    }

    fn change_route(&mut self, add: bool, route: &Route) -> Result<(), Error> {
        let link_is_up = |index| {
            let mut links = self.state.links.iter();
            links.any(|link| link.index == index && link.up)
        };
        let key = |route: &Route| (route.table, route.to, route.metric);
        let mut route = route.clone();
        if route.kind == RouteKind::Refuse {
            // IPv6 shows these on the loopback interface, by which nobody asks for them.
            route.link = LOOPBACK.filter(|_| !route.to.is_ipv4());
        }
        let route = &route;
        let needs_link = route.kind != RouteKind::Refuse;
        if add && needs_link && !route.link.is_some_and(link_is_up) {
            return Err(refused(libc::ENETDOWN));
        }
        if add && self.state.routes.iter().any(|r| key(r) == key(route)) {
            return Err(refused(libc::EEXIST));
        }
        change(&mut self.state.routes, add, route)
    }
}

/// Adds what must not be there, or deletes what may be.
fn change<T: Clone + Ord>(all: &mut Vec<T>, add: bool, one: &T) -> Result<(), Error> {
    if !add {
        all.retain(|there| there != one);
    } else if all.contains(one) {
        return Err(refused(libc::EEXIST));
    } else {
        all.push(one.clone());
        all.sort();
    }
    Ok(())
}
