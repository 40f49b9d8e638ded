use std::collections::BTreeMap;
use std::net::IpAddr;

use seedwire_core::netstate::{
    Instance, Link, LinkProperty, Observed, ObservedTable, Route, Step, sysctl as setting,
};

use crate::netlink::{Error, LinkChange, Nft, Rtnl, sysctl};

/// Linux 5.18 keeps the protocol of an address.
const ADDRESS_PROTOCOLS_SINCE: (u32, u32) = (5, 18);

/// Where the network state lives.
pub trait Kernel {
    /// The state, whole or an error.
    fn observe(&mut self, instance: &Instance) -> Result<Observed, Error>;

    /// The nf_tables table of the instance alone.
    fn table(&mut self, instance: &Instance) -> Result<Option<ObservedTable>, Error>;

    /// Runs steps that go together: one, or several that add routes, or several that delete
    /// routes. The answer to each stands in its place; after an error of the way to the kernel
    /// answers may be missing. Deleting what is not there is no error.
    fn run(&mut self, steps: &[Step]) -> Vec<Result<(), Error>>;
}

/// The running kernel. Its sockets are opened when they are first needed.
#[derive(Debug, Default)]
pub struct LiveKernel {
    rtnl: Option<Rtnl>,
    nft: Option<Nft>,
}

impl LiveKernel {
    fn rtnl(&mut self) -> Result<&mut Rtnl, Error> {
        if self.rtnl.is_none() {
            self.rtnl = Some(Rtnl::open()?);
        }
        Ok(self.rtnl.as_mut().expect("invariant: opened just above"))
    }

    fn nft(&mut self) -> Result<&mut Nft, Error> {
        if self.nft.is_none() {
            self.nft = Some(Nft::open()?);
        }
        Ok(self.nft.as_mut().expect("invariant: opened just above"))
    }

    /// The MTU of the route to this address, else of the link it leaves by.
    pub(super) fn path_mtu(&mut self, to: IpAddr, mark: Option<u32>) -> Result<Option<u32>, Error> {
        let rtnl = self.rtnl()?;
        let Some(lookup) = rtnl.lookup(to, mark)? else {
            return Ok(None);
        };
        match (lookup.route.mtu, lookup.route.link) {
            (Some(mtu), _) => Ok(Some(mtu)),
            (None, Some(link)) => Ok(rtnl.link_at(link)?.map(|link| link.mtu)),
            (None, None) => Ok(None),
        }
    }

    fn run_one(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Sysctl { path, to, .. } => sysctl::write(path, to),
            Step::Link {
                index, property, ..
            } => {
                let change = match property {
                    LinkProperty::Up { to, .. } => LinkChange::Up(*to),
                    LinkProperty::Mtu { to, .. } => LinkChange::Mtu(*to),
                    LinkProperty::AddressGeneration { to, .. } => {
                        LinkChange::AddressGeneration(*to)
                    }
                    LinkProperty::Alias { to, .. } => LinkChange::Alias(to),
                };
                self.rtnl()?.change_link(*index, change)
            }
            Step::RemoveLink { index, .. } => gone(self.rtnl()?.delete_link(*index)),
            Step::Address { add, address, .. } if *add => self.rtnl()?.add_address(address),
            Step::Address { address, .. } => gone(self.rtnl()?.delete_address(address)),
            Step::Route { add, route, .. } if *add => self.rtnl()?.add_route(route),
            Step::Route { route, .. } => gone(self.rtnl()?.delete_route(route)),
            Step::Rule { add, rule } if *add => self.rtnl()?.add_rule(rule),
            Step::Rule { rule, .. } => gone(self.rtnl()?.delete_rule(rule)),
            Step::Table {
                to: Some(table), ..
            } => self.nft()?.set_table(table),
            Step::Table { name, to: None, .. } => gone(self.nft()?.delete_table(name)),
        }
    }

    fn run_routes(&mut self, add: bool, routes: &[Route]) -> Vec<Result<(), Error>> {
        match self.rtnl() {
            Err(error) => vec![Err(error)],
            Ok(rtnl) if add => rtnl.add_routes(routes),
            Ok(rtnl) => rtnl.delete_routes(routes).into_iter().map(gone).collect(),
        }
    }
}

impl Kernel for LiveKernel {
    fn observe(&mut self, instance: &Instance) -> Result<Observed, Error> {
        let table = self.table(instance)?;
        let tables = self.nft()?.tables()?;
        let others = tables
            .iter()
            .filter_map(|name| Instance::of_nft_table(name));
        let others = others.filter(|name| name != instance.interface()).collect();
        let rtnl = self.rtnl()?;
        let links = rtnl.links()?;
        Ok(Observed {
            addresses: rtnl.addresses()?,
            address_protocols: keeps_address_protocols()?,
            routes: rtnl.routes()?,
            rules: rtnl.rules()?,
            table,
            others,
            sysctls: sysctls(&links)?,
            sysctls_writable: sysctl::writable(setting::IPV4_FORWARD),
            links,
        })
    }

    fn table(&mut self, instance: &Instance) -> Result<Option<ObservedTable>, Error> {
        self.nft()?.table(&instance.nft_table())
    }

    fn run(&mut self, steps: &[Step]) -> Vec<Result<(), Error>> {
        if let [step] = steps {
            return vec![self.run_one(step)];
        }
        let routes: Vec<Route> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Route { route, .. } => Some(route.clone()),
                _ => None,
            })
            .collect();
        let add = matches!(steps.first(), Some(Step::Route { add: true, .. }));
        self.run_routes(add, &routes)
    }
}

/// Takes for done that what is to be deleted is not there.
fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn sysctls(links: &[Link]) -> Result<BTreeMap<String, String>, Error> {
    let mut paths = vec![
        setting::IPV4_FORWARD.to_owned(),
        setting::IPV6_FORWARD.to_owned(),
        setting::SRC_VALID_MARK.to_owned(),
        setting::rp_filter("all"),
    ];
    for link in links {
        paths.push(setting::rp_filter(&link.name));
        paths.push(setting::accept_ra(&link.name));
        paths.push(setting::ipv4_forwarding(&link.name));
        paths.push(setting::disable_ipv6(&link.name));
    }
    let mut values = BTreeMap::new();
    for path in paths {
        if let Some(value) = sysctl::read(&path)? {
            values.insert(path, value);
        }
    }
    Ok(values)
}

fn keeps_address_protocols() -> Result<bool, Error> {
    let release = sysctl::read("kernel/osrelease")?.unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(version >= ADDRESS_PROTOCOLS_SINCE)
}
