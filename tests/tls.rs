//! TLS: a swarm works under it as without, and nobody of another swarm, nor an end of it without TLS, is taken for one
//! of its own.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "tls")]

mod support;

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use enjambre::limits;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use support::*;

const HERE: &str = "127.0.0.1";
const SECRET: &str = "0123456789abcdef-0123456789ABCDEF";

/// Nobody listens there; a peer serves all the same.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

fn secured_tracker(certificates: &Certificates, more: &[&str]) -> Process {
    tracker(&[&strs(&certificates.flags(HERE)), more].concat())
}

fn secured_peer(certificates: &Certificates, id: &str, folder: &Path, tracker: SocketAddr, more: &[&str]) -> Process {
    peer(id, folder, tracker, &[&strs(&certificates.flags(HERE)), more].concat())
}

/// Runs curl, which trusts this authority.
fn curl(certificates: &Certificates, args: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "20", "-w", "%{stderr}%{http_code}", "--cacert"]);
    command.arg(certificates.path("ca.crt")).args(args);
    run(command, "")
}

/// A client of TLS, for what curl does not do.
fn client(certificates: &Certificates, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let ca = CertificateDer::from_pem_file(certificates.path("ca.crt")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(HERE).unwrap()).unwrap();
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, stream)
}

/// What a process proves itself by just now.
fn certificate(certificates: &Certificates, of: SocketAddr) -> Vec<u8> {
    let mut client = client(certificates, of);
    client.conn.complete_io(&mut client.sock).unwrap();
    client.conn.peer_certificates().unwrap()[0].to_vec()
}

fn certificate_file(certificates: &Certificates, file: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(certificates.path(file)).unwrap().to_vec()
}

/// Who takes connections and passes them on, so many bytes back at most, and then cuts them.
fn cutting_proxy(to: SocketAddr, bytes: u64) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            let (mut upwards, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut upwards, &mut into));
            let _ = io::copy(&mut (&server).take(bytes), &mut &client);
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = server.shutdown(std::net::Shutdown::Both);
        }
    });
    address
}

#[test]
fn a_swarm_with_tls_and_a_secret_takes_finds_and_fetches_as_without() {
    // The name of the machine's certificate is not what peers know each other by.
    let certificates = Certificates::new(&["127.0.0.1,localhost", "elsewhere.example"]);
    let [here, elsewhere] = [HERE, "elsewhere.example"].map(|host| certificates.flags(host));
    let [tracked, given, gotten] = [(); 3].map(|()| Folder::new());
    let secret = tracked.write("secret", SECRET).display().to_string();
    let with_secret = ["--secret-file", secret.as_str()];
    let tracker = tracker(&[&strs(&here)[..], &with_secret].concat());
    let by_name = SocketAddr::new(tracker.address.ip(), tracker.address.port());
    let giver = peer("giver", given.path(), by_name, &[&strs(&here)[..], &with_secret].concat());
    let mut getter = peer("getter", gotten.path(), tracker.address, &[&strs(&elsewhere)[..], &with_secret].concat());
    let named = format!("localhost:{}", tracker.address.port());
    let third = Folder::new();
    let third_flags = [&strs(&elsewhere)[..], &with_secret].concat();
    let mut third = (peer_of("third", third.path(), &named, &third_flags), third);

    let (url, user) = (format!("https://{}", giver.address), format!(":{SECRET}"));
    let big = noise(1, 5_000_000);
    let file = tracked.write("big.bin", &big).display().to_string();
    let sent = curl(&certificates, &["-u", &user, "-T", &file, &format!("{url}/files/deep/")]);
    assert!(sent.err.contains("201") && sent.out.contains(&blake3::hash(&big).to_string()), "{sent:?}");
    let form = format!("file=@{}", tracked.write("small.txt", "hello").display());
    assert!(curl(&certificates, &["-u", &user, "-F", &form, &format!("{url}/upload")]).err.contains("201"));
    for number in 0..40 {
        given.write(format!("many/{number}.txt"), noise(number, 1000 + number as usize));
    }
    giver.joined();

    wait_for(PATIENCE, "all is found", || getter.search("*").len() == 42);
    getter.get("deep/big.bin").unwrap();
    assert_eq!(gotten.read("deep/big.bin").unwrap(), big);
    getter.get("small.txt").unwrap();
    assert_eq!(getter.ask("get 'many/*'").error(), None);
    for number in 0..40 {
        assert_eq!(gotten.read(format!("many/{number}.txt")), given.read(format!("many/{number}.txt")));
    }
    third.0.get("deep/big.bin").unwrap();
    assert_eq!(third.1.read("deep/big.bin").unwrap(), big);

    // As a person would; the name in the certificate counts for programs that know no swarms.
    let target = format!("{url}/files/deep/big.bin");
    let out = tracked.join("curled").display().to_string();
    assert!(curl(&certificates, &["-u", &user, "-o", &out, &target]).err.contains("200"));
    assert_eq!(tracked.read("curled").unwrap(), big);
    assert!(curl(&certificates, &["-u", &user, "-r", "7-11", "-o", &out, &target]).err.contains("206"));
    assert_eq!(tracked.read("curled").unwrap(), big[7..12]);
    assert!(curl(&certificates, &["-I", &format!("{url}/healthz")]).err.contains("200"));
    assert!(curl(&certificates, &["-o", &out, &target]).err.contains("401"));
    let at_another_name = format!("https://{}/healthz", getter.address);
    assert_eq!(curl(&certificates, &[&at_another_name]).code, Some(60), "the name is another's");
    assert_eq!(curl(&certificates, &["--tls-max", "1.2", &target]).code, Some(35));
    let other = Certificates::new(&[HERE]);
    assert_eq!(curl(&other, &[&target]).code, Some(60), "the authority is another");
}

#[test]
fn a_tracker_that_comes_back_is_joined_again_and_one_of_several_stands_in_for_another() {
    let certificates = Certificates::new(&[HERE]);
    let mut first = secured_tracker(&certificates, &["--lease", "2"]);
    let second = secured_tracker(&certificates, &["--lease", "2"]);
    let (given, gotten) = (Folder::new(), Folder::new());
    given.write("a.txt", "hello");
    let both = format!("{},{}", first.address, second.address);
    let flags = certificates.flags(HERE);
    let _giver = peer_of("giver", given.path(), &both, &strs(&flags));
    let mut getter = peer_of("getter", gotten.path(), &both, &strs(&flags));
    let _alone = secured_peer(&certificates, "alone", given_copy(&given).path(), first.address, &[]);
    getter.joined();
    first.kill();
    wait_for(PATIENCE, "another tracker stands in", || {
        let answer = getter.ask("search a.txt");
        answer.error().is_none() && answer.out.len() == 1
    });
    getter.get("a.txt").unwrap();
    let listen = first.address.to_string();
    let back = secured_tracker(&certificates, &["--lease", "2", "--listen", &listen]);
    back.wait_for_line(0, "who knows only that one is back", |line| {
        line.text.contains("join peer=alone").then_some(())
    });
}

/// Another share that holds the same.
fn given_copy(given: &Folder) -> Folder {
    let folder = Folder::new();
    folder.write("b.txt", given.read("a.txt").unwrap());
    folder
}

#[test]
fn trackers_that_share_an_etcd_do_so_under_tls_as_well() {
    let Some(etcd) = Etcd::start() else { return };
    let certificates = Certificates::new(&[HERE]);
    let store = etcd.store();
    let [one, other] = [(); 2].map(|()| secured_tracker(&certificates, &["--store", &store]));
    let (given, gotten) = (Folder::new(), Folder::new());
    given.write("a.txt", "hello");
    let _giver = secured_peer(&certificates, "giver", given.path(), one.address, &[]);
    let mut getter = secured_peer(&certificates, "getter", gotten.path(), other.address, &[]);
    wait_for(PATIENCE, "it is found at the other tracker", || getter.search("a.txt").len() == 1);
    getter.get("a.txt").unwrap();
    assert_eq!(gotten.read("a.txt").unwrap(), b"hello");
}

#[test]
fn a_source_of_another_authority_is_given_no_request() {
    let (ours, theirs) = (Certificates::new(&[HERE]), Certificates::new(&[HERE]));
    let tracker = secured_tracker(&ours, &[]);
    // It believes both authorities, so it may join; its own certificate is from the other one.
    let both = Folder::new();
    let bundle = [&ours, &theirs].map(|certificates| fs::read(certificates.path("ca.crt")).unwrap()).concat();
    let bundle = both.write("ca.crt", bundle).display().to_string();
    let mut flags = theirs.flags(HERE);
    flags[5] = bundle;
    let (given, gotten) = (Folder::new(), Folder::new());
    given.write("a.txt", "hello");
    let stranger = peer("stranger", given.path(), tracker.address, &strs(&flags));
    stranger.joined();
    let mut getter = secured_peer(&ours, "getter", gotten.path(), tracker.address, &[]);
    wait_for(PATIENCE, "it is found", || getter.search("a.txt").len() == 1);
    let error = getter.get("a.txt").unwrap_err();
    assert!(error.contains("a certificate that is not from the authority of --tls-ca"), "{error}");
    assert_eq!(gotten.read("a.txt"), None);
}

#[test]
fn who_is_no_tracker_of_this_swarm_is_told_apart_and_what_to_do_is_said() {
    let ours = Certificates::new(&[HERE, "10.0.0.1"]);
    let theirs = Certificates::new(&[HERE]);
    ours.make(&["old,127.0.0.1"], -1);
    let folder = Folder::new();
    let says = |flags: &[String], tracker: SocketAddr, what: &str| {
        let peer = peer("p", folder.path(), tracker, &strs(flags));
        peer.wait_for_line(0, what, |line| (line.text.contains("is away (") && line.text.contains(what)).then_some(()));
    };
    let secured = secured_tracker(&ours, &[]);
    says(&theirs.flags(HERE), secured.address, "it has a certificate that is not from the authority of --tls-ca");
    says(&[], secured.address, "this tracker speaks TLS: give a peer --tls-cert, --tls-key and --tls-ca");
    let plain = tracker(&[]);
    says(&ours.flags(HERE), plain.address, "it does not speak TLS: start it with --tls-cert, --tls-key and --tls-ca");
    let elsewhere = tracker(&strs(&ours.flags("10.0.0.1")));
    says(&ours.flags(HERE), elsewhere.address, "it has a certificate for other names than it was called by");
    // Ours would not start with it.
    let old = OpensslServer::start(&ours, "old");
    says(&ours.flags(HERE), old.0.address, "it has a certificate whose time is over");
    // A name is one of no tracker that only peers have.
    assert!(secured.lines().iter().all(|line| !line.text.contains("join")));
}

/// What speaks TLS and nothing else.
struct OpensslServer(Process);

impl OpensslServer {
    fn start(certificates: &Certificates, host: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-quiet", "-alpn", "h2", "-cert"]);
        command.arg(certificates.path(&format!("{host}.crt"))).arg("-key");
        command.arg(certificates.path(&format!("{host}.key")));
        let mut server = Process::spawn("openssl", command);
        // With -quiet it does not say where it listens; the kernel does.
        let id = server.id();
        server.address = wait_for_some(PATIENCE, "openssl listens", || listening(id));
        Self(server)
    }
}

/// The loopback port on which a process listens, by /proc.
fn listening(process: u32) -> Option<SocketAddr> {
    let sockets = fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
    let inodes: Vec<_> = sockets
        .filter_map(|socket| fs::read_link(socket.path()).ok()?.to_str()?.strip_prefix("socket:[").map(str::to_owned))
        .map(|inode| inode.trim_end_matches(']').to_owned())
        .collect();
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.split_once(':')?;
        let is_it = *fields.get(3)? == "0A" && inodes.iter().any(|inode| fields.get(9) == Some(&inode.as_str()));
        is_it.then(|| u16::from_str_radix(port, 16).ok().map(|port| (Ipv4Addr::LOCALHOST, port).into()))?
    })
}

#[test]
fn a_port_says_whether_it_speaks_tls() {
    let certificates = Certificates::new(&[HERE]);
    let folder = Folder::new();
    let secured = secured_peer(&certificates, "secured", folder.path(), NO_TRACKER, &[]);
    let answer = get(secured.address, "/healthz");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("speaks TLS: ask it by https://"), "{}", answer.text());
    // So do its hints.
    for request in [&["-X", "PUT", "/"][..], &["-X", "POST", "/nowhere"]] {
        let (path, rest) = request.split_last().unwrap();
        let told = curl(&certificates, &[rest, &[&format!("https://{}{path}", secured.address)]].concat());
        assert!(told.out.contains("https://HOST:PORT/") && !told.out.contains("http://"), "{told:?}");
    }
    let other = Folder::new();
    let plain = peer("plain", other.path(), NO_TRACKER, &[]);
    let began = Instant::now();
    assert_eq!(curl(&certificates, &[&format!("https://{}/healthz", plain.address)]).code, Some(35));
    let mut hello = Connection::open(plain.address);
    hello.send([&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat()).unwrap();
    let answer = hello.answer().unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("speaks no TLS: ask it by http://"), "{}", answer.text());
    assert!(began.elapsed() < limits::HEAD_TIME, "nobody waits for the end of a head");
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_the_start() {
    let certificates = Certificates::new(&[HERE, "other"]);
    certificates.make(&["old"], -1);
    let foreign = Certificates::new(&[HERE]);
    let folder = Folder::new();
    let empty = folder.write("empty", "");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    let empty = empty.display().to_string();
    // One that a good authority made, and not for a swarm.
    let stray = folder.join("stray").display().to_string();
    let mut openssl = Command::new("sh");
    openssl.arg("-c").arg(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stray -keyout \"$0.key\" \
         -out \"$0.csr\" && printf 'subjectAltName=IP:127.0.0.1' >\"$0.conf\" && openssl x509 -req -days 9 \
         -in \"$0.csr\" -CA \"$1/ca.crt\" -CAkey \"$1/ca.key\" -CAcreateserial -extfile \"$0.conf\" -out \"$0.crt\"",
    );
    openssl.arg(&stray).arg(certificates.path("."));
    assert_eq!(run(openssl, "").code, Some(0));
    let file = |name: &str| certificates.path(name).display().to_string();
    let good = certificates.flags(HERE);
    let with = |changes: &[(usize, &str)]| {
        let mut flags = good.clone();
        changes.iter().for_each(|(at, value)| flags[*at] = (*value).to_owned());
        flags
    };
    let foreign_ca = foreign.path("ca.crt").display().to_string();
    let [stray_cert, stray_key] = ["crt", "key"].map(|kind| format!("{stray}.{kind}"));
    let cases = [
        (good[..2].to_vec(), "here is no --tls-key and --tls-ca"),
        (good[2..].to_vec(), "here is no --tls-cert"),
        (with(&[(1, "/none")]), "--tls-cert /none: No such file"),
        (with(&[(3, "/none")]), "--tls-key /none: No such file"),
        (with(&[(5, "/none")]), "--tls-ca /none: No such file"),
        (with(&[(1, &empty)]), "empty: holds no certificate in PEM"),
        (with(&[(3, &empty)]), "empty: holds no private key in PEM"),
        (with(&[(5, &empty)]), "empty: holds no certificate in PEM"),
        (with(&[(3, &file("other.key"))]), "other.key is not the key of --tls-cert"),
        (with(&[(5, &foreign_ca)]), "is not from the authority of --tls-ca"),
        (certificates.flags("old"), "its time is over"),
        (with(&[(1, &file("ca.crt")), (3, &file("ca.key"))]), "is the authority's own"),
    ];
    for (flags, part) in &cases {
        let mut peer = peer_command(["p", "0"]);
        peer.arg(folder.path()).args(flags);
        let mut tracker = tracker_command(["--listen", "127.0.0.1:0"]);
        tracker.args(flags);
        for command in [peer, tracker] {
            let ended = run(command, "");
            assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
            assert!(ended.err.starts_with("error: ") && ended.err.contains(part), "{flags:?}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        }
    }
    // A tracker may be called anything; a peer has to have the name of peers.
    let flags = with(&[(1, &stray_cert), (3, &stray_key)]);
    let mut command = peer_command(["p", "0"]);
    command.arg(folder.path()).args(&flags);
    let ended = run(command, "");
    assert!(ended.err.contains("peers know each other by the name peer.enjambre.internal"), "{ended:?}");
    tracker(&strs(&flags));
}

#[test]
fn an_answer_or_an_upload_that_is_cut_is_not_taken_for_whole() {
    let certificates = Certificates::new(&[HERE]);
    let folder = Folder::new();
    folder.write("big.bin", noise(1, 1_000_000));
    let peer = secured_peer(&certificates, "p", folder.path(), NO_TRACKER, &[]);
    let url = format!("https://{}/files/big.bin", peer.address);
    let out = folder.join(".out").display().to_string();
    wait_for(PATIENCE, "it is shared", || curl(&certificates, &["-o", &out, &url]).err.contains("200"));
    let proxy = cutting_proxy(peer.address, 300_000);
    let through = format!("{}:{proxy}", peer.address);
    let cut = curl(&certificates, &["-o", &out, "--connect-to", &through, &url]);
    assert!(matches!(cut.code, Some(18 | 56)), "{cut:?}");

    // Without a last chunk, whether the end of TLS is announced or not.
    for is_announced in [true, false] {
        let mut client = client(&certificates, peer.address);
        write!(
            client,
            "PUT /files/cut.txt HTTP/1.1\r\nHost: {HERE}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        )
        .unwrap();
        client.flush().unwrap();
        if is_announced {
            client.conn.send_close_notify();
            client.flush().unwrap();
        }
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(!answer.windows(5).any(|part| part == b" 201 "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(folder.read("cut.txt"), None);
    }

    // Who says that it sends no more is answered all the same.
    let mut client = client(&certificates, peer.address);
    write!(client, "GET /healthz HTTP/1.1\r\nHost: {HERE}\r\nConnection: close\r\n\r\n").unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the end is announced");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn who_does_not_come_to_terms_keeps_nobody_out_and_takes_little_memory() {
    let certificates = Certificates::new(&[HERE]);
    let folder = Folder::new();
    let peer = secured_peer(&certificates, "p", folder.path(), NO_TRACKER, &[]);
    let url = format!("https://{}/healthz", peer.address);
    assert!(curl(&certificates, &[&url]).err.contains("200"));
    let before = peer.memory("VmRSS");
    let began = Instant::now();
    // The head of a record, and half of what it says: of ten addresses, since each has its own part.
    let hello = [&[22, 3, 1, 0x20, 0, 1, 0, 0x1f, 0xfc, 3, 3][..], &[7; 4000]].concat();
    let mut open = Vec::new();
    for number in 0..2 * limits::CONNECTIONS {
        let from = Ipv4Addr::from_bits(0x7f03_0001 + (number % 10) as u32);
        let mut connection = Connection::open_from(from, peer.address).unwrap();
        let _ = connection.send(&hello);
        open.push(connection);
        if number % 100 == 99 {
            let asked = Instant::now();
            assert!(curl(&certificates, &[&url]).err.contains("200"));
            assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        }
    }
    let grown = peer.memory("VmRSS") - before;
    assert!(grown < 16e6, "{grown} bytes for {} handshakes", limits::CONNECTIONS);
    // Whoever drips is given no more time than who sends nothing.
    let last = open.last_mut().unwrap();
    wait_for(2 * limits::HEAD_TIME, "a handshake that goes on for ever is ended", || {
        thread::sleep(Duration::from_millis(200));
        last.send([7]).is_err()
    });
    assert!(began.elapsed() > limits::HEAD_TIME / 2, "not before its time");
    assert!(curl(&certificates, &[&url]).err.contains("200"));
}

#[test]
fn who_comes_when_all_connections_are_in_use_is_told_that_this_end_cancels() {
    let certificates = Certificates::new(&[HERE]);
    let folder = Folder::new();
    folder.write("big.bin", noise(1, 16 << 20));
    let peer = secured_peer(&certificates, "p", folder.path(), NO_TRACKER, &[]);
    let url = format!("https://{}/files/big.bin", peer.address);
    wait_for(PATIENCE, "it is shared", || curl(&certificates, &["-r", "0-0", &url]).err.contains("206"));
    // Each takes the head of an answer, and no more.
    let served = (0..limits::CONNECTIONS_PER_ADDRESS).map(|_| {
        let mut client = client(&certificates, peer.address);
        write!(client, "GET /files/big.bin HTTP/1.1\r\nHost: {HERE}\r\n\r\n").unwrap();
        client.read_exact(&mut [0; 15]).unwrap();
        client
    });
    let served: Vec<_> = served.collect();
    let mut late = Connection::open(peer.address);
    // `user_canceled` and `close_notify`, RFC 8446 section 6.1.
    assert_eq!(late.rest().unwrap(), [21, 3, 3, 0, 2, 1, 90, 21, 3, 3, 0, 2, 1, 0]);
    drop(served);
    wait_for(PATIENCE, "others are served again", || curl(&certificates, &["-r", "0-0", &url]).err.contains("206"));
}

#[test]
fn certificates_are_read_anew_when_they_change_and_on_a_signal_and_bad_ones_are_not_taken() {
    let certificates = Certificates::new(&[HERE]);
    let folder = Folder::new();
    let secured = |process: &Process| certificate(&certificates, process.address);
    let on_disk = || certificate_file(&certificates, "127.0.0.1.crt");
    let lines = |process: &Process, part: &str| process.lines().iter().filter(|line| line.text.contains(part)).count();
    let tracker = secured_tracker(&certificates, &[]);
    let mut peer = secured_peer(&certificates, "p", folder.path(), tracker.address, &[]);
    peer.joined();
    for process in [&tracker, &peer] {
        let first = on_disk();
        assert_eq!(secured(process), first);
        certificates.make(&[HERE], 30);
        assert_ne!(on_disk(), first);
        wait_for(PATIENCE, "the new one is shown", || secured(process) == on_disk());
        wait_for(PATIENCE, "that is told", || lines(process, "read anew") > 0);

        // On a signal, before anybody connects.
        let before = lines(process, "read anew");
        certificates.make(&[HERE], 30);
        process.signal(Signal::HUP);
        wait_for(PATIENCE, "the signal is heeded", || lines(process, "read anew") > before);
        assert_eq!(secured(process), on_disk());

        let good = [".crt", ".key"].map(|end| fs::read(certificates.path(&format!("{HERE}{end}"))).unwrap());
        let shown = secured(process);
        fs::write(certificates.path("127.0.0.1.crt"), "half of a cert").unwrap();
        wait_for(PATIENCE, "the bad one is told of", || {
            assert_eq!(secured(process), shown);
            lines(process, "certificates stay as they were: --tls-cert") > 0
        });
        let told = lines(process, "stay as they were");
        thread::sleep(limits::TLS_LOOK_TIME * 2);
        assert_eq!(secured(process), shown);
        assert_eq!(lines(process, "stay as they were"), told, "it is told once");
        certificates.make(&[HERE], -1);
        process.signal(Signal::HUP);
        wait_for(PATIENCE, "an old one is told of", || lines(process, "its time is over") > 0);
        assert_eq!(secured(process), shown);
        for (end, bytes) in [".crt", ".key"].iter().zip(&good) {
            fs::write(certificates.path(&format!("{HERE}{end}")), bytes).unwrap();
        }
        wait_for(PATIENCE, "the good one is back", || {
            assert_eq!(secured(process), shown);
            lines(process, "read anew") > before + 1
        });
    }
    // What was kept all the while still holds.
    assert!(peer.ask("search x").error().is_none());
}

#[test]
fn a_limit_on_uploads_holds_under_tls() {
    let certificates = Certificates::new(&[HERE]);
    let folder = Folder::new();
    folder.write("big.bin", noise(1, 3 << 20));
    let peer = secured_peer(&certificates, "p", folder.path(), NO_TRACKER, &["--upload-limit", "1M"]);
    let url = format!("https://{}/files/big.bin", peer.address);
    let out = folder.join(".out").display().to_string();
    let small = ["-r", "0-0", "-o", &out, &url];
    wait_for(PATIENCE, "it is shared", || curl(&certificates, &small).err.contains("206"));
    let began = Instant::now();
    assert!(curl(&certificates, &["-o", &out, &url]).err.contains("200"));
    let seconds = began.elapsed().as_secs_f64();
    assert!((2.5..6.0).contains(&seconds), "{seconds} s for 3 MiB at 1M");
    assert_eq!(folder.read(".out").unwrap(), folder.read("big.bin").unwrap());
}
