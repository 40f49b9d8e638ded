//! Black-box tests of the seedwire command that need no privileges.

mod demo;
