//! A download under way: what is verified is given on, and nothing else.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use enjambre::limits;
use support::*;

#[test]
fn a_peer_still_downloading_gives_the_pieces_it_has_verified_and_no_others() {
    const PIECE: usize = 32 << 10;
    let tracker = tracker(&[]);
    let (seed_folder, folder) = (Folder::new(), Folder::new());
    let bytes = noise(21, 40 * PIECE + 17);
    let id = blake3::hash(&bytes).to_string();
    seed_folder.write("f.bin", &bytes);
    // The seed is known to the tracker by the proxy's port only.
    let seed = peer("hidden", seed_folder.path(), "127.0.0.1:1".parse().unwrap(), &[]);
    wait_for(PATIENCE, "the file is shared", || get(seed.address, "/files/f.bin").status == 200);
    let proxy = Proxy::start(seed.address);
    proxy.allow(10 * PIECE + PIECE / 2);
    let mut victim = peer("victim", folder.path(), tracker.address, &[]);
    victim.joined();
    block_on(announce(tracker.address, "seed", proxy.address.port(), "f.bin", &bytes));
    victim.send("get f.bin");

    let have = |since: usize| get(victim.address, &format!("/content/{id}/have?since={since}"));
    let held = || have(0).header("enjambre-have").map(str::to_owned);
    // Two requests are in flight, so the last bytes let through may be halves of two pieces.
    let is_used_up = || proxy.allowance() < 1024;
    let numbers = wait_for_some(PATIENCE, "some pieces are here and no more come", || {
        let numbers = have(0).body;
        (is_used_up() && have(numbers.len() / 2).body.is_empty()).then_some(numbers)
    });
    assert_eq!(have(7).body, numbers[14..]);
    let gained: Vec<usize> =
        numbers.as_chunks::<2>().0.iter().map(|number| u16::from_be_bytes(*number).into()).collect();
    let count = gained.len();
    assert!((9..=10).contains(&count), "{count}");
    // Nothing is new: the answer takes its time, and says so.
    let asked = Instant::now();
    let nothing = have(count);
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
    assert!(asked.elapsed() >= Duration::from_millis(400), "it did not wait for news");

    // At a turn that is free it takes none, but for news and then a turn it does.
    wait_for(PATIENCE, "a turn that is free is given at once", || {
        let asked = Instant::now();
        let turn = get(victim.address, &format!("/content/{id}/have?since={count}&turn"));
        assert_eq!((turn.status, turn.body.len()), (200, 0));
        asked.elapsed() < Duration::from_millis(250)
    });
    let asked = Instant::now();
    assert_eq!(get(victim.address, &format!("/content/{id}/have?since={count}&then-turn")).status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(400), "it did not wait for news");
    for wrong in ["since=0&turns", "since=0&turn=1", "turn&since=0", "since=0&turn&turn"] {
        assert_eq!(get(victim.address, &format!("/content/{id}/have?{wrong}")).status, 400, "{wrong}");
    }

    assert!(
        get(victim.address, &format!("/content/{id}/pieces")).body
            == get(seed.address, &format!("/content/{id}/pieces")).body
    );
    let content = format!("/content/{id}");
    let is_here = |piece: usize| gained.contains(&piece);
    for piece in 0..=40 {
        let (start, end) = (piece * PIECE, bytes.len().min((piece + 1) * PIECE));
        for (range, is_here) in [
            (start..start + 1, is_here(piece)),
            (start..end, is_here(piece)),
            (end - 1..end, is_here(piece)),
            (start..bytes.len().min(end + 1), is_here(piece) && (piece == 40 || is_here(piece + 1))),
        ] {
            let header = format!("bytes={}-{}", range.start, range.end - 1);
            let answer = request(victim.address, "GET", &content, &[("Range", &header)], b"");
            if is_here {
                assert!(answer.status == 206 && answer.body == bytes[range], "{header}: {}", answer.status);
            } else {
                assert_eq!((answer.status, answer.header("retry-after")), (404, Some("1")), "{header}");
            }
        }
    }
    // An answer with bytes tells the news as well.
    let start = gained[0] * PIECE;
    let header = format!("bytes={start}-{start}");
    let since = format!("{content}?since={}", count - 2);
    let answer = request(victim.address, "GET", &since, &[("Range", &header)], b"");
    let (have_all, news) = (format!("{count}/41"), format!("{},{}", gained[count - 2], gained[count - 1]));
    assert_eq!(answer.header("enjambre-have"), Some(have_all.as_str()));
    assert_eq!(answer.header("enjambre-news"), Some(news.as_str()));
    // Nobody asks for a script by ranges.
    assert_eq!((answer.header("x-content-type-options"), answer.header("cache-control")), (None, None));
    assert_eq!(get(victim.address, &content).status, 404, "the whole is not here");
    assert_eq!(get(victim.address, &format!("{content}/fresh")).status, 404, "who downloads is no seed");
    assert_eq!(get(victim.address, "/files/f.bin").status, 404);
    // Who is given bytes while others are is told that those who want more wait for their turn. It is over in a moment.
    let busy = format!("{have_all}; busy");
    wait_for(PATIENCE, "an answer says that others are served", || {
        let ask = || request(victim.address, "GET", &since, &[("Range", &header)], b"");
        (0..limits::TURNS).for_each(|_| drop(ask()));
        ask().header("enjambre-have") == Some(&busy)
    });
    assert_eq!(get(victim.address, &format!("/content/{id}/have?since={count}&turn")).status, 200);

    // The rest comes, and whoever waits for news has it at once.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| have(count));
        proxy.allow(usize::MAX / 2);
        let news = waiting.join().unwrap();
        assert!(!news.body.is_empty() || news.header("enjambre-have") == Some("all"), "{news:?}");
    });
    wait_for(PATIENCE, "all is here", || held().as_deref() == Some("all"));
    assert!(get(victim.address, &content).body == bytes);
    let whole = get(victim.address, &format!("{content}?since=0"));
    assert_eq!((whole.header("enjambre-have"), whole.header("x-content-type-options")), (Some("all"), Some("nosniff")));
    assert!(folder.read("f.bin").unwrap() == bytes);
}
