//! The DNS forwarder's sockets.
