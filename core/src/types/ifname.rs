use std::fmt;
use std::str::FromStr;

/// The name of a network interface: 1 to 15 bytes, neither `.` nor `..`, without `/`, `:` and
/// white space (`dev_valid_name` in the kernel's net/core/dev.c).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// The text is not a valid interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interface name of 1 to 15 bytes, neither . nor .., without /, : and white space")]
pub struct InvalidInterfaceName;

impl InterfaceName {
    /// The name as the kernel knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let forbidden = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
        let valid = (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.chars().any(forbidden);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidInterfaceName)
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
