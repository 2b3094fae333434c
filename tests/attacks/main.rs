//! A peer under attack goes on serving a well-behaved client at another address. `waves` has the attacks, `door`
//! what else a stranger's bytes must not do. The figures are for `make bench-attacks`; here are bounds that a busy
//! machine keeps.
#![cfg(all(feature = "tracker", feature = "peer"))]

mod door;
#[path = "../support/mod.rs"]
mod support;
mod victim;
mod waves;

use std::time::Duration;

use victim::Victim;

/// Makes an attack, by its name.
#[track_caller]
fn survives(name: &str) {
    let (_, wave) = waves::WAVES.iter().find(|(other, _)| *other == name).expect("an attack of that name");
    let seen = Victim::new().survives(wave);
    assert!(seen.percentile(50) < Duration::from_millis(500), "half took more than {:?}", seen.percentile(50));
    assert!(seen.percentile(100) < Duration::from_secs(5), "one took {:?}", seen.percentile(100));
    assert!(seen.growth < 32e6, "{} bytes more", seen.growth);
}

macro_rules! survives {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                survives(stringify!($name));
            }
        )*

        #[test]
        fn every_attack_is_made() {
            assert_eq!(waves::WAVES.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}

survives! {
    slowloris_on_heads
    slowloris_on_bodies
    slowloris_on_answers
    two_thousand_half_open_connections
    a_thousand_resets
    a_flood_of_pipelined_requests
    header_bombs
    lengths_that_are_huge_negative_or_doubled
    smuggling_pairs
    broken_chunks
    names_that_climb
    names_of_devices
    fifos_and_devices_in_the_share
    symlinks_swapped_in_during_downloads
    symlinks_swapped_in_during_uploads
    boundaries_of_70_bytes_and_of_70_kilobytes
    a_form_of_100_000_parts
    pages_of_other_sites
    names_that_were_rebound
}
