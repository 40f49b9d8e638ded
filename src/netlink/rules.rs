use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use seedwire_core::netstate::{Family, Rule};

use super::attributes::{attributes, u8_of, u32_of};
use super::socket::Reply;
use super::watch::Watch;
use super::{Error, Rtnl};

/// The length of `struct fib_rule_hdr`.
const HEADER_LENGTH: usize = 12;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
/// What the kernel says for a rule that suppresses nothing (-1).
const NO_SUPPRESSION: u32 = u32::MAX;

impl Rtnl {
    /// All policy rules of both families.
    pub fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            let what = "list policy rules";
            let mut message = RuleMessage::default();
            message.header.family = address_family(family);
            let request = RouteNetlinkMessage::GetRule(message);
            let watch = Watch::new(
                NETLINK_ROUTE,
                &[match family {
                    Family::V4 => libc::RTNLGRP_IPV4_RULE,
                    Family::V6 => libc::RTNLGRP_IPV6_RULE,
                }],
            )?;
            let replies = self.socket.dump_watched(what, request, Some(&watch))?;
            for reply in replies {
                let ours = reply.body.first() == Some(&address_family(family).into());
                if reply.kind == libc::RTM_NEWRULE && ours {
                    rules.push(rule(what, family, &reply)?);
                }
            }
        }
        Ok(rules)
    }

    /// Adds a policy rule; fails if the same is there.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), Error> {
        let what = format!("add {} policy rule {}", rule.family, rule.priority);
        let request = RouteNetlinkMessage::NewRule(message(rule));
        self.socket
            .request(&what, NLM_F_CREATE | NLM_F_EXCL, request)
    }

    /// Deletes the policy rule with exactly these properties.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), Error> {
        let what = format!("delete {} policy rule {}", rule.family, rule.priority);
        let request = RouteNetlinkMessage::DelRule(message(rule));
        self.socket.request(&what, 0, request)
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(rule.table).unwrap_or_default();
    if rule.invert {
        message.header.flags = RuleFlags::Invert;
    }
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    if let Some((mark, mask)) = rule.mark {
        message.attributes.push(RuleAttribute::FwMark(mark));
        message.attributes.push(RuleAttribute::FwMask(mask));
    }
    message.attributes.extend(
        rule.suppress_prefix_length
            .map(RuleAttribute::SuppressPrefixLen),
    );
    message
}

fn rule(what: &str, family: Family, reply: &Reply) -> Result<Rule, Error> {
    let malformed = || Error::Malformed {
        what: what.to_owned(),
    };
    let header = reply.body.get(..HEADER_LENGTH).ok_or_else(malformed)?;
    let flags = u32_of(&header[8..]).ok_or_else(malformed)?;
    let (mut mark, mut mask) = (None, None);
    let mut rule = Rule {
        family,
        priority: 0,
        protocol: 0,
        table: header[4].into(),
        invert: RuleFlags::from_bits_retain(flags).contains(RuleFlags::Invert),
        mark: None,
        suppress_prefix_length: None,
    };
    for (kind, value) in attributes(&reply.body[HEADER_LENGTH..]) {
        match kind {
            FRA_PRIORITY => rule.priority = u32_of(value).ok_or_else(malformed)?,
            FRA_TABLE => rule.table = u32_of(value).ok_or_else(malformed)?,
            FRA_PROTOCOL => rule.protocol = u8_of(value).ok_or_else(malformed)?,
            FRA_FWMARK => mark = u32_of(value),
            FRA_FWMASK => mask = u32_of(value),
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefix_length = u32_of(value).filter(|l| *l != NO_SUPPRESSION);
            }
            _ => {}
        }
    }
    rule.mark = mark
        .or(mask.map(|_| 0))
        .map(|mark| (mark, mask.unwrap_or(u32::MAX)));
    Ok(rule)
}
