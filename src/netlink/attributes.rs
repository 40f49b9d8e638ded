//! Reading the attributes of a message (`struct nlattr`).

use std::net::IpAddr;

use netlink_packet_core::NlasIterator;

/// The attributes in `bytes` as type and value, up to the first malformed one.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes)
        .map_while(Result::ok)
        .map(|attribute| {
            let length = usize::from(attribute.length());
            (attribute.kind(), &attribute.into_inner()[4..length])
        })
}

/// The value of the first attribute of this type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

pub(super) fn u8_of(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

pub(super) fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A text that ends at its first zero byte.
pub(super) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// An IPv4 or IPv6 address, by its length.
pub(super) fn address_of(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        Some(IpAddr::from(octets))
    } else {
        <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
    }
}
