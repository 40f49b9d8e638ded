//! The pure half of seedwire: what decides, without input or output.
//!
//! Nothing here opens a socket, reads a file, looks at the environment, a clock or a source of
//! randomness: the time and random bytes are arguments. The other half, the `seedwire` crate,
//! does the input and output that this one asks for.
#![forbid(unsafe_code)]

pub mod config;
pub mod dns;
pub mod inject;
pub mod netstate;
pub mod tunnel;
pub mod types;
