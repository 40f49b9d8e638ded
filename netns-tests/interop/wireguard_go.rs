//! wireguard-go on the other end.

use crate::harness::wireguard::Program::WireguardGo;
use crate::scenarios::tunnel::{self, Outer};
use crate::scenarios::uapi;

pub fn is_called_over_ipv4() {
    tunnel::seedwire_calls(WireguardGo, Outer::V4);
}

pub fn is_called_over_ipv6() {
    tunnel::seedwire_calls(WireguardGo, Outer::V6);
}

pub fn calls_over_ipv4() {
    tunnel::seedwire_is_called(WireguardGo, Outer::V4);
}

pub fn calls_over_ipv6() {
    tunnel::seedwire_is_called(WireguardGo, Outer::V6);
}

pub fn another_preshared_key_is_refused() {
    tunnel::another_preshared_key_is_refused(WireguardGo);
}

pub fn reaches_a_bare_device() {
    uapi::device_reaches(WireguardGo);
}
