use super::*;

const NOW: Duration = Duration::from_secs(1);

fn plan(count: usize) -> Plan {
    Plan::new(count, 32 << 10, 1, 7)
}

#[test]
fn a_piece_in_flight_is_asked_of_nobody_else() {
    let mut plan = plan(100);
    let (a, b) = (plan.add_whole(Whence::default(), NOW), plan.add_whole(Whence::default(), NOW));
    let mut seen = Vec::new();
    for round in 0..100 {
        let source = if round % 2 == 0 { a } else { b };
        let ask = plan.next(source, NOW);
        let Ask::Pieces(pieces) = ask.clone() else { panic!("{ask:?}") };
        seen.extend(pieces.clone());
        pieces.for_each(|piece| assert!(plan.gained(piece)));
        plan.answered(source, &ask, 0, NOW, NOW);
    }
    seen.sort();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert_eq!(plan.next(a, NOW), Ask::Over);
}

#[test]
fn the_rarest_piece_comes_first() {
    let mut plan = plan(10);
    let sources: Vec<_> = (0..3).map(|_| plan.add_partial(Whence::default(), NOW)).collect();
    plan.news(sources[0], &[0, 1, 2, 3], 4, NOW);
    plan.news(sources[1], &[0, 1, 2], 3, NOW);
    plan.news(sources[2], &[0, 1], 2, NOW);
    assert_eq!(plan.next(sources[0], NOW), Ask::Pieces(3..4));
    assert_eq!(plan.next(sources[1], NOW), Ask::Pieces(2..3));
}

#[test]
fn whoever_has_nothing_of_use_is_asked_for_news_and_a_seed_for_fresh_pieces() {
    let mut plan = plan(10);
    let partial = plan.add_partial(Whence::default(), NOW);
    assert_eq!(plan.next(partial, NOW), Ask::News);
    plan.answered(partial, &Ask::News, 0, NOW, NOW);
    plan.news(partial, &[4], 1, NOW);
    assert_eq!(plan.next(partial, NOW), Ask::Pieces(4..5));
    let seed = plan.add_whole(Whence::default(), NOW);
    let ask = plan.next(seed, NOW);
    let Ask::Fresh(runs) = &ask else { panic!("{ask:?}") };
    let mut offered: Vec<_> = runs.iter().map(|run| (run.start, run.len())).collect();
    offered.sort();
    let unspread = [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|piece| (piece, 1));
    assert_eq!(offered, unspread, "what another holds is not for the seed to give");
    plan.nothing_fresh(seed, NOW);
    plan.answered(seed, &ask, 0, NOW, NOW);
    assert!(matches!(plan.next(seed, NOW), Ask::Pieces(_)));
}

#[test]
fn a_seed_is_asked_for_few_pieces_at_once_by_many_and_for_several_by_few() {
    for (others, depth) in [(1, limits::SOURCE_DEPTH), (limits::FRESH_WAITING, 1)] {
        let mut plan = plan(10);
        let seed = plan.add_whole(Whence::default(), NOW);
        for _ in 0..others {
            plan.add_partial(Whence::default(), NOW);
        }
        (0..depth).for_each(|_| assert!(matches!(plan.next(seed, NOW), Ask::Fresh(_)), "{others}"));
        assert!(matches!(plan.next(seed, NOW), Ask::Nothing(_)), "{others}");
    }
}

#[test]
fn a_piece_that_is_late_at_the_end_is_asked_of_a_second_source_and_of_no_third() {
    let mut plan = plan(1);
    let sources: Vec<_> = (0..3).map(|_| plan.add_whole(Whence::default(), NOW)).collect();
    assert_eq!(plan.next(sources[0], NOW), Ask::Pieces(0..1));
    assert!(matches!(plan.next(sources[1], NOW), Ask::Nothing(_)));
    let later = NOW + limits::ENDGAME_PATIENCE;
    assert_eq!(plan.next(sources[1], later), Ask::Pieces(0..1));
    assert!(matches!(plan.next(sources[2], later + limits::ENDGAME_PATIENCE), Ask::Nothing(_)));
    // One of them fails; the other still has it in flight.
    plan.answered(sources[0], &Ask::Pieces(0..1), 0, later, NOW);
    assert!(matches!(plan.next(sources[0], later), Ask::Nothing(_)));
    plan.answered(sources[1], &Ask::Pieces(0..1), 0, later, NOW);
    assert_eq!(plan.next(sources[2], later), Ask::Pieces(0..1));
}

#[test]
fn what_fails_rests_for_longer_each_time_and_is_let_go_at_last() {
    let mut plan = plan(10);
    let source = plan.add_whole(Whence::default(), NOW);
    let mut now = NOW;
    let mut rests = Vec::new();
    loop {
        let ask = plan.next(source, now);
        assert!(matches!(ask, Ask::Pieces(_)), "{ask:?}");
        plan.answered(source, &ask, 0, now, NOW);
        let is_let_go = plan.failed(source, 1, now);
        let Ask::Nothing(rest) = plan.next(source, now) else { panic!() };
        rests.push(rest);
        now += rest;
        if is_let_go {
            break;
        }
    }
    assert!(rests.is_sorted() && rests.len() as u32 == limits::SOURCE_FAILURES, "{rests:?}");
    plan.remove(source);
    assert_eq!((plan.next(source, now), plan.sources()), (Ask::Over, 0));
}

#[test]
fn who_is_far_below_the_others_rests_for_longer_each_time_unless_nobody_else_is_asked() {
    let mut plan = plan(1000);
    let (fast, slow) = (plan.add_whole(Whence::default(), NOW), plan.add_whole(Whence::default(), NOW));
    let mut rests = Vec::new();
    let mut now = NOW;
    for _ in 0..3 {
        let (quick, late) = (plan.next(fast, now), plan.next(slow, now));
        plan.answered(fast, &quick, 32 << 10, Duration::from_millis(1), now);
        now += limits::LAGGARD_TIME;
        plan.answered(slow, &late, 32 << 10, limits::LAGGARD_TIME, now);
        let asked = plan.next(fast, now);
        let Ask::Nothing(rest) = plan.next(slow, now) else { panic!("it does not rest") };
        plan.answered(fast, &asked, 32 << 10, Duration::from_millis(1), now);
        assert!(matches!(plan.next(slow, now), Ask::Pieces(_)), "nothing is asked of anyone");
        plan.answered(slow, &Ask::News, 0, Duration::ZERO, now);
        plan.requests.clear();
        rests.push(rest);
        now += rest;
    }
    assert_eq!(rests, [1, 2, 4].map(|times| limits::SOURCE_REST * times));
}

#[test]
fn on_a_fast_link_a_request_covers_a_run_of_what_is_missing() {
    let mut plan = plan(1000);
    let source = plan.add_whole(Whence::default(), NOW);
    plan.gained(500);
    let ask = plan.next(source, NOW);
    plan.answered(source, &ask, 1 << 30, Duration::from_secs(1), NOW);
    let mut missing = 999;
    while missing > 0 {
        let ask = plan.next(source, NOW);
        let Ask::Pieces(pieces) = ask.clone() else { panic!("{ask:?}") };
        assert!(!pieces.contains(&500) && pieces.len() <= 400);
        missing -= pieces.len();
        pieces.for_each(|piece| assert!(plan.gained(piece)));
        plan.answered(source, &ask, 0, NOW, NOW);
    }
    assert_eq!(plan.missing(), 0);
}

#[test]
fn of_a_far_source_a_request_covers_what_comes_in_some_trips() {
    let mut plan = plan(1000);
    let source = plan.add_whole(Whence::default(), NOW);
    let trip = Duration::from_millis(100);
    // 64 pieces a second and connection, were it not for the trips.
    let pieces = |plan: &mut Plan| {
        plan.set_trip(source, trip);
        let ask = plan.next(source, NOW);
        let Ask::Pieces(run) = ask.clone() else { panic!("{ask:?}") };
        let took = trip + Duration::from_secs(1) * run.len() as u32 / 64;
        run.clone().for_each(|piece| assert!(plan.gained(piece)));
        plan.answered(source, &ask, run.len() as u64 * (32 << 10), took, NOW);
        run.len()
    };
    let asked: Vec<_> = (0..30).map(|_| pieces(&mut plan)).collect();
    assert_eq!(asked[0], 1);
    // Three trips' worth of them, and then one trip in which nothing comes.
    assert!(asked[20..].iter().all(|pieces| (17..=20).contains(pieces)), "{asked:?}");
    let other = plan.add_partial(Whence::default(), NOW);
    plan.news(other, &[999], 1, NOW);
    let Ask::Fresh(runs) = plan.next(source, NOW) else { panic!("a crowd asks it for what is fresh") };
    assert!(runs.iter().all(|run| run.len() == 1), "a crowd has many requests under way");
}

#[test]
fn a_crowd_leaves_what_has_spread_to_each_other_and_not_to_the_seed_unless_that_takes_long() {
    let mut plan = plan(1000);
    let seed = plan.add_whole(Whence::default(), NOW);
    let others: Vec<_> = (0..limits::CROWD).map(|_| plan.add_partial(Whence::default(), NOW)).collect();
    let all: Vec<_> = (0..1000).collect();
    plan.news(others[0], &all[..20], 20, NOW);
    plan.nothing_fresh(seed, NOW);
    let ask = plan.next(others[0], NOW);
    plan.answered(others[0], &ask, 32 << 10, Duration::from_millis(10), NOW);
    assert!(matches!(plan.next(seed, NOW), Ask::Pieces(_)), "nothing else is under way");
    plan.answered(seed, &Ask::News, 0, Duration::ZERO, NOW);
    plan.requests.clear();
    plan.next(others[0], NOW);
    assert!(matches!(plan.next(seed, NOW), Ask::Nothing(_)));
    assert_eq!(plan.next(others[1], NOW), Ask::News);
    plan.sources[others[1]].pace = Some(1e9);
    plan.news(others[0], &all, 1000, NOW);
    assert!(matches!(plan.next(seed, NOW), Ask::Pieces(_)), "it would take ten seconds: news bring no piece");
}

#[test]
fn pieces_that_are_written_as_they_come_are_asked_of_nobody_else_while_the_seed_chooses() {
    let mut plan = Plan::new(40, limits::BUFFERED_BYTES * 2, 1, 7);
    let other = plan.add_partial(Whence::default(), NOW);
    let seed = plan.add_whole(Whence::default(), NOW);
    let ask = plan.next(seed, NOW);
    let Ask::Fresh(runs) = &ask else { panic!("{ask:?}") };
    assert_eq!(runs.len(), limits::FRESH_RUNS);
    plan.news(other, &(0..40).collect::<Vec<_>>(), 40, NOW);
    let left = 40 - limits::FRESH_RUNS;
    assert_eq!(plan.useful(other, NOW), left);
    plan.coming(seed, &ask, &runs[3], NOW);
    assert_eq!(plan.useful(other, NOW), 39);
    plan.came(seed, &runs[3]);
    plan.answered(seed, &ask, 1, NOW, NOW);
    assert_eq!(plan.useful(other, NOW), 40);
}

#[test]
fn sources_of_the_own_zone_come_first_and_others_when_those_bring_nothing() {
    let far = Whence { is_far: true, tag: 5 };
    let mut plan = plan(1000);
    let (inside, outside) = (plan.add_whole(Whence::default(), NOW), plan.add_whole(far, NOW));
    assert!(matches!(plan.next(inside, NOW), Ask::Pieces(_)));
    assert!(matches!(plan.next(outside, NOW), Ask::Nothing(_)));
    assert!(matches!(plan.next(outside, NOW + limits::ZONE_PATIENCE), Ask::Pieces(_)));
}

#[test]
fn who_is_alone_in_its_zone_fetches_from_the_others() {
    let far = Whence { is_far: true, tag: 5 };
    let mut plan = plan(1000);
    let (partial, seed) = (plan.add_partial(far, NOW), plan.add_whole(far, NOW));
    plan.news(partial, &[7], 1, NOW);
    assert_eq!(plan.next(partial, NOW), Ask::Pieces(7..8));
    assert!(matches!(plan.next(seed, NOW), Ask::Fresh(_)));
    plan.nothing_fresh(seed, NOW);
    assert!(matches!(plan.next(seed, NOW), Ask::Pieces(_)));
}

#[test]
fn a_piece_that_somebody_inside_has_is_not_brought_in_again() {
    let far = Whence { is_far: true, tag: 5 };
    let mut plan = plan(100);
    let (inside, outside) = (plan.add_partial(Whence { is_far: false, tag: 2 }, NOW), plan.add_partial(far, NOW));
    plan.news(inside, &(0..50).collect::<Vec<_>>(), 50, NOW);
    plan.news(outside, &(0..100).collect::<Vec<_>>(), 100, NOW);
    let useful = plan.useful(outside, NOW);
    assert!((1..50).contains(&useful), "the rest is for the other to bring in: {useful}");
    assert_eq!(plan.useful(outside, NOW + limits::ZONE_TURN), 50);
    plan.remove(inside);
    assert_eq!(plan.useful(outside, NOW), 100);
}

#[test]
fn what_another_should_bring_in_is_left_to_it_as_long_as_something_else_comes() {
    let far = Whence { is_far: true, tag: 5 };
    let mut plan = plan(100);
    let (inside, outside) = (plan.add_partial(Whence { is_far: false, tag: 2 }, NOW), plan.add_partial(far, NOW));
    plan.news(outside, &(0..100).collect::<Vec<_>>(), 100, NOW);
    plan.news(inside, &[25], 1, NOW);
    let ask = plan.next(inside, NOW);
    assert_eq!(ask, Ask::Pieces(25..26));
    let later = NOW + limits::ZONE_TURN;
    let own = plan.useful(outside, later);
    assert!((1..99).contains(&own), "{own}");
    plan.answered(inside, &ask, 0, later, later);
    assert_eq!(plan.useful(outside, later), 99);
}

#[test]
fn a_zone_that_is_far_behind_brings_in_what_it_can() {
    let far = Whence { is_far: true, tag: 5 };
    let mut plan = plan(1000);
    let (inside, outside) = (plan.add_partial(Whence { is_far: false, tag: 2 }, NOW), plan.add_partial(far, NOW));
    let all: Vec<_> = (0..1000).collect();
    plan.news(inside, &all, 1000, NOW);
    plan.news(outside, &all[..limits::ZONE_BACKLOG], limits::ZONE_BACKLOG, NOW);
    assert_eq!(plan.useful(outside, NOW), 0);
    plan.news(outside, &all, 1000, NOW);
    assert_eq!(plan.useful(outside, NOW), 1000);
}

#[test]
fn a_backlog_is_worked_off_by_several_requests_at_once() {
    let mut plan = plan(200);
    let (busy, idle) = (plan.add_partial(Whence::default(), NOW), plan.add_partial(Whence::default(), NOW));
    plan.news(busy, &(0..200).collect::<Vec<_>>(), 200, NOW);
    plan.news(idle, &[1, 2, 3], 3, NOW);
    assert_eq!((plan.depth(busy, NOW), plan.depth(idle, NOW)), (limits::SOURCE_DEPTH, 1));
    for _ in 0..limits::SOURCE_DEPTH {
        assert!(matches!(plan.next(busy, NOW), Ask::Pieces(_)));
    }
    assert!(matches!(plan.next(busy, NOW), Ask::Nothing(_)));
}

#[test]
fn a_download_starves_when_those_who_are_left_lack_what_it_lacks() {
    let mut plan = plan(3);
    assert!(plan.is_starved());
    let seed = plan.add_whole(Whence::default(), NOW);
    let partial = plan.add_partial(Whence::default(), NOW);
    assert!(!plan.is_starved());
    plan.remove(seed);
    assert!(plan.is_starved());
    plan.news(partial, &[1], 1, NOW);
    assert!(!plan.is_starved());
    plan.gained(1);
    assert!(plan.is_starved(), "what it has is here");
    plan.is_whole(partial, NOW);
    assert!(!plan.is_starved());
}

#[test]
fn a_turn_is_asked_for_where_something_is_of_use_and_pieces_are_few() {
    let of_use = |count| {
        let mut plan = plan(count);
        let sources: Vec<_> = (0..2).map(|_| plan.add_partial(Whence::default(), NOW)).collect();
        plan.news(sources[0], &[4], 1, NOW);
        plan.news(sources[1], &[4], 1, NOW);
        (plan, sources)
    };
    let (mut plan, sources) = of_use(limits::TURN_PIECES);
    assert_eq!(plan.turn(sources[0], NOW), Some(Ask::Turn));
    assert_eq!(plan.turn(sources[0], NOW), None, "it is being asked");
    // The piece is still free for others, and then there is nothing to wait for.
    assert_eq!(plan.next(sources[1], NOW), Ask::Pieces(4..5));
    plan.answered(sources[0], &Ask::Turn, 0, NOW, NOW);
    assert_eq!(plan.turn(sources[0], NOW), None);
    assert_eq!(plan.next(sources[0], NOW), Ask::News);
    let seed = plan.add_whole(Whence::default(), NOW);
    assert_eq!(plan.turn(seed, NOW), None, "it gives by turns what is fresh");
    assert!(plan.takes_turns(sources[0]) && !plan.takes_turns(seed));
    plan.set_trip(sources[0], limits::TURN_TRIP * 2);
    assert!(!plan.takes_turns(sources[0]), "a turn would cost a long trip");

    let mut far_behind = of_use(limits::TURN_PIECES);
    far_behind.0.news(sources[0], &(5..30).collect::<Vec<_>>(), 26, NOW);
    assert_eq!(far_behind.0.turn(sources[0], NOW), None, "it would never come closer");
    assert!(matches!(far_behind.0.next(sources[0], NOW), Ask::Pieces(_)));

    let (mut plan, sources) = of_use(limits::TURN_PIECES + 1);
    assert_eq!((plan.turn(sources[0], NOW), plan.takes_turns(sources[0])), (None, false));
}
