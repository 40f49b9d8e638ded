//! What comes from a WireGuard peer, counted where it comes in, before any filter.

use serde_json::Value;

use super::Host;

/// Counters of a host for what comes to UDP port 51820 from now on. A message is known by its
/// length; 8 bytes are the UDP header.
pub struct Calls<'a>(&'a Host);

impl<'a> Calls<'a> {
    /// Counts from zero; counters that were there begin again.
    pub fn count(host: &'a Host) -> Self {
        host.nft(
            "table inet calls
             delete table inet calls
             table inet calls {
               counter initiations {}
               counter keepalives {}
               chain c {
                 type filter hook prerouting priority -310
                 udp dport 51820 udp length 156 counter name initiations
                 udp dport 51820 udp length 40 counter name keepalives
               }
             }",
        );
        Self(host)
    }

    /// Handshake initiations.
    pub fn initiations(&self) -> u64 {
        self.read("initiations")
    }

    /// Empty packets.
    pub fn keepalives(&self) -> u64 {
        self.read("keepalives")
    }

    fn read(&self, name: &str) -> u64 {
        let listed = self
            .0
            .run(&format!("nft -j list counter inet calls {name}"));
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let items = listed["nftables"].as_array().expect("a list");
        let count = items
            .iter()
            .find_map(|item| item["counter"]["packets"].as_u64());
        count.expect("a counter")
    }
}
