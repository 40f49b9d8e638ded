//! The zones: who is asked for which names, and whether a zone answers.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Cache as Bounds, Dns, Lifetimes, Order, Server, Upstream as Configured};
use crate::tunnel::PathState;
use crate::types::DnsName;

use super::few::Few;
use super::flight::LastWord;
use super::forwarder::{Change, Effects};
use super::ids::IdMap;
use super::message::{self, wire_name};
use super::status::{UpstreamStatus, ZoneStatus};
use super::upstream::{Failure, Upstream};
use super::wire::rtype;

/// How often a zone that answers is asked whether it still does.
const PROBE_GOOD: Duration = Duration::from_secs(30);
/// How soon after a failed question of a client the zone is asked.
const PROBE_SOON: Duration = Duration::from_secs(1);
const PROBE_LONGEST: Duration = Duration::from_secs(10);

/// The settings of a forwarder: the configuration with the system's servers filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The zones with upstreams of their own.
    pub zones: Vec<ZoneSettings>,
    /// Who answers for names outside the zones; `None`: those are refused.
    pub upstreams: Option<Vec<Server>>,
    /// Which upstream is asked first.
    pub order: Order,
    /// What lies in a zone's name with one of these behind it does not exist.
    pub search_domains: Vec<DnsName>,
    /// The bounds of the cache.
    pub cache: Bounds,
}

/// A zone with upstreams of its own.
#[derive(Clone, Debug)]
pub struct ZoneSettings {
    /// Its name.
    pub zone: DnsName,
    /// Who answers, first come first asked.
    pub upstreams: Vec<Server>,
    /// The name whose A records are asked for to see whether the zone answers; `None`: the SOA of
    /// the zone.
    pub probe: Option<DnsName>,
    /// How long answers for its names are kept.
    pub lifetimes: Lifetimes,
}

impl Settings {
    /// The settings of a configuration, where `system` are the servers that
    /// [`Configured::System`] stands for.
    pub fn new(dns: &Dns, system: &[SocketAddr]) -> Self {
        let expand = |upstream: &Configured| match upstream {
            Configured::Server(server) => vec![server.clone()],
            Configured::System => system.iter().copied().map(Server::plain).collect(),
        };
        let zones = dns.zones.iter().map(|zone| ZoneSettings {
            zone: zone.zone.clone(),
            upstreams: zone.upstreams.clone(),
            probe: zone.probe.clone(),
            lifetimes: zone.lifetimes,
        });
        Self {
            zones: zones.collect(),
            upstreams: dns
                .upstreams
                .as_ref()
                .map(|upstreams| upstreams.iter().flat_map(expand).collect()),
            order: dns.order,
            search_domains: dns.search_domains.clone(),
            cache: dns.cache.clone(),
        }
    }
}

/// Upstreams that know the same names.
pub(super) struct Group {
    pub(super) id: u32,
    pub(super) members: Vec<u32>,
    pub(super) lifetimes: Lifetimes,
    pub(super) order: Order,
    zone: Option<DnsName>,
    probe: Option<Probe>,
}

/// Whether a zone answers.
struct Probe {
    query: Arc<[u8]>,
    result: Option<Result<(), String>>,
    next: Instant,
    pause: Duration,
    is_under_way: bool,
}

/// Who is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Ask {
        upstream: u32,
        is_idle: bool,
    },
    /// The tunnel to all of them is down.
    PathDown,
    /// None is worth asking, or none more.
    Exhausted,
    /// There are none.
    Empty,
}

impl Group {
    /// The next upstream for a question that was sent to those in `asked`.
    pub(super) fn choose<E: Effects>(
        &self,
        asked: &Few<u32>,
        upstreams: &mut IdMap<u32, Upstream>,
        now: Instant,
        effects: &E,
    ) -> Choice {
        if self.members.is_empty() {
            return Choice::Empty;
        }
        let quick = self.quick(upstreams);
        let mut best = None;
        let mut has_path = false;
        for (place, id) in self.members.iter().enumerate() {
            let Some(upstream) = upstreams.get_mut(id) else {
                continue;
            };
            let path = effects.path(upstream.ip());
            match path {
                PathState::Down => {
                    upstream.path_is_down();
                    continue;
                }
                PathState::Up | PathState::Direct => upstream.path_is_up(),
                PathState::Idle => {}
            }
            has_path = true;
            let tries = asked.iter().filter(|asked| *asked == id).count();
            // One that does not answer, or not well, is not asked twice for one question.
            if upstream.is_resting(now) || tries >= if upstream.is_steady() { 2 } else { 1 } {
                continue;
            }
            let is_slow = quick.is_some_and(|quick| upstream.latency().is_none_or(|l| l > quick));
            let rank = (tries, upstream.is_suspect(), is_slow, place);
            if best.is_none_or(|(other, _, _)| rank < other) {
                best = Some((rank, *id, path == PathState::Idle));
            }
        }
        match best {
            Some((_, upstream, is_idle)) if asked.len() <= self.members.len() + 1 => {
                Choice::Ask { upstream, is_idle }
            }
            _ if !has_path => Choice::PathDown,
            _ => Choice::Exhausted,
        }
    }

    /// The latency up to which upstreams count as equally fast, where that decides: the best is
    /// taken, but not for the sake of a few.
    fn quick(&self, upstreams: &IdMap<u32, Upstream>) -> Option<Duration> {
        if self.order == Order::Listed || self.members.len() < 2 {
            return None;
        }
        let members = self.members.iter().filter_map(|id| upstreams.get(id));
        let living = members.filter(|upstream| !upstream.is_suspect());
        let best = living.filter_map(Upstream::latency).min()?;
        Some(best + best / 4 + Duration::from_millis(1))
    }

    /// One of its questions was answered: the zone is ready. Returns whether that is news.
    pub(super) fn answered<E: Effects>(
        &mut self,
        is_probe: bool,
        now: Instant,
        effects: &mut E,
    ) -> bool {
        let (Some(probe), Some(zone)) = (&mut self.probe, &self.zone) else {
            return false;
        };
        probe.is_under_way &= !is_probe;
        probe.next = now + PROBE_GOOD;
        probe.pause = PROBE_SOON;
        if probe.result != Some(Ok(())) {
            probe.result = Some(Ok(()));
            effects.changed(Change::ZoneReady(zone.clone()));
            return true;
        }
        false
    }

    /// One of its questions was not answered, last by `server`. Only a probe decides.
    pub(super) fn failed<E: Effects>(
        &mut self,
        is_probe: bool,
        server: Option<&Server>,
        last: Option<&LastWord>,
        now: Instant,
        effects: &mut E,
    ) {
        let (Some(probe), Some(zone)) = (&mut self.probe, &self.zone) else {
            return;
        };
        if !is_probe {
            probe.next = probe.next.min(now + PROBE_SOON);
            return;
        }
        let what = match last {
            Some(LastWord::Answer(answer)) => Failure::Unhelpful(answer.rcode).to_string(),
            Some(LastWord::Failure(failure)) => failure.to_string(),
            None => Failure::Timeout.to_string(),
        };
        let reason = match server {
            Some(server) => format!("{server}: {what}"),
            None => what,
        };
        probe.is_under_way = false;
        probe.next = now + probe.pause;
        probe.pause = (probe.pause * 2).min(PROBE_LONGEST);
        if !matches!(probe.result, Some(Err(_))) {
            effects.changed(Change::ZoneNotReady(zone.clone(), reason.clone()));
        }
        probe.result = Some(Err(reason));
    }

    fn status(&self, upstreams: &IdMap<u32, Upstream>) -> Vec<UpstreamStatus> {
        let members = self.members.iter().filter_map(|id| upstreams.get(id));
        members
            .map(|upstream| UpstreamStatus {
                address: upstream.server.to_string(),
                up: upstream.is_reachable(),
                last_error: upstream.last_error.as_ref().map(ToString::to_string),
                queries: upstream.queries,
                failures: upstream.failures,
                latency: upstream.latency(),
            })
            .collect()
    }
}

/// All groups.
#[derive(Default)]
pub(super) struct Groups {
    list: Vec<Group>,
    /// Where the group of a zone stands, by its name in wire form.
    zones: HashMap<Vec<u8>, usize>,
    /// The names of zones with a search domain behind them.
    searched: HashSet<Vec<u8>>,
    general: Option<usize>,
    next_id: u32,
}

impl Groups {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.list.iter()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Group> {
        self.list.iter().find(|group| group.id == id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Group> {
        self.list.iter_mut().find(|group| group.id == id)
    }

    /// The group for a name in wire form, in lower case: that of the longest zone it lies in.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Group> {
        let mut at = 0;
        let place = loop {
            if let Some(place) = self.zones.get(&name[at..]) {
                break Some(*place);
            }
            match name.get(at) {
                None | Some(0) => break self.general,
                Some(length) => at += 1 + usize::from(*length),
            }
        };
        self.list.get(place?)
    }

    /// Whether a name, as in [`Groups::find`], only came about by a client's search domain.
    pub(super) fn is_searched(&self, name: &[u8]) -> bool {
        if self.searched.is_empty() {
            return false;
        }
        let mut at = 0;
        while let Some(length) = name.get(at).filter(|length| **length > 0) {
            let rest = &name[at..];
            if self.zones.contains_key(rest) {
                return false;
            }
            if self.searched.contains(rest) {
                return true;
            }
            at += 1 + usize::from(*length);
        }
        false
    }

    /// The groups of other settings; groups and upstreams that stay keep their identities.
    pub(super) fn renewed(
        &self,
        settings: &Settings,
        upstreams: &mut IdMap<u32, Upstream>,
        now: Instant,
    ) -> Self {
        let mut renewed = Self {
            next_id: self.next_id,
            ..Self::default()
        };
        for zone in &settings.zones {
            let place = renewed.list.len();
            let probe = match &zone.probe {
                Some(name) => message::question(0, name, rtype::A),
                None => message::question(0, &zone.zone, rtype::SOA),
            };
            self.renew(&mut renewed, settings, Some(zone), upstreams);
            renewed.list[place].probe = Some(self.renew_probe(&renewed.list[place], probe, now));
            let name = wire_name(&zone.zone);
            let domains = settings.search_domains.iter().map(wire_name);
            let searched = domains.map(|domain| [&name[..name.len() - 1], &domain].concat());
            renewed.searched.extend(searched);
            renewed.zones.insert(name, place);
        }
        if settings.upstreams.is_some() {
            renewed.general = Some(renewed.list.len());
            self.renew(&mut renewed, settings, None, upstreams);
        }
        renewed
    }

    /// Appends the group of a zone, or the general one.
    fn renew(
        &self,
        renewed: &mut Self,
        settings: &Settings,
        zone: Option<&ZoneSettings>,
        upstreams: &mut IdMap<u32, Upstream>,
    ) {
        let general = settings.upstreams.as_deref().unwrap_or_default();
        let (name, servers, lifetimes) = match zone {
            Some(zone) => (Some(&zone.zone), zone.upstreams.as_slice(), zone.lifetimes),
            None => (None, general, settings.cache.lifetimes),
        };
        let mut fresh_id = || {
            renewed.next_id += 1;
            renewed.next_id
        };
        let old = self.list.iter().find(|group| group.zone.as_ref() == name);
        let id = old.map_or_else(&mut fresh_id, |group| group.id);
        let mut members: Vec<u32> = Vec::with_capacity(servers.len());
        for server in servers {
            let same = |id: &&u32| upstreams.get(id).is_some_and(|u| *u.server == *server);
            let known = old.and_then(|group| group.members.iter().find(same).copied());
            let is_listed = members.iter().any(|member| same(&member));
            if is_listed {
                continue;
            }
            let id = known.unwrap_or_else(&mut fresh_id);
            upstreams
                .entry(id)
                .or_insert_with(|| Upstream::new(server.clone()));
            members.push(id);
        }
        renewed.list.push(Group {
            id,
            members,
            lifetimes,
            order: settings.order,
            zone: name.cloned(),
            probe: None,
        });
    }

    /// The probe of a group that asks `query`; what is known is kept while nothing changed.
    fn renew_probe(&self, group: &Group, query: Vec<u8>, now: Instant) -> Probe {
        let old = self
            .get(group.id)
            .filter(|old| old.members == group.members);
        let old = old.and_then(|old| old.probe.as_ref());
        let old = old.filter(|old| *old.query == *query);
        Probe {
            query: query.into(),
            result: old.and_then(|old| old.result.clone()),
            next: old.map_or(now, |old| old.next),
            pause: PROBE_SOON,
            is_under_way: old.is_some_and(|old| old.is_under_way),
        }
    }

    /// When a zone is to be asked next whether it answers.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        let probes = self.list.iter().filter_map(|group| group.probe.as_ref());
        probes
            .filter(|probe| !probe.is_under_way)
            .map(|probe| probe.next)
            .min()
    }

    /// The groups that are to be asked now whether they answer, and with which question.
    pub(super) fn due_probes<E: Effects>(
        &mut self,
        upstreams: &IdMap<u32, Upstream>,
        now: Instant,
        effects: &mut E,
    ) -> Vec<(u32, Arc<[u8]>)> {
        let mut due = Vec::new();
        for group in &mut self.list {
            let (Some(probe), Some(zone)) = (&mut group.probe, &group.zone) else {
                continue;
            };
            if probe.is_under_way || probe.next > now {
                continue;
            }
            let members = group.members.iter().filter_map(|id| upstreams.get(id));
            let paths: Vec<_> = members.map(|u| effects.path(u.ip())).collect();
            if paths.iter().all(|path| *path == PathState::Down) {
                // Nothing is sent: as soon as the tunnel stands, the zone is asked.
                probe.next = now + PROBE_SOON;
                probe.pause = PROBE_SOON;
                let reason = "the tunnel to its upstreams is down".to_owned();
                if !matches!(probe.result, Some(Err(_))) {
                    effects.changed(Change::ZoneNotReady(zone.clone(), reason.clone()));
                }
                probe.result = Some(Err(reason));
            } else if probe.result == Some(Ok(()))
                && paths
                    .iter()
                    .all(|path| matches!(path, PathState::Idle | PathState::Down))
            {
                // A zone that answered stays ready while its tunnel rests: asking would wake it.
                probe.next = now + PROBE_GOOD;
            } else {
                probe.is_under_way = true;
                due.push((group.id, Arc::clone(&probe.query)));
            }
        }
        due
    }

    pub(super) fn zone_status(&self, upstreams: &IdMap<u32, Upstream>) -> Vec<ZoneStatus> {
        let zones = self
            .list
            .iter()
            .filter_map(|group| Some((group, group.zone.clone()?)));
        zones
            .map(|(group, zone)| ZoneStatus {
                zone,
                not_ready: match group.probe.as_ref().and_then(|probe| probe.result.as_ref()) {
                    None => Some("not asked yet".to_owned()),
                    Some(Ok(())) => None,
                    Some(Err(reason)) => Some(reason.clone()),
                },
                upstreams: group.status(upstreams),
            })
            .collect()
    }

    pub(super) fn general_status(
        &self,
        upstreams: &IdMap<u32, Upstream>,
    ) -> Option<Vec<UpstreamStatus>> {
        Some(self.list.get(self.general?)?.status(upstreams))
    }
}
