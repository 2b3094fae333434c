//! The invariants of ARCHITECTURE.md, looked after all the time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use enjambre::{
    content::ContentId,
    proto::{AnnounceRequest, Found, JoinRequest, LeaveRequest, RenewRequest},
};
use tonic::{Code, Status};

use super::{
    PEERS,
    support::{block_on, client, find_rows},
    world::{NEWS, World},
};

/// 1, 2 and 3: whatever has a name is whole and right, whatever was acknowledged is there, and nothing outside has
/// changed.
pub(crate) fn files(world: &World) {
    while !world.is_over() {
        for slot in 0..PEERS {
            let held: Vec<String> = world.slot(slot).files.keys().cloned().collect();
            let there = named(&world.ground.share(slot));
            for path in held.iter().filter(|path| !there.contains_key(*path)) {
                if world.slot(slot).files.contains_key(path) && !world.ground.share(slot).join(path).exists() {
                    world.broken(format!("peer-{slot}: {path} was acknowledged and is gone"));
                    world.slot(slot).files.remove(path);
                }
            }
            for (path, place) in there {
                // Files that are removed meanwhile are none.
                let Ok(bytes) = fs::read(place) else { continue };
                let expected = world.content_of(&path).map(|content| world.id(content));
                if expected != Some(ContentId::of(&bytes)) {
                    world.broken(format!("peer-{slot}: {path} has {} bytes that are not its own", bytes.len()));
                }
            }
        }
        let outside = fs::read_dir(world.ground.outside()).into_iter().flatten().flatten();
        let strange = outside.map(|entry| entry.file_name()).find(|name| {
            // The others are on their way into a share.
            name != "canary" && !name.to_string_lossy().starts_with("new-")
        });
        if strange.is_some() || fs::read(world.ground.outside().join("canary")).ok().as_deref() != Some(b"canary") {
            world.broken(format!("something was written outside: {strange:?}"));
        }
        world.count("looks at all files");
        rest(Duration::from_millis(500));
    }
}

/// All files of a share that have a name, by their paths in it. Symlinks are none.
fn named(share: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![share.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let place = entry.path();
            let path = place.strip_prefix(share).expect("it is below").to_string_lossy().into_owned();
            if path.starts_with('.') {
                continue;
            } else if kind.is_dir() {
                folders.push(place);
            } else if kind.is_file() {
                found.insert(path, place);
            }
        }
    }
    found
}

/// 4 and 5: who lives is found with all it has, and who does not, is not.
pub(crate) fn searches(world: &World) {
    block_on(async {
        while !world.is_over() {
            let before: Vec<_> = (0..PEERS).map(|slot| world.expected(slot)).collect();
            let asked = Instant::now();
            let found = all_found(world).await;
            let tracker_is_up = world.tracker().process.is_some();
            match found {
                Ok(found) => {
                    for (slot, before) in before.iter().enumerate() {
                        if world.expected(slot) == *before {
                            compare(world, slot, before.0, &found, asked);
                        }
                    }
                    world.count("searches for everything");
                }
                // It was killed in between, or was not there.
                Err(status)
                    if tracker_is_up
                        && before.iter().any(|before| world.expected(0) == *before && before.0.is_some()) =>
                {
                    world.broken(format!("the tracker does not answer: {status}"));
                }
                Err(_) => {}
            }
            rest(Duration::from_millis(300));
        }
    });
}

/// All that the tracker finds, asked over a connection of its own: the tracker may have been another one before.
pub(crate) async fn all_found(world: &World) -> Result<Vec<Found>, Status> {
    find_rows(&mut client(world.ground.tracker()), "*").await
}

fn compare(world: &World, slot: usize, expected: Option<bool>, found: &[Found], asked: Instant) {
    let rows: BTreeMap<&str, &Found> =
        found.iter().filter(|row| world.slot_of(&row.path) == Some(slot)).map(|row| (row.path.as_str(), row)).collect();
    for row in rows.values() {
        let right = world.content_of(&row.path).map(|content| world.id(content));
        if right.is_none_or(|id| id.bytes()[..] != row.content) {
            world.broken(format!("peer-{slot}: {} is found with another content", row.path));
        }
    }
    match expected {
        Some(false) if !rows.is_empty() => {
            let slot_is = world.slot(slot);
            world.broken(format!(
                "peer-{slot} is {:?} for {:.1?} and found with {} files",
                slot_is.state,
                slot_is.since.elapsed(),
                rows.len()
            ));
        }
        Some(true) => {
            let place = world.slot(slot);
            let long = |since: &Instant| asked.saturating_duration_since(*since) > NEWS;
            let missing: Vec<_> =
                place.files.iter().filter(|(path, since)| long(since) && !rows.contains_key(path.as_str())).collect();
            if let Some((path, _)) = missing.first() {
                let (lack, have) = (missing.len(), place.files.len());
                let since = place.since.elapsed();
                world.broken(format!(
                    "peer-{slot} lives, undisturbed for {since:.1?}, and {lack} of its {have} files are not found: {path}"
                ));
            }
            let gone = |path: &str| place.removed.get(path).is_some_and(long);
            if let Some(path) = rows.keys().find(|path| gone(path)) {
                world.broken(format!("peer-{slot}: {path} was removed and is found"));
            }
        }
        _ => {}
    }
}

/// 7: who has not a peer's token changes nothing of it. That it has not is seen by the searches.
pub(crate) fn strangers(world: &World) {
    block_on(async {
        let mut dice = world.dice(PEERS + 1);
        while !world.is_over() {
            rest(Duration::from_secs(1));
            let slot = dice.below(PEERS);
            let Some(epoch) = world.firm(slot) else { continue };
            let token: Vec<u8> = (0..dice.below(100)).map(|_| dice.below(256) as u8).collect();
            let mut stranger = client(world.ground.tracker());
            let join = JoinRequest {
                peer_id: format!("peer-{slot}"),
                identity: vec![7; 32],
                port: 9,
                ..JoinRequest::default()
            };
            let results = [
                stranger.renew(RenewRequest { token: token.clone() }).await.map(drop),
                stranger
                    .announce(AnnounceRequest { token: token.clone(), ..AnnounceRequest::default() })
                    .await
                    .map(drop),
                stranger.leave(LeaveRequest { token }).await.map(drop),
                stranger.join(join).await.map(drop),
            ];
            let is_refused = |result: &Result<(), Status>| {
                result
                    .as_ref()
                    .is_err_and(|status| !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded))
            };
            if world.firm(slot) == Some(epoch) && !results.iter().all(is_refused) {
                world.broken(format!("peer-{slot}: a stranger's calls were not refused: {results:?}"));
            }
            world.count("strangers' tries");
        }
    });
}

fn rest(time: Duration) {
    thread::sleep(time);
}
