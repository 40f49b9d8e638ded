//! The configuration: as written, and as meant.
//!
//! The rest of the program only sees [`Config`], the configuration as meant.

mod model;

pub use model::*;
