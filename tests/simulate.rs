//! Small swarms under the simulator's virtual clock. What is asserted is what the plan and the registry are
//! for; `make simulate` has the figures for thousands.
#![cfg(all(feature = "tracker", feature = "peer"))]

#[path = "../benches/simulator/mod.rs"]
mod simulator;

use simulator::{Outcome, Scenario, run};

fn all_end(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario);
    assert_eq!((outcome.gave_up, outcome.starved), (0, 0), "{scenario:?} {outcome:?}");
    assert_eq!(outcome.ratios.len() + outcome.died, scenario.peers, "{outcome:?}");
    outcome
}

#[test]
fn a_crowd_has_all_in_little_more_than_the_time_of_one_copy() {
    for random in 1..4 {
        let outcome = all_end(&Scenario { random, ..Scenario::crowd(64, 512) });
        assert!(outcome.last() < 1.25, "{random} {outcome:?}");
        assert!(outcome.copies < 1.25, "{random} the seed repeats itself: {outcome:?}");
        assert!(outcome.last() >= 1.0 && outcome.copies >= 1.0, "{random} that cannot be: {outcome:?}");
    }
}

#[test]
fn when_some_die_the_others_have_all_soon() {
    for random in 1..4 {
        let outcome = all_end(&Scenario { deaths: 0.1, random, ..Scenario::crowd(64, 512) });
        assert!(outcome.died > 0 && outcome.last() < 1.3, "{random} {outcome:?}");
    }
}

#[test]
fn whoever_comes_late_is_not_served_by_the_seed_alone() {
    let crowd = Scenario::crowd(64, 512);
    let outcome = all_end(&Scenario { arrivals: crowd.bound() * 4, ..crowd });
    assert!(outcome.last() < 1.25 && outcome.copies < 4.0, "{outcome:?}");
}

#[test]
fn few_copies_cross_the_border_of_a_zone() {
    for random in 1..4 {
        let crowd = Scenario { zones: 3, random, ..Scenario::crowd(24, 512) };
        let outcome = all_end(&Scenario { arrivals: crowd.bound() / 100, ..crowd });
        assert!(outcome.imports.iter().all(|&copies| copies < 2.0), "{random} {outcome:?}");
        assert!(outcome.imports.iter().skip(1).all(|&copies| copies > 1.0), "{random} that cannot be: {outcome:?}");
        assert!(outcome.last() < 1.25, "{random} {outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_and_another_another() {
    let crowd = Scenario { deaths: 0.2, zones: 3, ..Scenario::crowd(24, 128) };
    assert_eq!(run(&crowd), run(&crowd));
    assert_ne!(run(&crowd), run(&Scenario { random: 2, ..crowd }));
}
