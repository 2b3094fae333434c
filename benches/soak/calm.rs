//! Before and after: everybody is there and found, nothing is under way.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    LEASE, PEERS,
    life::{Life, end_tracker},
    support::{block_on, wait_for},
    usage::Sample,
    watch,
    world::World,
};

/// What coming to rest may take: a minute is what idle connections are kept for.
const REST: Duration = Duration::from_secs(90);

/// Waits until exactly what the peers hold is found.
pub(crate) fn wait_until_found(world: &World) {
    let held = |slot: usize| world.slot(slot).files.keys().cloned().collect::<Vec<_>>();
    wait_for(REST, "exactly what is held is found", || {
        let mut held: Vec<_> = (0..PEERS).flat_map(held).collect();
        held.sort();
        let found = block_on(watch::all_found(world));
        found.is_ok_and(|found| found.into_iter().map(|row| row.path).eq(held))
    });
}

/// What everybody takes, once it does not change any more.
pub(crate) fn usage(world: &World) -> Sample {
    thread::sleep(LEASE);
    Sample::take(world, true)
}

/// Ends what is under way, removes all but what there was at the beginning, and waits until it shows.
pub(crate) fn settle(world: &World, lives: &mut [Life<'_>]) {
    for life in &mut *lives {
        life.cancel_all();
        life.forget_all();
    }
    wait_until_found(world);
    let end = Instant::now() + REST;
    for slot in 0..PEERS {
        for folder in ["partial", "tmp", "jobs"] {
            let folder = world.ground.share(slot).join(".enjambre").join(folder);
            while !is_empty(&folder) && Instant::now() < end {
                thread::sleep(Duration::from_millis(100));
            }
            if !is_empty(&folder) {
                world.broken(format!("{}: something is left", folder.display()));
            }
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Everybody leaves, and then nobody is found.
pub(crate) fn end(world: &World, lives: Vec<Life<'_>>) {
    for mut life in lives {
        life.leave();
    }
    let found = block_on(watch::all_found(world));
    if !found.as_ref().is_ok_and(Vec::is_empty) {
        world.broken(format!("all have left, and some are found: {found:?}"));
    }
    end_tracker(world);
}
