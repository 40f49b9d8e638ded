use super::{Once, family, is_unicast, items};
use crate::config::meaning::MAIN_TABLE;
use crate::config::read::{At, Reader};
use crate::config::written::{Dnat, Root, Route, Routes, Tunnel};
use crate::types::Prefix;

/// RT_TABLE_LOCAL in linux/rtnetlink.h; it belongs to the kernel.
const LOCAL_TABLE: u64 = 255;

pub(super) fn check(root: &Root, reader: &mut Reader<'_>) {
    let Some(network) = &root.network else {
        return;
    };
    let network = &network.value;
    if let Some(Routes::These(list)) = network.routes.as_ref().map(|at| &at.value) {
        routes(list, root.tunnel.as_ref().map(|at| &at.value), reader);
    }
    let mut sources = Once::new();
    for source in items(&network.masquerade) {
        sources.see(source.value, &source.place, "a prefix", reader);
    }
    let mut dialled = Once::new();
    for item in items(&network.dnat) {
        dnat(&item.value, reader);
        let dnat = &item.value;
        if let (Some(protocol), Some(address), Some(port)) =
            (&dnat.protocol, &dnat.address, &dnat.port)
        {
            let key = (protocol.value, address.value, port.value.0);
            let what = "a protocol, address and port";
            dialled.see(key, &address.place, what, reader);
        }
    }
}

fn routes(list: &[At<Route>], tunnel: Option<&Tunnel>, reader: &mut Reader<'_>) {
    let mut seen = Once::new();
    let allowed: Vec<Prefix> = tunnel
        .map_or(&[][..], |tunnel| items(&tunnel.peers))
        .iter()
        .flat_map(|peer| items(&peer.value.allowed_ips))
        .map(|prefix| prefix.value)
        .collect();
    for route in list {
        let Some(to) = &route.value.to else {
            continue;
        };
        let table = route.value.table.as_ref();
        if let Some(table) = table.filter(|table| table.value.0 == LOCAL_TABLE) {
            reader.reject(&table.place, "another table than 255, the kernel's own");
        }
        let table = table.map_or(MAIN_TABLE, |at| at.value.0);
        let metric = route.value.metric.as_ref().map(|at| at.value.0);
        seen.see((to.value, table, metric), &to.place, "a route", reader);
        let reaches_a_peer = |prefix: &Prefix| prefix.covers(&to.value) || to.value.covers(prefix);
        if !allowed.iter().any(reaches_a_peer) {
            reader.reject(
                &to.place,
                "a destination that the allowedIPs of a peer hold",
            );
        }
    }
}

fn dnat(dnat: &Dnat, reader: &mut Reader<'_>) {
    if let Some(address) = &dnat.address {
        if address.value.is_loopback() {
            let expected = "an address that is not a loopback address: such packets never leave";
            reader.reject(&address.place, expected);
        } else if !is_unicast(address.value) {
            reader.reject(&address.place, "the address of one host");
        }
    }
    let Some(to) = &dnat.to else {
        return;
    };
    if !is_unicast(to.value.ip()) || to.value.ip().is_loopback() {
        reader.reject(&to.place, "the address of one host in the seed");
    }
    if let Some(address) = &dnat.address
        && address.value.is_ipv4() != to.value.is_ipv4()
    {
        let family = family(address.value);
        reader.reject(&to.place, format!("an {family} address, as in address"));
    }
}
