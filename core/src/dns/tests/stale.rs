use super::*;
use crate::config::DnsProtocol;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// A forwarder and all it did, with a clock that goes from timeout to timeout.
struct Scene {
    forwarder: Forwarder<u32>,
    world: World,
    now: Instant,
    /// What was sent before is done with.
    done: usize,
    client: u32,
}

/// What the upstreams do with a question.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Silent,
    Answers { ttl: u32, rcode: u8 },
}

const WELL: Mood = Mood::Answers { ttl: 10, rcode: 0 };
const SERVFAIL: Mood = Mood::Answers { ttl: 0, rcode: 2 };
const NXDOMAIN: Mood = Mood::Answers { ttl: 10, rcode: 3 };

/// An answer as an upstream in this mood gives it; a negative one with an SOA record.
fn reply(sent: &[u8], ttl: u32, rcode: u8) -> Vec<u8> {
    if rcode != 3 {
        return answer(sent, ttl, rcode);
    }
    let mut message = answer(sent, ttl, rcode);
    let record = wire::plain_name_end(&message, 12).unwrap() + 4;
    message.truncate(record);
    message[7] = 0;
    message[9] = 1;
    message.extend_from_slice(&[0, 0, 6, 0, 1]);
    message.extend_from_slice(&ttl.to_be_bytes());
    message.extend_from_slice(&[0, 22, 0, 0]);
    message.extend_from_slice(&[0; 16]);
    message.extend_from_slice(&ttl.to_be_bytes());
    message
}

impl Scene {
    fn new(upstreams: &[u8], change: impl Fn(&mut Settings)) -> Self {
        let mut world = World::default();
        let now = some_time();
        let mut bounds = bounds(100, 1 << 20);
        bounds.lifetimes.stale = HOUR;
        let mut settings = settings(upstreams, bounds);
        change(&mut settings);
        let mut forwarder = Forwarder::new(settings.cache.clone());
        forwarder.configure(&settings, now, &mut world);
        Self {
            forwarder,
            world,
            now,
            done: 0,
            client: 0,
        }
    }

    /// Lets time pass; upstreams answer at once.
    fn pass(&mut self, time: Duration, mood: impl Fn(u8) -> Mood) {
        let end = self.now + time;
        loop {
            self.let_answer(&mood);
            match self.forwarder.next_timeout().filter(|at| *at <= end) {
                Some(at) => {
                    self.now = at.max(self.now);
                    self.forwarder.tick(self.now, &mut self.world);
                }
                None => break,
            }
        }
        self.now = end;
    }

    fn let_answer(&mut self, mood: &impl Fn(u8) -> Mood) {
        while let Some((upstream, to, lane, sent)) = self.world.sent.get(self.done).cloned() {
            self.done += 1;
            let IpAddr::V4(ip) = to.ip() else { continue };
            if let Mood::Answers { ttl, rcode } = mood(ip.octets()[3]) {
                let message = reply(&sent, ttl, rcode);
                let (now, world) = (self.now, &mut self.world);
                match lane {
                    Some(lane) => {
                        let forwarder = &mut self.forwarder;
                        forwarder.datagram(upstream, lane, &message, now, world);
                    }
                    None => self.forwarder.stream_answer(upstream, &message, now, world),
                }
            }
        }
    }

    /// Asks; returns the answer once it is there, and how long it took.
    fn ask(&mut self, name: &str, mood: impl Fn(u8) -> Mood) -> (Vec<u8>, Duration) {
        self.client += 1;
        let query = question(self.client as u16, name);
        let (client, start) = (self.client, self.now);
        self.forwarder
            .query(&query, client, Transport::Udp, start, &mut self.world);
        loop {
            self.let_answer(&mood);
            let reply = self.world.replies.iter().find(|(to, _)| *to == client);
            if let Some((_, reply)) = reply {
                return (reply.clone(), self.now - start);
            }
            let at = self
                .forwarder
                .next_timeout()
                .expect("who waits has a timer");
            self.now = at.max(self.now);
            self.forwarder.tick(self.now, &mut self.world);
        }
    }

    fn stale(&self) -> u64 {
        self.forwarder.status(Vec::new()).counters.stale
    }
}

fn rcode(reply: &[u8]) -> u8 {
    reply[3] & 15
}

/// The TTL of the first record, if there is one.
fn ttl(reply: &[u8]) -> Option<u32> {
    let end = wire::plain_name_end(reply, 12).unwrap() + 4;
    (reply[7] > 0).then(|| wire::u32_at(reply, end + 6).unwrap())
}

/// The code of the reason in the OPT record at the end.
fn reason(reply: &[u8]) -> Option<u16> {
    let records: u16 = (6..12)
        .step_by(2)
        .map(|at| wire::u16_at(reply, at).unwrap())
        .sum();
    let mut next = wire::plain_name_end(reply, 12).unwrap() + 4;
    for _ in 0..records {
        let record = wire::record_at(reply, next).expect("a well-formed answer");
        next = record.end;
        if record.rtype == 41 {
            let mut options = wire::options(&reply[record.data..record.end]).flatten();
            let reason = options.find(|(code, _)| *code == 15)?.1;
            return wire::u16_at(reason, 4);
        }
    }
    None
}

#[test]
fn an_answer_beyond_its_end_is_given_only_while_every_upstream_fails() {
    for failing in [Mood::Silent, SERVFAIL, Mood::Answers { ttl: 0, rcode: 5 }] {
        let mut scene = Scene::new(&[1, 2], |_| {});
        scene.ask("x.example", |_| WELL);
        scene.pass(20 * SECOND, |_| WELL);
        // One of two answers: nothing is stale.
        let second = |last| if last == 1 { failing } else { WELL };
        let (fresh, _) = scene.ask("x.example", second);
        assert_eq!(
            (rcode(&fresh), ttl(&fresh), scene.stale()),
            (0, Some(10), 0)
        );
        scene.pass(20 * SECOND, second);
        let (stale, took) = scene.ask("x.example", |_| failing);
        assert_eq!((rcode(&stale), ttl(&stale)), (0, Some(30)));
        assert_eq!(reason(&stale), Some(3));
        assert!(took <= SECOND, "{took:?}");
        // What was never known fails, and says why.
        let (failed, _) = scene.ask("y.example", |_| failing);
        assert!(rcode(&failed) == 2 || rcode(&failed) == 5);
        assert!(reason(&failed).is_some());
        // The second time nobody waits.
        let (stale, took) = scene.ask("x.example", |_| failing);
        assert_eq!((rcode(&stale), took), (0, Duration::ZERO));
        assert_eq!(scene.stale(), 2);
        // The end of the end.
        scene.pass(HOUR, |_| failing);
        let (gone, _) = scene.ask("x.example", |_| failing);
        assert_ne!(rcode(&gone), 0);
    }
}

#[test]
fn who_waits_for_a_silent_upstream_is_given_what_is_known_and_later_ones_at_once() {
    let mut scene = Scene::new(&[1], |_| {});
    scene.ask("x.example", |_| WELL);
    scene.pass(20 * SECOND, |_| WELL);
    let start = scene.now;
    let query = question(1, "x.example");
    for client in [1001, 1002] {
        let (now, world) = (scene.now, &mut scene.world);
        scene
            .forwarder
            .query(&query, client, Transport::Udp, now, world);
    }
    let is_answered =
        |scene: &Scene, client| scene.world.replies.iter().any(|(to, _)| *to == client);
    let sent = scene.world.sent.len();
    scene
        .forwarder
        .tick(start + Duration::from_millis(299), &mut scene.world);
    assert!(!is_answered(&scene, 1001));
    scene.pass(SECOND, |_| Mood::Silent);
    assert!(is_answered(&scene, 1001) && is_answered(&scene, 1002));
    assert!(
        scene.world.sent.len() <= sent + 1,
        "asked once more at most"
    );
    // It is back: the next question has the fresh answer within the longest pause.
    scene.pass(31 * SECOND, |_| WELL);
    let (fresh, _) = scene.ask("x.example", |_| WELL);
    assert_eq!(ttl(&fresh), Some(10));
}

#[test]
fn nobody_waits_for_the_last_of_many_silent_upstreams_but_the_question_goes_on() {
    let mut scene = Scene::new(&[1, 2, 3, 4, 5, 6], |_| {});
    scene.ask("x.example", |_| WELL);
    scene.pass(20 * SECOND, |_| WELL);
    let (stale, took) = scene.ask("x.example", |_| Mood::Silent);
    assert_eq!((reason(&stale), took), (Some(3), SECOND));
    // The flight goes on: what the next upstream says is there for the next client.
    scene.pass(2 * SECOND, |_| WELL);
    let sent = scene.world.sent.len();
    let (fresh, took) = scene.ask("x.example", |_| Mood::Silent);
    assert_eq!((reason(&fresh), took), (None, Duration::ZERO));
    assert_eq!(scene.world.sent.len(), sent);
}

#[test]
fn a_fresh_negative_answer_stands_before_a_stale_one() {
    let mut scene = Scene::new(&[1], |_| {});
    for (mood, code) in [(NXDOMAIN, 3), (Mood::Answers { ttl: 0, rcode: 3 }, 3)] {
        scene.ask("x.example", |_| WELL);
        scene.pass(20 * SECOND, |_| WELL);
        let (negative, _) = scene.ask("x.example", |_| mood);
        assert_eq!((rcode(&negative), reason(&negative)), (code, None));
        scene.pass(20 * SECOND, |_| WELL);
        // In the outage that comes, the name's records are not back.
        let (failed, _) = scene.ask("x.example", |_| SERVFAIL);
        let expected = match mood {
            NXDOMAIN => (3, Some(19)),
            _ => (2, Some(22)),
        };
        assert_eq!((rcode(&failed), reason(&failed)), expected);
        scene.pass(60 * SECOND, |_| WELL);
    }
}

#[test]
fn an_nxdomain_takes_known_records_away_unless_it_is_distrusted() {
    let distrust = |settings: &mut Settings| {
        settings.cache.lifetimes.stale = Duration::ZERO;
        settings.cache.lifetimes.stale_on_nxdomain = 60 * SECOND;
    };
    let mut scene = Scene::new(&[1], distrust);
    scene.ask("x.example", |_| WELL);
    scene.pass(20 * SECOND, |_| WELL);
    let (kept, _) = scene.ask("x.example", |_| NXDOMAIN);
    assert_eq!(
        (rcode(&kept), ttl(&kept), reason(&kept)),
        (0, Some(30), Some(3))
    );
    // A name that never had records does not exist.
    let (absent, _) = scene.ask("y.example", |_| NXDOMAIN);
    assert_eq!(rcode(&absent), 3);
    // It is asked again, more and more seldom.
    let sent = scene.world.sent.len();
    for _ in 0..30 {
        scene.pass(SECOND, |_| WELL);
        let (kept, _) = scene.ask("x.example", |_| NXDOMAIN);
        assert_eq!(rcode(&kept), 0);
    }
    let again = scene.world.sent.len() - sent;
    assert!((3..=6).contains(&again), "{again}");
    // Right once, it is as before.
    scene.pass(16 * SECOND, |_| WELL);
    let (fresh, _) = scene.ask("x.example", |_| WELL);
    assert_eq!((rcode(&fresh), ttl(&fresh)), (0, Some(10)));
    // For a minute after its end and no longer.
    scene.pass(71 * SECOND, |_| WELL);
    let (gone, _) = scene.ask("x.example", |_| NXDOMAIN);
    assert_eq!(rcode(&gone), 3);
}

#[test]
fn an_outage_sends_at_most_two_for_each_name_and_then_backs_off() {
    for failing in [Mood::Silent, SERVFAIL] {
        for is_known in [false, true] {
            let mut scene = Scene::new(&[1, 2], |_| {});
            let names: Vec<String> = (0..20).map(|n| format!("x{n}.example")).collect();
            if is_known {
                for name in &names {
                    scene.ask(name, |_| WELL);
                }
            }
            scene.pass(20 * SECOND, |_| WELL);
            let before = scene.world.sent.len();
            for name in &names {
                scene.ask(name, |_| failing);
            }
            let first = scene.world.sent.len() - before;
            assert!(first <= 2 * names.len(), "{first} in the first round");
            let rounds = |scene: &mut Scene| {
                let before = scene.world.sent.len();
                let end = scene.now + 60 * SECOND;
                while scene.now < end {
                    names
                        .iter()
                        .for_each(|name| drop(scene.ask(name, |_| failing)));
                    scene.pass(SECOND / 2, |_| failing);
                }
                scene.world.sent.len() - before
            };
            let minute = rounds(&mut scene);
            // Pauses of 1, 2, 4, 8, 16 and 30 s with a stale answer, else of up to 5 s.
            let most = match (failing, is_known) {
                (Mood::Silent, _) => 5,
                (_, true) => 12,
                (_, false) => 32,
            };
            assert!(minute <= most * names.len(), "{minute} in a minute");
            let next = rounds(&mut scene);
            assert!(next <= minute, "{next} after {minute}");
        }
    }
}

#[test]
fn popular_answers_are_renewed_before_their_end_and_others_are_not() {
    for (mood, code) in [(WELL, 0), (NXDOMAIN, 3)] {
        let mut scene = Scene::new(&[1], |_| {});
        for name in ["popular.example", "other.example"] {
            scene.ask(name, |_| mood);
        }
        for _ in 0..2 {
            scene.ask("popular.example", |_| mood);
        }
        scene.pass(Duration::from_millis(9100), |_| mood);
        for name in ["popular.example", "other.example"] {
            let (reply, _) = scene.ask(name, |_| mood);
            assert_eq!(rcode(&reply), code);
        }
        assert_eq!(scene.world.sent.len(), 3);
        scene.pass(2 * SECOND, |_| mood);
        let (_, took) = scene.ask("popular.example", |_| Mood::Silent);
        assert_eq!((took, scene.world.sent.len()), (Duration::ZERO, 3));
        assert_eq!(scene.forwarder.status(Vec::new()).counters.refreshed, 1);
    }
}

#[test]
fn nothing_is_renewed_ahead_while_the_upstream_fails() {
    let mut scene = Scene::new(&[1], |_| {});
    for _ in 0..3 {
        scene.ask("x.example", |_| WELL);
    }
    scene.ask("y.example", |_| Mood::Silent);
    let sent = scene.world.sent.len();
    scene.pass(Duration::from_millis(5000), |_| Mood::Silent);
    scene.ask("x.example", |_| Mood::Silent);
    assert_eq!(scene.world.sent.len(), sent);
}

#[test]
fn the_fastest_is_asked_first_and_the_others_are_measured_beside_it() {
    let fastest = |settings: &mut Settings| settings.order = Order::Fastest;
    let mut scene = Scene::new(&[1, 2, 3], fastest);
    // 3 answers at once, 1 and 2 after 40 ms.
    let mut number = 0;
    let mut round = |scene: &mut Scene| {
        number += 1;
        scene.client += 1;
        let first = scene.world.sent.len();
        let query = question(1, &format!("x{number}.example"));
        let (now, client) = (scene.now, scene.client);
        scene
            .forwarder
            .query(&query, client, Transport::Udp, now, &mut scene.world);
        let asked: Vec<_> = scene.world.sent[first..].to_vec();
        for late in [false, true] {
            if late {
                scene.now += Duration::from_millis(40);
            }
            for (upstream, to, lane, sent) in &asked {
                if (*to == address(3)) != late {
                    let message = answer(sent, 60, 0);
                    let (now, world) = (scene.now, &mut scene.world);
                    scene
                        .forwarder
                        .datagram(*upstream, lane.unwrap(), &message, now, world);
                }
            }
        }
        scene.done = scene.world.sent.len();
        scene.pass(SECOND, |_| WELL);
        asked.iter().map(|(_, to, ..)| *to).collect::<Vec<_>>()
    };
    let mut all = round(&mut scene);
    all.sort();
    assert_eq!(all, [address(1), address(2), address(3)]);
    for _ in 0..5 {
        assert_eq!(round(&mut scene), [address(3)]);
    }
    // Half a minute later the others are measured again; the fastest is still asked.
    scene.pass(30 * SECOND, |_| WELL);
    assert_eq!(round(&mut scene).len(), 3);
}

#[test]
fn a_zones_name_with_a_search_domain_behind_it_does_not_exist() {
    let mut scene = Scene::new(&[1], |settings| {
        let zone = |zone: &str, last| ZoneSettings {
            zone: zone.parse().unwrap(),
            upstreams: vec![Server::plain(address(last))],
            probe: None,
            lifetimes: LIFETIMES,
        };
        settings.zones = vec![
            zone("loki.cluster.local", 2),
            zone("loki.cluster.local.b.test", 3),
        ];
        settings.search_domains = vec!["a.test".parse().unwrap(), "b.test".parse().unwrap()];
    });
    let sent = |scene: &Scene| scene.world.sent.len();
    for name in ["loki.cluster.local.a.test", "x.loki.cluster.local.a.test"] {
        let before = sent(&scene);
        let (reply, _) = scene.ask(name, |_| WELL);
        assert_eq!(
            (rcode(&reply), sent(&scene), reason(&reply)),
            (3, before, Some(29))
        );
    }
    for (name, last) in [
        ("cluster.local.a.test", 1),
        ("oki.cluster.local.a.test", 1),
        ("loki.cluster.local", 2),
        ("loki.cluster.local.b.test", 3),
    ] {
        let (reply, _) = scene.ask(name, |_| WELL);
        assert_eq!(rcode(&reply), 0);
        assert_eq!(asked(&scene.world).last(), Some(&address(last)), "{name}");
    }
}

#[test]
fn a_stream_upstream_that_says_nothing_is_left_and_tried_again() {
    let tcp = |last| Server {
        protocol: DnsProtocol::Tcp,
        ..Server::plain(address(last))
    };
    let mut scene = Scene::new(&[], |settings| {
        settings.upstreams = Some(vec![tcp(1), tcp(2)]);
    });
    let second = |last| if last == 2 { WELL } else { Mood::Silent };
    for number in 0..20 {
        let (reply, took) = scene.ask(&format!("x{number}.example"), second);
        assert_eq!(rcode(&reply), 0);
        assert!(
            took <= SECOND && (number < 12 || took.is_zero()),
            "{number}: {took:?}"
        );
        scene.pass(Duration::from_millis(100), second);
    }
    assert!(
        scene
            .world
            .sent
            .iter()
            .all(|(_, _, lane, _)| lane.is_none())
    );
    let in_vain = asked(&scene.world)
        .iter()
        .filter(|to| **to == address(1))
        .count();
    assert!((1..=16).contains(&in_vain), "{in_vain}");
    // Back again, it is the first.
    scene.pass(6 * SECOND, |_| WELL);
    for number in 0..3 {
        scene.ask(&format!("y{number}.example"), |_| WELL);
    }
    assert_eq!(asked(&scene.world).last(), Some(&address(1)));
}
