use std::fmt;
use std::str::FromStr;

/// The text is not a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a DNS name of at most 253 characters, in labels of 1 to 63 letters, digits, - or _")]
pub struct InvalidDnsName;

/// An absolute DNS name in lower case, without the last dot; the root is empty (RFC 1035, 2.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(String);

impl DnsName {
    /// The name without its last dot; the root is the empty text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the root, `.`.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` is this name or lies below it.
    pub fn covers(&self, other: &DnsName) -> bool {
        self.is_root()
            || other
                .0
                .strip_suffix(&self.0)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for DnsName {
    type Err = InvalidDnsName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "." {
            return Ok(Self(String::new()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_is_valid = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() <= 253 && name.split('.').all(label_is_valid) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(InvalidDnsName)
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.0 })
    }
}
