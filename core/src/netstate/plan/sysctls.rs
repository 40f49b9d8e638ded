use crate::types::InterfaceAddress;

use super::{Conflict, Planner};
use crate::netstate::{Family, Rule, Step, sysctl};

impl Planner<'_> {
    pub(super) fn sysctls(&self) -> Result<Vec<Step>, Conflict> {
        let mut steps = Vec::new();
        if self.desired.forward.contains(&Family::V4) {
            let purpose = "to forward IPv4 (network.forward)";
            steps.extend(self.sysctl(sysctl::IPV4_FORWARD, "1", purpose)?);
            let of_link = sysctl::ipv4_forwarding(self.interface);
            // The global switch above sets it as well.
            if steps.is_empty() {
                steps.extend(self.sysctl(&of_link, "1", purpose)?);
            }
        }
        if self.desired.forward.contains(&Family::V6) {
            steps.extend(self.ipv6_forward()?);
        }
        let is_ipv6 = |a: &InterfaceAddress| a.address().is_ipv6();
        if self.desired.addresses.iter().any(is_ipv6) {
            let purpose = "so that the tunnel link takes its IPv6 address";
            steps.extend(self.sysctl(&sysctl::disable_ipv6(self.interface), "0", purpose)?);
        }
        let private_ipv4 = |rule: &Rule| rule.family == Family::V4;
        if self.desired.rules.iter().any(private_ipv4) && self.filters_strictly() {
            let purpose =
                "so that the strict rp_filter lets replies to the tunnel's marked packets in";
            steps.extend(self.sysctl(sysctl::SRC_VALID_MARK, "1", purpose)?);
        }
        Ok(steps)
    }

    /// Forwarding of IPv6, and router advertisements where they are taken now: a link that
    /// forwards takes them only with `accept_ra` 2, and the host would lose its default route.
    fn ipv6_forward(&self) -> Result<Vec<Step>, Conflict> {
        let purpose = "to forward IPv6 (network.forward)";
        let forward = self.sysctl(sysctl::IPV6_FORWARD, "1", purpose)?;
        let mut steps = Vec::new();
        if forward.is_some() {
            let others = self.observed.links.iter().filter(|link| {
                let accept = self.observed.sysctls.get(&sysctl::accept_ra(&link.name));
                link.name != "lo" && link.name != self.interface && accept.is_some_and(|v| v == "1")
            });
            for link in others {
                let purpose = "to keep taking router advertisements while forwarding IPv6";
                steps.extend(self.sysctl(&sysctl::accept_ra(&link.name), "2", purpose)?);
            }
        }
        steps.extend(forward);
        Ok(steps)
    }

    /// Whether a link that the tunnel's packets may come in by filters by the reverse path.
    fn filters_strictly(&self) -> bool {
        let value = |name: &str| {
            let value = self.observed.sysctls.get(&sysctl::rp_filter(name));
            value.map_or("0", String::as_str)
        };
        let others = self
            .observed
            .links
            .iter()
            .filter(|link| link.name != "lo" && link.name != self.interface);
        others
            .map(|link| value(&link.name).max(value("all")))
            .any(|effective| effective == "1")
    }

    fn sysctl(
        &self,
        path: &str,
        wanted: &str,
        purpose: &'static str,
    ) -> Result<Option<Step>, Conflict> {
        // What the kernel lacks is off and can't be switched on, as IPv6 where it is disabled.
        let Some(value) = self.observed.sysctls.get(path) else {
            return Ok(None);
        };
        if value == wanted {
            return Ok(None);
        }
        if !self.observed.sysctls_writable {
            return Err(Conflict::ReadOnlySysctl {
                name: sysctl::name(path),
                value: value.clone(),
                wanted: wanted.to_owned(),
                purpose,
            });
        }
        Ok(Some(Step::Sysctl {
            path: path.to_owned(),
            from: value.clone(),
            to: wanted.to_owned(),
        }))
    }
}
