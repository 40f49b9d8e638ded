//! From one upstream to the next, and by an idle tunnel.

use super::*;

/// Answers at once all that was sent to `living` since the last call.
fn let_answer(
    forwarder: &mut Forwarder<u32>,
    done: &mut usize,
    living: &[SocketAddr],
    now: Instant,
    world: &mut World,
) {
    while let Some((upstream, to, lane, sent)) = world.sent.get(*done).cloned() {
        *done += 1;
        if let (true, Some(lane)) = (living.contains(&to), lane) {
            forwarder.datagram(upstream, lane, &answer(&sent, 60, 0), now, world);
        }
    }
}

#[test]
fn a_dead_upstream_is_tried_beside_a_living_one_until_it_is_back() {
    let mut now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2], now, &mut world);
    let mut done = 0;
    // Twenty seconds of ten questions a second; the first upstream is back after ten.
    for number in 0..200_u16 {
        let living = if number < 100 {
            &[address(2)][..]
        } else {
            &[address(1), address(2)]
        };
        let name = format!("x{number}.example");
        forwarder.query(
            &question(number, &name),
            number.into(),
            Transport::Udp,
            now,
            &mut world,
        );
        let_answer(&mut forwarder, &mut done, living, now, &mut world);
        let next = now + Duration::from_millis(100);
        // Those of the first second may each have to wait for one.
        assert!(
            number < 20 || !forwarder.is_busy(),
            "question {number} waited"
        );
        while let Some(at) = forwarder.next_timeout().filter(|at| *at <= next) {
            forwarder.tick(at, &mut world);
            let_answer(&mut forwarder, &mut done, living, at, &mut world);
        }
        now = next;
    }
    assert_eq!(world.replies.len(), 200);
    assert!(world.replies.iter().all(|(_, reply)| reply[3] & 15 == 0));
    let status = forwarder.status(Vec::new()).upstreams.unwrap();
    assert!(status[0].up);
    // It is the first again, and was asked little while it was away.
    assert!((50..130).contains(&status[0].queries), "{status:?}");
}

#[test]
fn a_slow_upstream_is_hedged_by_the_next_and_the_first_answer_counts() {
    let start = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2, 3], start, &mut world);
    let query = question(1, "x.example");
    forwarder.query(&query, 1, Transport::Udp, start, &mut world);
    let soon = start + Duration::from_millis(19);
    forwarder.tick(soon, &mut world);
    assert_eq!(asked(&world), [address(1)]);
    let now = start + Duration::from_millis(20);
    forwarder.tick(now, &mut world);
    assert_eq!(asked(&world), [address(1), address(2)]);
    let mut done = 0;
    let_answer(&mut forwarder, &mut done, &[address(2)], now, &mut world);
    assert_eq!(world.replies.len(), 1);
    // Its silence is held against the first, although nobody waited for it to the end.
    let mut now = now;
    while let Some(at) = forwarder.next_timeout() {
        now = at;
        forwarder.tick(at, &mut world);
    }
    let query = question(2, "y.example");
    forwarder.query(&query, 2, Transport::Udp, now, &mut world);
    assert_eq!(asked(&world)[2], address(2), "nobody waits for the first");
    let status = forwarder.status(Vec::new());
    assert_eq!(status.counters.hedged, 1);
    assert_eq!(status.upstreams.unwrap()[0].failures, 1);
}

#[test]
fn a_failed_hedge_leaves_the_first_its_time() {
    let start = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2], start, &mut world);
    let query = question(1, "x.example");
    forwarder.query(&query, 1, Transport::Udp, start, &mut world);
    let now = start + Duration::from_millis(20);
    forwarder.tick(now, &mut world);
    let (second, _, lane, sent) = world.sent[1].clone();
    let failed = answer(&sent, 0, 2);
    forwarder.datagram(second, lane.unwrap(), &failed, now, &mut world);
    assert_eq!(asked(&world), [address(1), address(2)]);
    assert!(world.replies.is_empty());
    let mut done = 0;
    let_answer(&mut forwarder, &mut done, &[address(1)], now, &mut world);
    assert_eq!(world.replies[0].1[3] & 15, 0);
}

#[test]
fn hedges_stay_within_their_budget() {
    let start = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2], start, &mut world);
    for number in 0..1000_u16 {
        let query = question(number, &format!("x{number}.example"));
        let client = number.into();
        forwarder.query(&query, client, Transport::Udp, start, &mut world);
    }
    forwarder.tick(start + Duration::from_millis(20), &mut world);
    let hedges = asked(&world).iter().filter(|to| **to == address(2)).count();
    assert_eq!(hedges, 32, "a burst has those alone");
}

#[test]
fn an_upstream_that_is_always_slow_is_given_its_time() {
    let mut now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1, 2], now, &mut world);
    let mut done = 0;
    // Each answer of the first takes 60 ms.
    for number in 0..200_u16 {
        let query = question(number, &format!("x{number}.example"));
        forwarder.query(&query, number.into(), Transport::Udp, now, &mut world);
        let end = now + Duration::from_millis(60);
        while let Some(at) = forwarder.next_timeout().filter(|at| *at < end) {
            forwarder.tick(at, &mut world);
        }
        now = end;
        let living = [address(1), address(2)];
        let_answer(&mut forwarder, &mut done, &living, now, &mut world);
        forwarder.tick(now, &mut world);
    }
    let hedges = forwarder.status(Vec::new()).counters.hedged;
    assert!((1..=20).contains(&hedges), "{hedges}");
    assert_eq!(world.replies.len(), 200);
}

#[test]
fn a_question_is_sent_again_once_an_idle_tunnel_stands() {
    let start = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1], start, &mut world);
    world.paths.insert(address(1).ip(), PathState::Idle);
    forwarder.query(
        &question(1, "x.example"),
        1,
        Transport::Udp,
        start,
        &mut world,
    );
    for millis in [50, 100, 150] {
        forwarder.tick(start + Duration::from_millis(millis), &mut world);
    }
    assert_eq!(world.sent.len(), 1);
    world.paths.insert(address(1).ip(), PathState::Up);
    let now = start + Duration::from_millis(200);
    forwarder.tick(now, &mut world);
    let (upstream, _, lane, sent) = world.sent[1].clone();
    forwarder.datagram(
        upstream,
        lane.unwrap(),
        &answer(&sent, 60, 0),
        now,
        &mut world,
    );
    assert_eq!(world.replies[0].1[3] & 15, 0);
    assert_eq!(
        forwarder.status(Vec::new()).upstreams.unwrap()[0].failures,
        0
    );
}

#[test]
fn an_idle_tunnel_that_does_not_come_up_is_waited_for_a_second() {
    let now = some_time();
    let mut world = World::default();
    let mut forwarder = forwarder(&[1], now, &mut world);
    world.paths.insert(address(1).ip(), PathState::Idle);
    forwarder.query(
        &question(1, "x.example"),
        1,
        Transport::Udp,
        now,
        &mut world,
    );
    let took = run_out(&mut forwarder, now, &mut world).as_millis();
    assert!((1000..=1200).contains(&took), "{took} ms");
    assert_eq!(world.replies[0].1[3] & 15, 2);
}
