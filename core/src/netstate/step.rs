use std::fmt;
use std::mem::{Discriminant, discriminant};

use crate::types::{InterfaceAddress, Prefix};

use super::{Address, Route, RouteKind, Rule, Table, sysctl};

/// A property of the tunnel link, with the value it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkProperty {
    /// Administratively up.
    Up {
        /// The value so far.
        from: bool,
        /// The new value.
        to: bool,
    },
    /// The MTU in bytes.
    Mtu {
        /// The value so far.
        from: u32,
        /// The new value.
        to: u32,
    },
    /// How the kernel makes an IPv6 link-local address (`IN6_ADDR_GEN_MODE_*`).
    AddressGeneration {
        /// The value so far.
        from: u8,
        /// The new value.
        to: u8,
    },
    /// The alias; empty: none.
    Alias {
        /// The value so far.
        from: String,
        /// The new value.
        to: String,
    },
}

/// One change of the network state. Its text is what is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a sysctl.
    Sysctl {
        /// The path below /proc/sys.
        path: String,
        /// The value so far.
        from: String,
        /// The new value.
        to: String,
    },
    /// Changes the tunnel link.
    Link {
        /// The name of the link.
        name: String,
        /// Its index.
        index: u32,
        /// What changes.
        property: LinkProperty,
    },
    /// Deletes a tunnel link that outlived its process. It can't be taken back.
    RemoveLink {
        /// The name of the link.
        name: String,
        /// Its index.
        index: u32,
    },
    /// Adds or deletes an address.
    Address {
        /// Added, or else deleted.
        add: bool,
        /// The name of the link.
        link: String,
        /// The address.
        address: Address,
    },
    /// Adds or deletes a route.
    Route {
        /// Added, or else deleted.
        add: bool,
        /// The name of the output link; `None` for a route that leads nowhere.
        link: Option<String>,
        /// The route.
        route: Route,
    },
    /// Adds or deletes a policy rule.
    Rule {
        /// Added, or else deleted.
        add: bool,
        /// The rule.
        rule: Rule,
    },
    /// Sets or deletes the nf_tables table, as one transaction.
    Table {
        /// The name of the table.
        name: String,
        /// What it held; `None` also where that is not known, because another process made it.
        from: Option<Table>,
        /// What it shall hold; `None`: no table.
        to: Option<Table>,
    },
}

/// What a [`Step`] is about: two steps with the same object undo or repeat each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A sysctl, by its path below /proc/sys.
    Sysctl(String),
    /// A property of the link of this name.
    Link(String, Discriminant<LinkProperty>),
    /// The link of this name itself.
    Whole(String),
    /// An address on the link of this name.
    Address(String, InterfaceAddress),
    /// A route by table, destination and metric.
    Route(u32, Prefix, u32),
    /// A rule.
    Rule(Rule),
    /// An nf_tables table.
    Table(String),
}

impl Step {
    /// What it is about.
    pub fn object(&self) -> Object {
        match self {
            Self::Sysctl { path, .. } => Object::Sysctl(path.clone()),
            Self::Link { name, property, .. } => Object::Link(name.clone(), discriminant(property)),
            Self::RemoveLink { name, .. } => Object::Whole(name.clone()),
            Self::Address { link, address, .. } => Object::Address(link.clone(), address.address),
            Self::Route { route, .. } => Object::Route(route.table, route.to, route.metric),
            Self::Rule { rule, .. } => Object::Rule(rule.clone()),
            Self::Table { name, .. } => Object::Table(name.clone()),
        }
    }

    /// The kind of its object, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sysctl { .. } => "sysctl",
            Self::Link { .. } | Self::RemoveLink { .. } => "link",
            Self::Address { .. } => "address",
            Self::Route { .. } => "route",
            Self::Rule { .. } => "rule",
            Self::Table { .. } => "nft",
        }
    }

    /// Whether its object is gone after it.
    pub fn removes(&self) -> bool {
        match self {
            Self::Address { add, .. } | Self::Route { add, .. } | Self::Rule { add, .. } => !add,
            Self::Table { to, .. } => to.is_none(),
            Self::RemoveLink { .. } => true,
            Self::Sysctl { .. } | Self::Link { .. } => false,
        }
    }

    /// Its text in one line: that of a table is without what the table holds.
    pub fn summary(&self) -> String {
        let text = self.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.trim_end_matches(" {").to_owned()
    }

    /// The step that takes this one back; of one that can't be taken back, that step again.
    pub fn inverse(&self) -> Self {
        let mut step = self.clone();
        match &mut step {
            Self::Sysctl { from, to, .. } => std::mem::swap(from, to),
            Self::Link { property, .. } => match property {
                LinkProperty::Up { from, to } => std::mem::swap(from, to),
                LinkProperty::Mtu { from, to } => std::mem::swap(from, to),
                LinkProperty::AddressGeneration { from, to } => std::mem::swap(from, to),
                LinkProperty::Alias { from, to } => std::mem::swap(from, to),
            },
            Self::Address { add, .. } | Self::Route { add, .. } | Self::Rule { add, .. } => {
                *add = !*add;
            }
            Self::Table { from, to, .. } => std::mem::swap(from, to),
            Self::RemoveLink { .. } => {}
        }
        step
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |add: &bool| if *add { "add" } else { "delete" };
        match self {
            Self::Sysctl { path, from, to } => {
                write!(f, "set sysctl {} to {to} (was {from})", sysctl::name(path))
            }
            Self::Link { name, property, .. } => match property {
                LinkProperty::Up { to: true, .. } => write!(f, "set link {name} up"),
                LinkProperty::Up { to: false, .. } => write!(f, "set link {name} down"),
                LinkProperty::Mtu { from, to } => {
                    write!(f, "set the MTU of link {name} to {to} (was {from})")
                }
                LinkProperty::AddressGeneration { from, to } => {
                    write!(f, "set addr_gen_mode of link {name} to {to} (was {from})")
                }
                LinkProperty::Alias { to, .. } => {
                    write!(f, "set the alias of link {name} to \"{to}\"")
                }
            },
            Self::RemoveLink { name, .. } => write!(f, "delete link {name}"),
            Self::Address { add, link, address } => {
                write!(f, "{} address {} on {link}", verb(add), address.address)
            }
            Self::Route { add, link, route } => {
                write!(f, "{} route {route}", verb(add))?;
                link.iter().try_for_each(|link| write!(f, " dev {link}"))
            }
            Self::Rule { add, rule } => write!(f, "{} rule {rule}", verb(add)),
            Self::Table { name, to: None, .. } => write!(f, "delete nft table inet {name}"),
            Self::Table {
                to: Some(table), ..
            } => write!(f, "set nft {table}"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == RouteKind::Refuse {
            f.write_str("unreachable ")?;
        }
        write!(f, "{}", self.to)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if self.table != super::MAIN_TABLE {
            write!(f, " table {:#x}", self.table)?;
        }
        if self.metric != super::desired::default_metric(&self.to) {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} priority {}:", self.family, self.priority)?;
        if let Some((mark, mask)) = self.mark {
            let not = if self.invert { " not" } else { "" };
            write!(f, "{not} fwmark {mark:#x}/{mask:#x}")?;
        }
        if self.table == super::MAIN_TABLE {
            f.write_str(" lookup main")?;
        } else {
            write!(f, " lookup {:#x}", self.table)?;
        }
        if let Some(length) = self.suppress_prefix_length {
            write!(f, " suppress_prefixlength {length}")?;
        }
        Ok(())
    }
}
