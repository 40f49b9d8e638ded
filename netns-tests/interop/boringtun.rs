//! boringtun-cli on the other end.

use crate::harness::wireguard::Program::Boringtun;
use crate::scenarios::tunnel::{self, Outer};
use crate::scenarios::uapi;

pub fn is_called_over_ipv4() {
    tunnel::seedwire_calls(Boringtun, Outer::V4);
}

pub fn is_called_over_ipv6() {
    tunnel::seedwire_calls(Boringtun, Outer::V6);
}

pub fn calls_over_ipv4() {
    tunnel::seedwire_is_called(Boringtun, Outer::V4);
}

pub fn calls_over_ipv6() {
    tunnel::seedwire_is_called(Boringtun, Outer::V6);
}

pub fn another_preshared_key_is_refused() {
    tunnel::another_preshared_key_is_refused(Boringtun);
}

pub fn reaches_a_bare_device() {
    uapi::device_reaches(Boringtun);
}
