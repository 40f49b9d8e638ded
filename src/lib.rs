//! seedwire carries a cluster's logs and metrics to a Loki in the seed: a WireGuard tunnel, the
//! seed's routes and DNAT rules, and DNS, in one daemon.
//!
//! This crate does the input and output; what decides is in [`seedwire_core`]. The adapters
//! (`config`, `tunnel`, `netlink` with `netstate`, `dns`, `ports`, `control`) know nothing of each
//! other and meet in `app`.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod dns;
mod listen;
pub mod netlink;
pub mod netstate;
pub mod ports;
pub mod resolve;
pub mod tunnel;
