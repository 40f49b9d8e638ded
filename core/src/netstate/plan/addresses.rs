use std::net::IpAddr;

use crate::types::{InterfaceAddress, Prefix};

use super::{Conflict, Planner};
use crate::netstate::{Address, Link, PROTOCOL, Step};

/// Whether the address is alone in its network, so that the kernel makes no prefix route for it.
pub(super) fn is_alone(address: &InterfaceAddress) -> bool {
    address.length() == Prefix::host(address.address()).length()
}

impl Planner<'_> {
    pub(super) fn tunnel_addresses(&self, link: &Link) -> Result<Vec<Step>, Conflict> {
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
    pub(super) fn must_go_first(&self, there: &Address) -> bool {
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

    pub(super) fn local_addresses(&self) -> Vec<Step> {
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
                        metric: self.desired.instance.metric(),
                    },
                ))
            })
            .collect()
    }

    pub(super) fn addresses_to_delete(&self) -> Vec<Step> {
        let is_desired = |there: &Address| {
            let address = there.address;
            if self.observed.link_name(there.link) == "lo" {
                self.desired.local_addresses.contains(&address.address())
            } else {
                self.desired.addresses.contains(&address)
            }
        };
        let ours = self.observed.addresses.iter().filter(|a| {
            self.observed.owns_address(&self.desired.instance, a)
                && !is_desired(a)
                && !self.must_go_first(a)
        });
        ours.map(|a| self.address(false, a.clone())).collect()
    }
}
