//! Wiring: builds an instance from its configuration, runs it, and takes it down again.

pub mod lock;
pub mod logging;
pub mod privileges;
