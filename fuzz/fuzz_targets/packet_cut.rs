#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| seedwire_fuzz::packet_cut(data));
