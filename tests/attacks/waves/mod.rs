//! The attacks, by name. Each can be made on any [`Victim`], alone or after others: the tests make each alone,
//! and `make bench-attacks` all of them on one peer.

use super::{
    support,
    victim::{self, Victim},
};

mod crowds;
mod forms;
mod heads;
mod names;
mod sites;
mod slow;

/// An attack.
pub(crate) type Wave = fn(&Victim);

/// All of them.
pub(crate) const WAVES: [(&str, Wave); 19] = [
    ("slowloris_on_heads", slow::heads),
    ("slowloris_on_bodies", slow::bodies),
    ("slowloris_on_answers", slow::answers),
    ("two_thousand_half_open_connections", crowds::half_open),
    ("a_thousand_resets", crowds::resets),
    ("a_flood_of_pipelined_requests", crowds::pipelines),
    ("header_bombs", heads::bombs),
    ("lengths_that_are_huge_negative_or_doubled", heads::lengths),
    ("smuggling_pairs", heads::pairs),
    ("broken_chunks", heads::chunks),
    ("names_that_climb", names::climbing),
    ("names_of_devices", names::of_devices),
    ("fifos_and_devices_in_the_share", names::devices),
    ("symlinks_swapped_in_during_downloads", names::swapped_under_downloads),
    ("symlinks_swapped_in_during_uploads", names::swapped_under_uploads),
    ("boundaries_of_70_bytes_and_of_70_kilobytes", forms::boundaries),
    ("a_form_of_100_000_parts", forms::parts),
    ("pages_of_other_sites", sites::forged),
    ("names_that_were_rebound", sites::rebound),
];
