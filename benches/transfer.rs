//! How fast files go out and in, what that costs, and what others take for the same: nginx with
//! sendfile for a GET, `curl -o f URL && sync f` for a get.
//!
//! Speeds of a machine drift by up to 2x while other things run on it, so whatever has a target is
//! measured in pairs, one right after the other and each first in turn, and the target is on the
//! median of the pairs' ratios. `make bench` runs this on the static binaries that are shipped.

mod clients;
mod link;
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use clients::*;
use link::*;
use report::{Report, median};
use support::*;

const GIB: u64 = 1 << 30;
const MB: f64 = 1e6;
/// Pairs whose median counts; odd, so that the median is one of them. A get costs the disk seconds.
const GET_PAIRS: usize = 7;
/// The same for gets of 2 GiB in memory; even: each is first in as many.
const LARGE_PAIRS: usize = 16;
/// GETs come from memory; at a load of 6 on two cores, the CPU of 7 such pairs spread from 0.6 to 1.6.
const SERVE_PAIRS: usize = 15;
/// GETs in one measurement: /proc counts CPU in hundredths of a second, and one GET takes some 20.
const GETS: usize = 3;
/// Bytes that come over a link of 100 Mbit/s, whose round trips these are; and pairs.
const FAR_BYTES: u64 = 64 << 20;
const FAR_TRIPS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
const FAR_PAIRS: usize = 3;

fn main() -> ExitCode {
    let mut report = Report::new("make bench");
    // In memory, and before the system keeps what others had on disk there.
    gets_from_four(&mut report);
    // On the checkout's disk: the system's folder for temporary files may be memory.
    let disk = Folder::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let share = disk.join("share");
    fs::create_dir(&share).expect("a folder");
    random_file(&share.join("big.bin"), GIB);
    fs::write(share.join("small.txt"), noise(1, 1024)).expect("a small file");

    let tracker = tracker(&[]);
    let started = Instant::now();
    let seed = peer("seed", &share, tracker.address, &[]);
    is_shared(&seed, "big.bin");
    report.plain("hashing at the start of a share", GIB as f64 / MB / seconds(started), "MB/s");

    match Nginx::start(&disk.join("nginx"), &share) {
        Ok(nginx) => gets_beside_nginx(&mut report, &seed, &nginx.0),
        Err(why) => report.skipped("GET beside nginx", &why),
    }
    small_gets(&report, "a peer", seed.address, "/files/small.txt");
    gets_beside_curl(&mut report, &disk, &seed, tracker.address);
    drop(seed);

    fs::remove_file(share.join("big.bin")).expect("the file is ours");
    random_file(&share.join("huge.bin"), 2 * GIB);
    memory_of_a_get(&mut report, &disk, &share, tracker.address);
    gets_from_afar(&mut report);
    memory_of_uploads(&mut report, &disk, &share.join("huge.bin"), tracker.address);
    report.end()
}

/// What some GETs were, seen from outside and from the server.
struct Gets {
    bytes_per_second: f64,
    cpu_seconds: f64,
}

/// A GET of 1 GiB from the page cache by curl: the peer's throughput and CPU in terms of nginx's.
fn gets_beside_nginx(report: &mut Report, seed: &Process, nginx: &Process) {
    let run = |server: &Process, path: &str| {
        let before = server.cpu_seconds();
        let url = format!("http://{}{path}", server.address);
        let seconds: f64 = (0..GETS).map(|_| curl(&["-o", "/dev/null", &url])).sum();
        let bytes_per_second = GETS as f64 * GIB as f64 / seconds;
        Gets { bytes_per_second, cpu_seconds: server.cpu_seconds() - before }
    };
    let from_seed = || run(seed, "/files/big.bin");
    let from_nginx = || run(nginx, "/big.bin");
    // The first of each pays for what later ones find warm.
    from_seed();
    from_nginx();
    let pairs = pairs(SERVE_PAIRS, from_seed, from_nginx);
    let of = |figure: fn(&(Gets, Gets)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
    report.plain("GET 1 GiB by curl: a peer", median(of(|(peer, _)| peer.bytes_per_second)) / MB, "MB/s");
    report.plain(
        "GET 1 GiB by curl: nginx with sendfile",
        median(of(|(_, nginx)| nginx.bytes_per_second)) / MB,
        "MB/s",
    );
    let throughputs = of(|(peer, nginx)| peer.bytes_per_second / nginx.bytes_per_second);
    report.pairs_at_least("GET 1 GiB: throughput, nginx = 1", throughputs, 0.95);
    let costs = of(|(peer, nginx)| peer.cpu_seconds / nginx.cpu_seconds);
    report.pairs_at_most("GET 1 GiB: server CPU, nginx = 1", costs, 1.0);
    small_gets(report, "nginx", nginx.address, "/small.txt");
}

/// What a `get` does (fetch, verify, fsync, publish) beside what a careful person does with curl.
fn gets_beside_curl(report: &mut Report, disk: &Folder, seed: &Process, tracker: SocketAddr) {
    let folder = disk.join("getter");
    fs::create_dir(&folder).expect("a folder");
    let copy = disk.join("copy.bin");
    let url = format!("http://{}/files/big.bin", seed.address);
    let mut getter = peer("getter", &folder, tracker, &[]);
    getter.joined();

    let get = || {
        let seconds = time_get_of(&mut getter, &folder.join("big.bin"));
        run_to_end(Command::new("sync"));
        GIB as f64 / seconds
    };
    let by_curl = || {
        let started = Instant::now();
        curl(&["-o", copy.to_str().expect("the path is UTF-8"), &url]);
        run_to_end({
            let mut sync = Command::new("sync");
            sync.arg(&copy);
            sync
        });
        let seconds = seconds(started);
        fs::remove_file(&copy).expect("it was fetched");
        run_to_end(Command::new("sync"));
        GIB as f64 / seconds
    };
    let pairs = pairs(GET_PAIRS, get, by_curl);
    let of = |figure: fn(&(f64, f64)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
    report.plain("get 1 GiB", median(of(|(get, _)| *get)) / MB, "MB/s");
    report.plain("curl -o f URL && sync f, 1 GiB", median(of(|(_, curl)| *curl)) / MB, "MB/s");
    report.pairs_at_least("get 1 GiB: throughput, curl and sync = 1", of(|(get, curl)| get / curl), 0.8);
}

/// Peak memory of both ends of a get of 2 GiB. Both are started for it, and the one that offers the
/// file hashes it first, so this is their peak over all that.
fn memory_of_a_get(report: &mut Report, disk: &Folder, share: &Path, tracker: SocketAddr) {
    let folder = disk.join("getter-2");
    fs::create_dir(&folder).expect("a folder");
    let seed = peer("seed-2", share, tracker, &[]);
    is_shared(&seed, "huge.bin");
    let mut getter = peer("getter-2", &folder, tracker, &[]);
    getter.joined();
    let seconds = time_get(&mut getter, "huge.bin");
    report.plain("get 2 GiB", 2.0 * GIB as f64 / MB / seconds, "MB/s");
    report.at_most("get 2 GiB: peak memory, giving", seed.memory("VmHWM") / MB, 16.0, "MB");
    report.at_most("get 2 GiB: peak memory, getting", getter.memory("VmHWM") / MB, 16.0, "MB");
    drop(getter);
    fs::remove_dir_all(folder).expect("the folder is ours");
}

/// A get of 2 GiB from four sources beside one from a single source, each in a swarm of its own.
fn gets_from_four(report: &mut Report) {
    let memory = Folder::below(Path::new(MEMORY));
    let huge = memory.join("huge.bin");
    random_file(&huge, 2 * GIB);
    let mut swarms = [1, 4].map(|sources| {
        let tracker = tracker(&[]);
        let seeds: Vec<_> = (0..sources)
            .map(|number| {
                let folder = memory.join(format!("seed-{number}-of-{sources}"));
                fs::create_dir(&folder).expect("a folder");
                fs::hard_link(&huge, folder.join("huge.bin")).expect("one file system");
                let seed = peer(&format!("seed-{number}"), &folder, tracker.address, &[]);
                is_shared(&seed, "huge.bin");
                seed
            })
            .collect();
        let folder = memory.join(format!("getter-of-{sources}"));
        fs::create_dir(&folder).expect("a folder");
        let getter = peer("getter", &folder, tracker.address, &[]);
        getter.joined();
        (tracker, seeds, getter, folder)
    });
    let [from_one, from_four] = &mut swarms;
    let get = |getter: &mut Process, folder: &Path| {
        warm_memory(2 * GIB);
        2.0 * GIB as f64 / time_get_of(getter, &folder.join("huge.bin"))
    };
    let pairs = pairs(LARGE_PAIRS, || get(&mut from_four.2, &from_four.3), || get(&mut from_one.2, &from_one.3));
    let of = |figure: fn(&(f64, f64)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
    report.plain("get 2 GiB from one source", median(of(|(_, one)| *one)) / MB, "MB/s");
    report.plain("get 2 GiB from four sources", median(of(|(four, _)| *four)) / MB, "MB/s");
    let ratios = of(|(four, one)| four / one);
    report.pairs_at_least("get 2 GiB: four sources, one = 1", ratios, 0.95);
}

/// A get from a single source behind a link with a round trip, beside one by curl.
fn gets_from_afar(report: &mut Report) {
    for trip in FAR_TRIPS {
        let memory = Folder::below(Path::new(MEMORY));
        let [share, folder] = ["share", "getter"].map(|name| memory.join(name));
        [&share, &folder].iter().for_each(|folder| fs::create_dir(folder).expect("a folder"));
        random_file(&share.join("far.bin"), FAR_BYTES);
        let tracker = tracker(&["--allow-advertise"]);
        let far = peer("far", &share, tracker.address, &["--advertise", &NEAR.to_string()]);
        slow_link(far.address, trip);
        is_shared(&far, "far.bin");
        let mut getter = peer("getter", &folder, tracker.address, &[]);
        getter.joined();
        let url = format!("http://{NEAR}:{}/files/far.bin", far.address.port());
        let fetched = folder.join("far.bin");
        let ratios = pairs(FAR_PAIRS, || time_get_of(&mut getter, &fetched), || curl(&["-o", "/dev/null", &url]));
        let ratios = ratios.iter().map(|(get, curl)| get / curl).collect();
        let what = format!("get 64 MiB over 100 Mbit/s, {} ms there and back: time, curl = 1", trip.as_millis());
        report.pairs_at_most(&what, ratios, 1.15);
    }
}

/// Peak memory of a peer during uploads of 2 GiB, both ways.
fn memory_of_uploads(report: &mut Report, disk: &Folder, file: &Path, tracker: SocketAddr) {
    let file = file.to_str().expect("the path is UTF-8");
    let uploads: [(&str, &[&str], &str); 2] =
        [("-T", &["-T", file], "/files/"), ("-F", &["-F", &format!("file=@{file}")], "/upload")];
    for (way, args, route) in uploads {
        let folder = disk.join("uploads");
        fs::create_dir(&folder).expect("a folder");
        // An id of its own: a killed peer's is taken until its lease ends.
        let receiver = peer(&format!("receiver{way}"), &folder, tracker, &[]);
        let url = format!("http://{}{route}", receiver.address);
        let seconds = curl(&[args, &["-o", "/dev/null", &url]].concat());
        report.plain(&format!("upload 2 GiB by curl {way}"), 2.0 * GIB as f64 / MB / seconds, "MB/s");
        report.at_most(&format!("upload 2 GiB by curl {way}: peak memory"), receiver.memory("VmHWM") / MB, 16.0, "MB");
        drop(receiver);
        fs::remove_dir_all(folder).expect("the folder is ours");
    }
}

/// Small GETs on four kept connections, for information.
fn small_gets(report: &Report, who: &str, server: SocketAddr, path: &str) {
    const CONNECTIONS: usize = 4;
    const TIME: Duration = Duration::from_secs(3);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let latencies: Vec<f64> = thread::scope(|scope| {
        let client = || {
            let mut connection = Connection::open(server);
            let started = Instant::now();
            let mut latencies = Vec::new();
            while started.elapsed() < TIME {
                let asked = Instant::now();
                connection.send(&request).expect("the server reads");
                assert_eq!(connection.answer().expect("the server answers").status, 200);
                latencies.push(seconds(asked));
            }
            latencies
        };
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    });
    report.plain(&format!("GET 1 KiB, 4 kept connections: {who}"), latencies.len() as f64 / TIME.as_secs_f64(), "/s");
    report.plain(&format!("GET 1 KiB: median latency, {who}"), median(latencies) * 1e6, "us");
}

fn run_to_end(mut command: Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// nginx with sendfile in one process, serving a folder on a free port.
struct Nginx(Process);

impl Nginx {
    fn start(folder: &Path, root: &Path) -> Result<Self, String> {
        let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(|path| {
            let version = Command::new(path).arg("-v").stderr(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        });
        let nginx = found.ok_or("nginx is not installed")?;
        fs::create_dir(folder).map_err(|error| error.to_string())?;
        let address = free_address();
        let (here, root) = (folder.display(), root.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path \"{here}/{what}\";\n"))
            .concat();
        // `master_process off`: one process serves, so its CPU is all there is to count.
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid \"{here}/pid\";\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000;\n{temporary}\
             server {{ listen {address}; root \"{root}\"; }}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).map_err(|error| error.to_string())?;
        let mut command = Command::new(nginx);
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(file);
        let mut process = Process::spawn("nginx", command);
        process.address = address;
        wait_for(PATIENCE, "nginx listens", || TcpStream::connect(address).is_ok());
        Ok(Self(process))
    }
}
