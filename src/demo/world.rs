//! The machines of the demo and the cables between them.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use seedwire_core::config::Backend;
use seedwire_core::netstate::{
    Action, Address, Chain, ChainKind, Hook, Link, MAIN_TABLE, Match, NftRule, Route, RouteKind,
    Table,
};
use seedwire_core::types::{InterfaceAddress, Prefix};

use super::netns::Netns;
use super::refusal::{self, Refusal, Step};
use super::sandbox;
use crate::netlink::{self, LinkChange, Namespace, NewLink, Nft, Rtnl, sysctl};
use crate::tunnel::{Device, DeviceOptions, Offload, TunnelError, Uapi};

/// The pod of the log agent, in the user cluster.
pub(super) const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 7);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
/// Where the node's DNS cache listens, as node-local-dns does.
pub(super) const NODE_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
const NODE_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const INTERNET_USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const INTERNET_SEED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The public address of the hub.
pub(super) const HUB: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const HUB_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 240, 16, 1);
/// The control plane's DNS.
pub(super) const SEED_DNS: Ipv4Addr = Ipv4Addr::new(10, 240, 16, 10);
/// Loki itself.
pub(super) const LOKI: Ipv4Addr = Ipv4Addr::new(10, 240, 20, 5);
/// The address of the hub in the tunnel.
pub(super) const TUNNEL_HUB: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The address of the pod in the tunnel.
pub(super) const TUNNEL_POD: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);

/// The namespaces, from the log agent to Loki. The internet knows no way into the pod's network,
/// which is behind NAT, nor into the seed's.
pub(super) struct World {
    /// The log agent and seedwire beside it.
    pub(super) pod: Netns,
    /// The node of the user cluster: the pod's way out, and the node's DNS cache.
    pub(super) node: Netns,
    /// A router.
    pub(super) internet: Netns,
    /// The seed's end of the tunnel.
    pub(super) hub: Netns,
    /// The seed's network: the control plane's DNS, and Loki.
    pub(super) seed: Netns,
}

impl World {
    /// Makes the namespaces and joins them. The files of the demo are in `files`.
    pub(super) fn new(files: &Path) -> Result<Self> {
        let world = Self {
            pod: Netns::new("pod")?,
            node: Netns::new("node")?,
            internet: Netns::new("internet")?,
            hub: Netns::new("hub")?,
            seed: Netns::new("seed")?,
        };
        in_namespace(&world.pod, probe)?;
        world.join()?;
        world.lead()?;
        let files = files.to_owned();
        world
            .pod
            .run(move || sandbox::replace_resolv_conf("nameserver 127.0.0.1\n", &files))?;
        Ok(world)
    }

    /// All of them, from the log agent to Loki.
    pub(super) fn all(&self) -> [&Netns; 5] {
        [&self.pod, &self.node, &self.internet, &self.hub, &self.seed]
    }

    fn join(&self) -> Result<()> {
        let Self {
            pod,
            node,
            internet,
            hub,
            seed,
        } = self;
        connect((pod, "eth0", POD, 24), (node, "pods", NODE, 24))?;
        let out = (node, "eth0", NODE_OUTSIDE, 24);
        connect(out, (internet, "users", INTERNET_USER, 24))?;
        connect(
            (hub, "eth0", HUB, 24),
            (internet, "seed", INTERNET_SEED, 24),
        )?;
        connect((seed, "eth0", SEED_DNS, 20), (hub, "eth1", HUB_INSIDE, 20))?;
        in_namespace(seed, |rtnl| add_address(rtnl, "eth0", LOKI, 20))?;
        in_namespace(node, |rtnl| add_address(rtnl, "lo", NODE_DNS, 32))
    }

    fn lead(&self) -> Result<()> {
        let everywhere = (Ipv4Addr::UNSPECIFIED, 0);
        for (namespace, to, gateway) in [
            (&self.pod, everywhere, NODE),
            (&self.node, everywhere, INTERNET_USER),
            (&self.hub, everywhere, INTERNET_SEED),
            (&self.seed, (TUNNEL_HUB, 24), HUB_INSIDE),
        ] {
            in_namespace(namespace, move |rtnl| add_route(rtnl, to, gateway))?;
        }
        for router in [&self.node, &self.internet] {
            router.run(|| Ok(sysctl::write("net/ipv4/ip_forward", "1")?))?;
        }
        self.node
            .run(|| Ok(Nft::open()?.set_table(&masquerade("eth0"))?))
    }
}

/// Hides the network behind the address of this link, as the node of a user cluster does.
fn masquerade(link: &str) -> Table {
    let leaves = Match::OutputLink {
        name: link.to_owned(),
        is: true,
    };
    let rule = NftRule {
        matches: vec![leaves],
        action: Action::Masquerade,
    };
    Table {
        name: "node".to_owned(),
        chains: vec![Chain {
            name: "postrouting",
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: 100,
            rules: vec![rule],
        }],
    }
}

/// Brings up a tunnel's link and takes it away again: some kernels make namespaces for everyone
/// and refuse only what is done in them.
fn probe(rtnl: &mut Rtnl) -> Result<()> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|error| refusal::of(Step::OpenTun, refusal::errno(&error)))?;
    let name = "probe0";
    let options = DeviceOptions {
        interface: name.parse()?,
        mtu: 1420,
        uapi: Uapi::Off,
        backend: Backend::Userspace,
        offload: Offload::Auto,
    };
    let device = Device::create(options).map_err(|error| {
        let errno = match &error {
            TunnelError::Create { source, .. } => source.raw_os_error(),
            _ => None,
        };
        refusal::if_forbidden(errno).map_or_else(|| error.into(), anyhow::Error::from)
    })?;
    set_up(rtnl, name)?;
    device.stop();
    Ok(())
}

/// A plug: where it is, its name, its address and the length of its network.
type Plug<'a> = (&'a Netns, &'static str, Ipv4Addr, u8);

fn connect(a: Plug<'_>, b: Plug<'_>) -> Result<()> {
    let other = b.0.file().context("failed to share a namespace")?;
    in_namespace(a.0, move |rtnl| {
        Ok(rtnl.create_link(NewLink::Veth {
            name: a.1,
            peer: b.1,
            peer_namespace: Some(Namespace::File(other.as_fd())),
        })?)
    })?;
    for (namespace, name, address, length) in [a, b] {
        in_namespace(namespace, move |rtnl| {
            set_up(rtnl, "lo")?;
            add_address(rtnl, name, address, length)?;
            set_up(rtnl, name)
        })?;
    }
    Ok(())
}

/// Changes the network of a namespace over netlink.
pub(super) fn in_namespace<T: Send + 'static>(
    namespace: &Netns,
    change: impl FnOnce(&mut Rtnl) -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = namespace.run(move || change(&mut Rtnl::open()?));
    done.map_err(|error| {
        if error.is::<Refusal>() {
            return error;
        }
        let errno = error.downcast_ref().and_then(netlink::Error::errno);
        refusal::if_forbidden(errno).map_or_else(
            || error.context(format!("failed to prepare the {}", namespace.name())),
            anyhow::Error::from,
        )
    })
}

/// The link of this name, which must be there.
fn link(rtnl: &mut Rtnl, name: &str) -> Result<Link> {
    rtnl.link(name)?
        .with_context(|| format!("there is no link {name}"))
}

fn set_up(rtnl: &mut Rtnl, name: &str) -> Result<()> {
    let index = link(rtnl, name)?.index;
    Ok(rtnl.change_link(index, LinkChange::Up(true))?)
}

fn add_address(rtnl: &mut Rtnl, name: &str, address: Ipv4Addr, length: u8) -> Result<()> {
    let address = Address {
        link: link(rtnl, name)?.index,
        address: InterfaceAddress::new(address.into(), length).context("not an address")?,
        protocol: 0,
        metric: 0,
    };
    Ok(rtnl.add_address(&address)?)
}

fn add_route(rtnl: &mut Rtnl, to: (Ipv4Addr, u8), gateway: Ipv4Addr) -> Result<()> {
    let route = Route {
        table: MAIN_TABLE,
        to: Prefix::of(to.0.into(), to.1).context("not a prefix")?,
        metric: 0,
        kind: RouteKind::Unicast,
        protocol: libc::RTPROT_STATIC,
        link: None,
        gateway: Some(gateway.into()),
        mtu: None,
    };
    Ok(rtnl.add_route(&route)?)
}
