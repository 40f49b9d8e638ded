//! Black-box tests of the seedwire command that need no privileges.

mod bad_configurations;
mod commands;
mod control;
mod corpus;
mod demo;
mod deploy;
mod dns;
mod examples;
mod inject;
mod instance;
mod keys;
mod lock;
mod ports;
mod run;
mod rust_version;
mod secrets;
mod watch;
