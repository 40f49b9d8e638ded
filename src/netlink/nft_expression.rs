//! Rules of nf_tables as the expressions that the kernel runs (linux/netfilter/nf_tables.h).

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Meta, MetaKey, Operator, Payload, Register,
};
use seedwire_core::config::Protocol;
use seedwire_core::netstate::{Action, Family, Match, NftRule, Side};
use seedwire_core::types::Prefix;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const PAYLOAD_NETWORK_HEADER: u32 = 1;
const PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const TCP_FLAGS_OFFSET: u32 = 13;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
/// The destination of the flow is translated (`IPS_DST_NAT`).
const CT_STATUS_DNAT: u32 = 1 << 5;

/// The expressions of a rule, in the order in which they run.
pub(super) fn expressions(rule: &NftRule) -> Vec<Expressions> {
    let mut expressions: Vec<Expressions> = rule.matches.iter().flat_map(one_match).collect();
    expressions.extend(action(&rule.action));
    expressions
}

fn one_match(one: &Match) -> Vec<Expressions> {
    match one {
        Match::InputLink { name, is } => link(MetaKey::Iifname, name, *is),
        Match::OutputLink { name, is } => link(MetaKey::Oifname, name, *is),
        Match::Family(family) => {
            let family = match family {
                Family::V4 => NFPROTO_IPV4,
                Family::V6 => NFPROTO_IPV6,
            };
            vec![meta(MetaKey::Nfproto), compare(true, vec![family])]
        }
        Match::Address { side, prefix, is } => address(*side, prefix, *is),
        Match::Protocol(protocol) => {
            let protocol = match protocol {
                Protocol::Tcp => libc::IPPROTO_TCP,
                Protocol::Udp => libc::IPPROTO_UDP,
            };
            let protocol = u8::try_from(protocol).unwrap_or_default();
            vec![meta(MetaKey::L4Proto), compare(true, vec![protocol])]
        }
        Match::DestinationPort(port) => vec![
            payload(PAYLOAD_TRANSPORT_HEADER, 2, 2),
            compare(true, port.to_be_bytes().to_vec()),
        ],
        Match::Syn => vec![
            payload(PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET, 1),
            bitwise(vec![TCP_SYN | TCP_RST], vec![0]),
            compare(true, vec![TCP_SYN]),
        ],
        Match::Translated => vec![
            ct(CT_STATUS),
            keep_bits(CT_STATUS_DNAT),
            compare(false, vec![0; 4]),
        ],
        Match::Mark(mark) => vec![
            meta(MetaKey::Mark),
            keep_bits(*mark),
            compare(true, mark.to_ne_bytes().to_vec()),
        ],
        Match::FlowMark(mark) => vec![
            ct(CT_MARK),
            keep_bits(*mark),
            compare(true, mark.to_ne_bytes().to_vec()),
        ],
    }
}

fn action(action: &Action) -> Vec<Expressions> {
    match action {
        Action::Dnat(to) => dnat(*to),
        Action::Masquerade => vec![other("masq", Vec::new())],
        Action::ClampMss(size) => clamp_mss(*size),
        Action::SetMark(mark) => vec![
            meta(MetaKey::Mark),
            set_bits(*mark),
            Expressions::Meta(vec![
                Meta::Key(MetaKey::Mark),
                Meta::SourceRegister(Register::Reg1),
            ]),
        ],
        Action::SetFlowMark(mark) => vec![ct(CT_MARK), set_bits(*mark), set_ct(CT_MARK)],
    }
}

fn link(key: MetaKey, name: &str, is: bool) -> Vec<Expressions> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(libc::IFNAMSIZ, 0);
    vec![meta(key), compare(is, padded)]
}

fn address(side: Side, prefix: &Prefix, is: bool) -> Vec<Expressions> {
    let offset = match (side, Family::of(prefix.address())) {
        (Side::Source, Family::V4) => 12,
        (Side::Destination, Family::V4) => 16,
        (Side::Source, Family::V6) => 8,
        (Side::Destination, Family::V6) => 24,
    };
    let octets = octets(prefix.address());
    let mask: Vec<u8> = (0..octets.len())
        .map(|byte| {
            let bits = usize::from(prefix.length()).saturating_sub(byte * 8).min(8);
            u8::try_from(0xff00_u32 >> bits & 0xff).unwrap_or_default()
        })
        .collect();
    let length = u32::try_from(octets.len()).unwrap_or_default();
    let mut expressions = vec![payload(PAYLOAD_NETWORK_HEADER, offset, length)];
    if mask.contains(&0) || mask.iter().any(|byte| *byte != 0xff) {
        expressions.push(bitwise(mask, vec![0; octets.len()]));
    }
    expressions.push(compare(is, octets));
    expressions
}

fn dnat(to: SocketAddr) -> Vec<Expressions> {
    const NFTA_NAT_TYPE: u16 = 1;
    const NFTA_NAT_FAMILY: u16 = 2;
    const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
    const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
    const NFT_NAT_DNAT: u32 = 1;
    let family = if to.is_ipv4() {
        NFPROTO_IPV4
    } else {
        NFPROTO_IPV6
    };
    vec![
        load(Register::Reg1, octets(to.ip())),
        load(Register::Reg2, to.port().to_be_bytes().to_vec()),
        other(
            "nat",
            vec![
                number(NFTA_NAT_TYPE, NFT_NAT_DNAT),
                number(NFTA_NAT_FAMILY, family.into()),
                number(NFTA_NAT_REG_ADDR_MIN, Register::Reg1.into()),
                number(NFTA_NAT_REG_PROTO_MIN, Register::Reg2.into()),
            ],
        ),
    ]
}

fn clamp_mss(size: u16) -> Vec<Expressions> {
    const NFTA_EXTHDR_TYPE: u16 = 2;
    const NFTA_EXTHDR_OFFSET: u16 = 3;
    const NFTA_EXTHDR_LEN: u16 = 4;
    const NFTA_EXTHDR_OP: u16 = 6;
    const NFTA_EXTHDR_SREG: u16 = 7;
    const NFT_EXTHDR_OP_TCPOPT: u32 = 1;
    const TCPOPT_MAXSEG: u8 = 2;
    vec![
        load(Register::Reg1, size.to_be_bytes().to_vec()),
        other(
            "exthdr",
            vec![
                DefaultNla::new(NFTA_EXTHDR_TYPE, vec![TCPOPT_MAXSEG]),
                number(NFTA_EXTHDR_OFFSET, 2),
                number(NFTA_EXTHDR_LEN, 2),
                number(NFTA_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT),
                number(NFTA_EXTHDR_SREG, Register::Reg1.into()),
            ],
        ),
    ]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![
        Meta::Key(key),
        Meta::DestinationRegister(Register::Reg1),
    ])
}

fn payload(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn compare(equal: bool, value: Vec<u8>) -> Expressions {
    let operator = if equal {
        Operator::Equal
    } else {
        Operator::NotEqual
    };
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

/// `(register & mask) ^ xor`.
fn bitwise(mask: Vec<u8>, xor: Vec<u8>) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(u32::try_from(mask.len()).unwrap_or_default()),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(xor)),
    ])
}

fn keep_bits(bits: u32) -> Expressions {
    bitwise(bits.to_ne_bytes().to_vec(), vec![0; 4])
}

fn set_bits(bits: u32) -> Expressions {
    bitwise((!bits).to_ne_bytes().to_vec(), bits.to_ne_bytes().to_vec())
}

fn load(register: Register, value: Vec<u8>) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(DataAttribute::Value(value)),
    ])
}

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_SREG: u16 = 4;

fn ct(key: u32) -> Expressions {
    let register = number(NFTA_CT_DREG, Register::Reg1.into());
    other("ct", vec![register, number(NFTA_CT_KEY, key)])
}

fn set_ct(key: u32) -> Expressions {
    let register = number(NFTA_CT_SREG, Register::Reg1.into());
    other("ct", vec![register, number(NFTA_CT_KEY, key)])
}

fn other(name: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes,
    }
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
