//! Wiring: builds an instance from its configuration, runs it, and takes it down again.
