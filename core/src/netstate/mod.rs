//! The pure half of the network state: what is desired, and the steps that lead there.
//!
//! [`desired`] says what a configuration wants, [`plan`] compares it with what was [`Observed`] and
//! gives the [`Step`]s in order, or a [`Conflict`] with what belongs to someone else. [`Contests`] says
//! which of them may run now where others keep taking them back.

mod desired;
mod instance;
mod nft;
mod object;
mod observed;
mod plan;
mod repair;
mod step;

pub use desired::{Desired, DesiredRoute, Facts, desired};
pub use instance::{Instance, LINK_ALIAS, PROTOCOL};
pub use nft::{Action, Chain, ChainKind, Hook, Match, NftRule, Side, Table};
pub use object::{
    Address, Family, Link, MAIN_TABLE, NO_ADDRESS_GENERATION, Route, RouteKind, Rule,
};
pub use observed::{Observed, ObservedTable, sysctl};
pub use plan::{Conflict, Plan, plan, plan_around};
pub use repair::{Contests, Held};
pub use step::{LinkProperty, Object, Step};
