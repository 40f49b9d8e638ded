//! The pure half of the DNS forwarder.
