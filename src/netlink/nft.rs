use std::hash::{DefaultHasher, Hash, Hasher};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, InetHookNumber, NfTablesMessage,
    RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use seedwire_core::netstate::{Chain, ChainKind, Hook, NftRule, ObservedTable, Table};

use super::Error;
use super::attributes::{attribute, text_of};
use super::nft_expression::expressions;
use super::socket::{Reply, Socket};

/// The length of `struct nfgenmsg`.
const HEADER_LENGTH: usize = 4;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
/// Name, hook, policy and type of a chain; not its handle and how often it is used.
const CHAIN_CONTENT: [u16; 4] = [3, 4, 5, 7];
/// Chain, expressions and comment of a rule; not its handle and position.
const RULE_CONTENT: [u16; 3] = [2, 4, 7];
/// The comment of a table among its user data (libnftnl's `NFTNL_UDATA_TABLE_COMMENT`).
const UDATA_COMMENT: u8 = 0;
const POLICY_ACCEPT: u32 = 1;

/// The nf_tables tables of the family inet.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens a socket in the network namespace of this thread.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(NETLINK_NETFILTER)?;
        Ok(Self { socket })
    }

    /// The table of this name, if there is one. Its rules are counted, and what it holds goes into
    /// the fingerprint.
    pub fn table(&mut self, name: &str) -> Result<Option<ObservedTable>, Error> {
        let what = format!("read nft table inet {name}");
        let attributes = vec![TableAttribute::Name(name.to_owned())];
        let request = NfTablesMessage::GetTable(TableMessage { attributes });
        let reply = match self.socket.get(&what, inet(request)) {
            Ok(reply) => reply,
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let body = reply.body.get(HEADER_LENGTH..);
        let (NFT_MSG_NEWTABLE, Some(body)) = (reply.kind, body) else {
            return Err(Error::Malformed { what });
        };
        let attributes = vec![RuleAttribute::Table(name.to_owned())];
        let request = NfTablesMessage::GetRule(RuleMessage { attributes });
        let mut rules = self.socket.dump(&what, inet(request))?;
        rules.retain(|reply| reply.kind == NFT_MSG_NEWRULE);
        let chains = self.chains(&what, name)?;
        let mut hasher = DefaultHasher::new();
        attribute(body, NFTA_TABLE_FLAGS).hash(&mut hasher);
        hash_content(&chains, &CHAIN_CONTENT, &mut hasher);
        hash_content(&rules, &RULE_CONTENT, &mut hasher);
        Ok(Some(ObservedTable {
            comment: attribute(body, NFTA_TABLE_USERDATA).and_then(comment),
            rules: rules.len(),
            fingerprint: hasher.finish(),
            content: None,
            edited: false,
        }))
    }

    fn chains(&mut self, what: &str, table: &str) -> Result<Vec<Reply>, Error> {
        let attributes = Vec::new();
        let request = NfTablesMessage::GetChain(ChainMessage { attributes });
        // The kernel lists those of all tables.
        let mut chains = self.socket.dump(what, inet(request))?;
        chains.retain(|chain| {
            let of = chain.body.get(HEADER_LENGTH..);
            let of = of.and_then(|body| attribute(body, NFTA_CHAIN_TABLE));
            chain.kind == NFT_MSG_NEWCHAIN && of.is_some_and(|of| text_of(of) == table)
        });
        Ok(chains)
    }

    /// The names of all tables.
    pub fn tables(&mut self) -> Result<Vec<String>, Error> {
        let what = "list nft tables";
        let attributes = Vec::new();
        let request = NfTablesMessage::GetTable(TableMessage { attributes });
        let replies = self.socket.dump(what, inet(request))?;
        let tables = replies.iter().filter(|r| r.kind == NFT_MSG_NEWTABLE);
        let names = tables.filter_map(|table| {
            let body = table.body.get(HEADER_LENGTH..)?;
            attribute(body, NFTA_TABLE_NAME).map(text_of)
        });
        Ok(names.collect())
    }

    /// Puts this table in the place of the one of its name, if any, in one transaction.
    pub fn set_table(&mut self, table: &Table) -> Result<(), Error> {
        let what = format!("set nft table inet {}", table.name);
        let bare = || vec![TableAttribute::Name(table.name.clone())];
        let mut commented = bare();
        commented.push(TableAttribute::UserData(user_data(&table.comment())));
        // Made first, so that there is one to delete.
        let new = |attributes| NfTablesMessage::NewTable(TableMessage { attributes });
        let old = TableMessage { attributes: bare() };
        let mut messages = vec![
            (NLM_F_CREATE, inet(new(bare()))),
            (0, inet(NfTablesMessage::DeleteTable(old))),
            (NLM_F_CREATE, inet(new(commented))),
        ];
        for chain in &table.chains {
            messages.push((NLM_F_CREATE, new_chain(table, chain)));
            for rule in &chain.rules {
                messages.push((NLM_F_CREATE | NLM_F_APPEND, new_rule(table, chain, rule)));
            }
        }
        self.transaction(&what, messages)
    }

    /// Deletes the table of this name.
    pub fn delete_table(&mut self, name: &str) -> Result<(), Error> {
        let what = format!("delete nft table inet {name}");
        let attributes = vec![TableAttribute::Name(name.to_owned())];
        let request = NfTablesMessage::DeleteTable(TableMessage { attributes });
        self.transaction(&what, vec![(0, inet(request))])
    }

    fn transaction(
        &mut self,
        what: &str,
        messages: Vec<(u16, NetfilterMessage)>,
    ) -> Result<(), Error> {
        let control = |message: ControlMessage| {
            let family = NetfilterProtoFamily::Unspec;
            let header = NetfilterHeader::new(family, 0, NFNL_SUBSYS_NFTABLES);
            NetfilterMessage::new(header, message)
        };
        let begin = control(ControlMessage::BatchBegin);
        let end = control(ControlMessage::BatchEnd);
        self.socket.transaction(what, begin, messages, end)
    }
}

/// Takes in these attributes of each.
fn hash_content(replies: &[Reply], kinds: &[u16], hasher: &mut DefaultHasher) {
    replies.len().hash(hasher);
    for reply in replies {
        let body = reply.body.get(HEADER_LENGTH..).unwrap_or_default();
        for kind in kinds {
            attribute(body, *kind).hash(hasher);
        }
    }
}

fn inet(message: impl Into<NetfilterMessageInner>) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
    NetfilterMessage::new(header, message)
}

fn new_chain(table: &Table, chain: &Chain) -> NetfilterMessage {
    let kind = match chain.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    };
    let hook = match chain.hook {
        Hook::Prerouting => InetHookNumber::PreRouting,
        Hook::Output => InetHookNumber::LocalOut,
        Hook::Postrouting => InetHookNumber::PostRouting,
    };
    let attributes = vec![
        ChainAttribute::Table(table.name.clone()),
        ChainAttribute::Name(chain.name.to_owned()),
        ChainAttribute::Hook(vec![
            HookAttribute::Number(hook.into()),
            HookAttribute::Priority(chain.priority.cast_unsigned()),
        ]),
        ChainAttribute::Policy(POLICY_ACCEPT),
        ChainAttribute::Type(kind.to_owned()),
    ];
    inet(NfTablesMessage::NewChain(ChainMessage { attributes }))
}

fn new_rule(table: &Table, chain: &Chain, rule: &NftRule) -> NetfilterMessage {
    let expressions = expressions(rule).into_iter().map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table(table.name.clone()),
        RuleAttribute::Chain(chain.name.to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    inet(NfTablesMessage::NewRule(RuleMessage { attributes }))
}

/// A comment in the form that nft(8) shows: type, length, text with a zero byte.
fn user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![UDATA_COMMENT, length];
    data.extend(comment.bytes().take(usize::from(length) - 1));
    data.push(0);
    data
}

fn comment(mut user_data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = user_data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(text_of(value));
        }
        user_data = &rest[usize::from(*length)..];
    }
    None
}
