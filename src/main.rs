//! The seedwire command.

fn main() {}
