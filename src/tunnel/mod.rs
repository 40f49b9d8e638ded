//! The WireGuard tunnel.
