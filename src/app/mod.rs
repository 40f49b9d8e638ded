//! Wiring: builds an instance from its configuration, runs it, and takes it down again.

mod down;
mod facts;
mod heal;
mod in_force;
mod instance;
mod lifecycle;
pub mod lock;
pub mod logging;
mod plan;
pub mod privileges;
mod reload;
mod resolvers;
mod scope;
mod state;

pub use down::{Removed, down};
pub use lifecycle::run;
pub use plan::plan;
