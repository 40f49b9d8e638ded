//! The pure half of the network state: what is desired, and the steps that lead there.

mod object;

pub use object::{Address, Family, Link, MAIN_TABLE, Route, RouteKind, Rule};
