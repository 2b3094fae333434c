//! How closely limits on rates are obeyed over ten seconds, alone and shared. `make bench` runs this on
//! the static binaries that are shipped.

mod clients;
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    thread,
    time::Instant,
};

use clients::*;
use report::Report;
use support::*;

/// Bytes a second, and how a person writes that.
const RATES: [(u64, &str); 2] = [(5 << 20, "5M"), (20 << 20, "20M")];
/// What each measurement lasts, in seconds.
const TIME: u64 = 10;
/// Nobody listens there: no `get` finds a peer that was told of it.
const NO_TRACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
/// Those who share a limit.
const TOGETHER: u64 = 4;

fn main() -> ExitCode {
    let mut report = Report::new("make bench");
    let disk = Folder::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let tracker = tracker(&[]);
    for (rate, text) in RATES {
        let name = format!("{text}.bin");
        let bytes = rate * TIME;
        let share = disk.join(text);
        fs::create_dir(&share).expect("a folder");
        random_file(&share.join(&name), bytes);
        let seed = |id: &str, tracker, args: &[&str]| {
            let seed = peer(&format!("{id}-{text}"), &share, tracker, args);
            is_shared(&seed, &name);
            seed
        };
        let limited = seed("limited", NO_TRACKER, &["--upload-limit", text]);
        let address = limited.address;
        let mut row = |what: &str, seconds: f64| {
            report.within(&format!("{what}, of its limit ({text})"), bytes as f64 / seconds / rate as f64, 1.0, 0.05);
        };
        row("upload to a curl", curl(&["-o", "/dev/null", &format!("http://{address}/files/{name}")]));
        row("upload to four curls at once", seconds_of_curls(address, &name, bytes));
        drop(limited);
        let _seed = seed("free", tracker.address, &[]);
        let folder = Folder::below(disk.path());
        let mut getter = peer(&format!("getter-{text}"), folder.path(), tracker.address, &["--download-limit", text]);
        getter.joined();
        row("get", time_get(&mut getter, &name));
    }
    report.end()
}

/// Seconds that some curls take which fetch one part each.
fn seconds_of_curls(address: SocketAddr, name: &str, bytes: u64) -> f64 {
    let url = format!("http://{address}/files/{name}");
    let part = bytes / TOGETHER;
    let began = Instant::now();
    thread::scope(|scope| {
        for number in 0..TOGETHER {
            let range = format!("{}-{}", number * part, (number + 1) * part - 1);
            let url = &url;
            scope.spawn(move || curl(&["-o", "/dev/null", "-r", &range, url]));
        }
    });
    seconds(began)
}
