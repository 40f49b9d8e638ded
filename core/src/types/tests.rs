use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn name(text: &str) -> DnsName {
    text.parse().expect("a name")
}

#[test]
fn a_prefix_has_no_host_bits_and_an_interface_address_keeps_them() {
    assert_eq!(prefix("10.88.3.7/16").to_string(), "10.88.0.0/16");
    assert_eq!(prefix("fd88::7/64").to_string(), "fd88::/64");
    let address: InterfaceAddress = "10.88.3.7/16".parse().expect("an address");
    assert_eq!(address.to_string(), "10.88.3.7/16");
    assert_eq!(address.prefix(), prefix("10.88.0.0/16"));
}

#[test]
fn an_address_alone_is_a_host_prefix() {
    assert_eq!(prefix("10.88.0.1").to_string(), "10.88.0.1/32");
    assert_eq!(prefix("fd88::1").to_string(), "fd88::1/128");
}

#[test]
fn what_is_no_prefix_is_rejected() {
    for text in [
        "",
        "/",
        "10.0.0.0/",
        "10.0.0.0/33",
        "fd88::/129",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/+8",
        "10.0.0/8",
        "host/8",
        "10.0.0.0/8/8",
    ] {
        assert_eq!(text.parse::<Prefix>(), Err(InvalidPrefix), "{text}");
        assert!(text.parse::<InterfaceAddress>().is_err(), "{text}");
    }
}

#[test]
fn a_prefix_covers_the_longer_ones_of_its_family() {
    assert!(prefix("10.0.0.0/8").covers(&prefix("10.1.0.0/16")));
    assert!(prefix("10.0.0.0/8").covers(&prefix("10.0.0.0/8")));
    assert!(!prefix("10.1.0.0/16").covers(&prefix("10.0.0.0/8")));
    assert!(!prefix("0.0.0.0/0").covers(&prefix("fd88::/64")));
    assert!(prefix("::/0").covers(&prefix("fd88::/64")));
    assert!(prefix("0.0.0.0/0").is_default() && !prefix("10.0.0.0/8").is_default());
}

#[test]
fn an_interface_name_is_what_the_kernel_takes() {
    for text in ["a", "seed0", "fifteen-bytes-x", "ä", "a.b"] {
        let parsed: InterfaceName = text.parse().expect("a name");
        assert_eq!(parsed.to_string(), text);
    }
    for text in [
        "",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\tb",
        "sixteen-bytes-xx",
    ] {
        assert_eq!(text.parse::<InterfaceName>(), Err(InvalidInterfaceName));
    }
}

#[test]
fn a_dns_name_is_absolute_and_in_lower_case() {
    assert_eq!(name("Loki.Example.COM."), name("loki.example.com"));
    assert_eq!(name("Loki.Example.COM.").to_string(), "loki.example.com");
    assert!(name(".").is_root());
    assert_eq!(name(".").to_string(), ".");
    let long = "a".repeat(64);
    let deep = "a.".repeat(127) + "a";
    for text in ["", "..", "a..b", ".a", "a b", "ä.example", &long, &deep] {
        assert_eq!(text.parse::<DnsName>(), Err(InvalidDnsName), "{text}");
    }
    assert_eq!(
        "a.".repeat(127)
            .parse::<DnsName>()
            .map(|n| n.as_str().len()),
        Ok(253)
    );
}

#[test]
fn a_zone_covers_whole_labels_only() {
    assert!(name("example.com").covers(&name("loki.example.com")));
    assert!(name("example.com").covers(&name("example.com")));
    assert!(name(".").covers(&name("example.com")));
    assert!(!name("example.com").covers(&name("anexample.com")));
    assert!(!name("loki.example.com").covers(&name("example.com")));
}

#[test]
fn an_endpoint_is_an_address_or_a_name_with_a_port() {
    for text in [
        "192.0.2.1:51820",
        "[2001:db8::1]:51820",
        "hub.example.com:1",
    ] {
        let endpoint: Endpoint = text.parse().expect("an endpoint");
        assert_eq!(endpoint.to_string(), text);
        let by_name = matches!(endpoint.host, Host::Name(_));
        assert_eq!(endpoint.socket_address().is_none(), by_name);
    }
    for text in [
        "",
        ":1",
        "hub",
        "hub:0",
        "hub:65536",
        "hub:",
        "hub:+1",
        ".:1",
        "192.0.2.300:1",
        "192.0.2:1",
        "2001:db8::1:1",
        "[2001:db8::1]",
        "a b:1",
    ] {
        assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint), "{text}");
    }
}

#[test]
fn a_key_is_44_characters_and_secret_ones_are_not_printed() {
    let text = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    let public: PublicKey = text.parse().expect("a key");
    assert_eq!(public.to_string(), text);
    let private: PrivateKey = text.parse().expect("a key");
    let psk: PresharedKey = text.parse().expect("a key");
    assert_eq!(private.reveal().as_str(), text);
    assert_eq!(psk.reveal().as_str(), text);
    let printed = format!("{private:?}{psk:?}");
    assert_eq!(printed, "PrivateKey(..)PresharedKey(..)");
    let short = &text[1..];
    let bits_left = text.replace("k=", "l=");
    let long = format!("{text}\n");
    let no_base64 = text.replace('+', "-");
    for text in ["", short, &bits_left, &long, &no_base64] {
        assert_eq!(text.parse::<PublicKey>(), Err(InvalidKey), "{text}");
    }
}

proptest! {
    #[test]
    fn a_prefix_is_what_it_is_written_as(address: IpAddr, length in 0..=128_u8) {
        if let Some(prefix) = Prefix::of(address, length) {
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            prop_assert!(prefix.contains(address));
            prop_assert!(prefix.covers(&Prefix::host(address)));
        } else {
            prop_assert!(address.is_ipv4() && length > 32);
        }
    }

    #[test]
    fn a_key_is_what_it_is_written_as(bytes: [u8; 32]) {
        let key = PublicKey::from_bytes(bytes);
        prop_assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn no_text_makes_a_type_panic(text in ".{0,60}") {
        let _ = text.parse::<Prefix>();
        let _ = text.parse::<InterfaceAddress>();
        let _ = text.parse::<DnsName>();
        let _ = text.parse::<InterfaceName>();
        let _ = text.parse::<PrivateKey>();
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }
}
