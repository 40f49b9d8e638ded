//! Black-box tests of the seedwire command that need no privileges.

mod bad_configurations;
mod commands;
mod demo;
mod examples;
mod keys;
mod run;
