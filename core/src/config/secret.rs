//! Values that come from outside of the configuration: secrets, and lists in files.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::hide;
use super::read::{At, Leaf, Place, Reader, Written, is_variable};
use super::surroundings::FileContent;
use super::yaml::{Node, Value};
use crate::types::{InterfaceAddress, InvalidKey};

/// A key that an environment variable holds; the configuration has the reference alone.
pub(super) struct FromEnvironment<K>(pub(super) K);

impl<K: FromStr<Err = InvalidKey>> Written for FromEnvironment<K> {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let variable = match &node.value {
            Value::Scalar(raw) => raw.strip_prefix("${").and_then(|r| r.strip_suffix('}')),
            _ => None,
        };
        let Some(name) = variable.filter(|name| is_variable(name)) else {
            let key = place.path.rsplit('.').next().unwrap_or_default();
            let expected = format!(
                "a reference ${{NAME}} to the environment, or a path under {key}File: a secret is \
                 not written into the configuration"
            );
            reader.reject(place, expected);
            return None;
        };
        let text = reader.variable(name, place)?;
        let key = text.trim().parse().map(Self);
        key.map_err(|error: InvalidKey| {
            let name = hide::name(name);
            reader.reject(
                place,
                format!("the environment variable {name} to hold {error}"),
            );
        })
        .ok()
    }
}

/// A key that a file holds.
pub(super) struct FromFile<K>(pub(super) K);

impl<K: FromStr<Err = InvalidKey>> Written for FromFile<K> {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let file = read_file(node, place, reader)?;
        if file.access.readable_by_others() {
            let mode = file.access.mode;
            let why = format!("a file that others can't read; it has mode {mode:04o}");
            reader.readable.push((place.clone(), why));
        }
        let key = std::str::from_utf8(&file.content).ok();
        let key = key.and_then(|text| text.trim().parse().ok()).map(Self);
        if key.is_none() {
            reader.reject(place, format!("a file that holds {InvalidKey}"));
        }
        key
    }
}

/// The addresses that a file holds, with white space or commas between them and `#` before
/// comments.
pub(super) struct AddressList(pub(super) Vec<At<InterfaceAddress>>);

impl Written for AddressList {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let file = read_file(node, place, reader)?;
        let Ok(text) = std::str::from_utf8(&file.content) else {
            reader.reject(place, "a file in UTF-8");
            return None;
        };
        let words = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|word| !word.is_empty());
        let mut addresses = Vec::new();
        for word in words {
            let mut place = place.clone();
            place.found = format!("{} holds {}", place.found, hide::value("", word));
            match InterfaceAddress::parse(word) {
                Ok(value) => addresses.push(At { value, place }),
                Err(expected) => reader.reject(&place, expected),
            }
        }
        Some(Self(addresses))
    }
}

/// The certificates that a file holds, in PEM (RFC 7468).
pub(super) struct Certificates(pub(super) Arc<[u8]>);

impl Written for Certificates {
    fn read(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
        let file = read_file(node, place, reader)?;
        let mut windows = file.content.windows(BEGIN.len());
        if !windows.any(|window| window == BEGIN) {
            reader.reject(place, "a file with certificates in PEM");
            return None;
        }
        Some(Self(file.content.as_slice().into()))
    }
}

fn read_file(node: &Node, place: &Place, reader: &mut Reader<'_>) -> Option<FileContent> {
    let path = match &node.value {
        Value::Scalar(raw) => reader.expand(raw, place)?,
        _ => Zeroizing::default(),
    };
    if !path.starts_with('/') || path.contains('\0') {
        reader.reject(place, "the absolute path of a file");
        return None;
    }
    let path = PathBuf::from(path.as_str());
    reader.files.push(path.clone());
    match reader.surroundings.read(&path) {
        Ok(content) => Some(content),
        Err(error) => {
            let mut place = place.clone();
            if raw_has_reference(node) && !hide::looks_like_key(&path.to_string_lossy()) {
                place.found = format!("{}, which is {path:?}", place.found);
            }
            reader.reject(&place, format!("a file that can be read: {error}"));
            None
        }
    }
}

fn raw_has_reference(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar(raw) if raw.contains("${"))
}
