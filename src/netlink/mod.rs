//! Netlink: requests to the kernel's network configuration.
