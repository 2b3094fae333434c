//! Two ends of real sockets, by certificates of the script that users have.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Role, Session, Stream, Tls, files::Files};

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority in a folder that goes away.
struct Authority(PathBuf);

impl Authority {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let authority = Self(std::env::temp_dir().join(format!("enjambre-tls-{}-{number}", std::process::id())));
        authority.certify("host");
        authority
    }

    fn certify(&self, host: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/certificates.sh");
        let made = Command::new(script).arg(host).env("FOLDER", &self.0).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn tls(&self) -> Result<Tls, String> {
        let path = |file| self.0.join(file).display().to_string();
        Tls::new(Files { cert: path("host.crt"), key: path("host.key"), ca: path("ca.crt") }, Role::Peer, crate::say)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Accepts one connection and does this with it, at an address.
fn other_end<T: Send + 'static>(
    work: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || work(listener.accept().unwrap().0)))
}

/// As a peer answers.
fn answered(tls: &Tls, stream: &TcpStream) -> Session {
    let mut session = tls.answer().unwrap();
    session.handshake(stream, PATIENCE).unwrap();
    session
}

fn connect(to: SocketAddr, tls: &Tls) -> io::Result<Stream> {
    Stream::connect(&to, PATIENCE, PATIENCE, Some(tls))
}

fn whole(mut stream: &TcpStream) -> impl FnMut(&[u8]) -> io::Result<()> + '_ {
    move |sealed| stream.write_all(sealed)
}

#[test]
fn what_is_sent_arrives_however_it_is_cut() {
    let tls = Authority::new().tls().unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
    let (expected, answering) = (sent.clone(), tls.clone());
    let (address, echo) = other_end(move |stream| {
        let mut session = answered(&answering, &stream);
        let mut got = Vec::new();
        let mut block = vec![0; 70_000];
        for size in (1..).step_by(977).map(|size| size % 70_000 + 1) {
            match session.read(&stream, &mut block[..size], PATIENCE).unwrap() {
                0 => break,
                read => got.extend_from_slice(&block[..read]),
            }
            if got.len() == expected.len() {
                break;
            }
        }
        assert!(got == expected);
        for part in got.chunks(100_003) {
            session.write(part, whole(&stream)).unwrap();
            session.rest();
        }
        session.close(whole(&stream)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let mut stream = connect(address, &tls).unwrap();
    for part in sent.chunks(54_321) {
        stream.write_all(part).unwrap();
    }
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    echo.join().unwrap();
}

#[test]
fn an_end_that_was_not_announced_is_an_error() {
    let tls = Authority::new().tls().unwrap();
    let answering = tls.clone();
    let (address, cut) = other_end(move |stream| {
        let mut session = answered(&answering, &stream);
        session.write(b"HTTP/1.0 200 OK\r\n\r\nall of it?", whole(&stream)).unwrap();
    });
    let mut got = Vec::new();
    let end = connect(address, &tls).unwrap().read_to_end(&mut got);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(got.ends_with(b"all of it?"));
    cut.join().unwrap();
}

#[test]
fn a_record_that_comes_in_drips_is_not_waited_for() {
    let tls = Authority::new().tls().unwrap();
    let answering = tls.clone();
    let (address, dripping) = other_end(move |stream| {
        let mut session = answered(&answering, &stream);
        let mut records = Vec::new();
        let keep = |sealed: &[u8]| {
            records.extend_from_slice(sealed);
            Ok(())
        };
        session.write(&[7; 16 << 10], keep).unwrap();
        let sent = |byte| (&stream).write_all(&[byte]).is_ok();
        records.into_iter().take_while(|byte| sent(*byte)).for_each(|_| thread::sleep(Duration::from_millis(20)));
    });
    let patience = Duration::from_millis(500);
    let mut stream = Stream::connect(&address, PATIENCE, patience, Some(&tls)).unwrap();
    let began = Instant::now();
    let read = stream.read(&mut [0; 100]);
    assert!(super::is_timeout(&read.unwrap_err()));
    assert!(began.elapsed() >= patience && began.elapsed() < PATIENCE);
    drop(stream);
    dripping.join().unwrap();
}

#[test]
fn a_handshake_that_comes_in_drips_is_not_waited_for() {
    let tls = Authority::new().tls().unwrap();
    let (address, dripping) = other_end(move |mut stream| {
        // The head of a record that would be long, and then its bytes.
        let _ = stream.write_all(&[22, 3, 3, 0x3f, 0]);
        while stream.write_all(&[2]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    let connected = Stream::connect(&address, Duration::from_millis(500), PATIENCE, Some(&tls));
    assert!(super::is_timeout(&connected.err().unwrap()));
    assert!(began.elapsed() < PATIENCE);
    dripping.join().unwrap();
}

#[test]
fn who_is_none_of_the_swarm_is_told_apart() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (tls, stranger) = (ours.tls().unwrap(), theirs.tls().unwrap());
    let (address, answering) = other_end(move |stream| stranger.answer().unwrap().handshake(&stream, PATIENCE));
    let error = connect(address, &tls).err().unwrap();
    assert_eq!(error.to_string(), "has a certificate that is not from the authority of --tls-ca");
    // It is told why, and so is not left to wonder.
    let error = answering.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("does not know the authority"), "{error}");

    let (address, answering) = other_end(move |mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error = connect(address, &tls).err().unwrap();
    assert_eq!(error.to_string(), "does not speak TLS: start it with --tls-cert, --tls-key and --tls-ca");
    answering.join().unwrap().unwrap();
}

#[test]
fn what_was_tampered_with_is_an_error() {
    let tls = Authority::new().tls().unwrap();
    let answering = tls.clone();
    let (address, tampering) = other_end(move |stream| {
        let mut session = answered(&answering, &stream);
        let tamper = |sealed: &[u8]| {
            let mut sealed = sealed.to_vec();
            *sealed.last_mut().unwrap() ^= 1;
            (&stream).write_all(&sealed)
        };
        session.write(b"hello", tamper).unwrap();
    });
    let mut stream = connect(address, &tls).unwrap();
    assert_eq!(stream.read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::InvalidData);
    tampering.join().unwrap();
}

#[test]
fn a_message_without_end_takes_bounded_memory() {
    let tls = Authority::new().tls().unwrap();
    let (address, sending) = other_end(move |mut stream| {
        // Records that are parts of one message of 16 MiB.
        let mut record = vec![22, 3, 3, 0x40, 0];
        record.resize(5 + 0x4000, 0);
        record[5..9].copy_from_slice(&[2, 0xff, 0xff, 0xff]);
        (0..1000).take_while(|_| stream.write_all(&record).is_ok()).count()
    });
    let error = connect(address, &tls).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(sending.join().unwrap() < 1000);
}

#[test]
fn who_connects_may_say_little_before_both_have_agreed() {
    let tls = Authority::new().tls().unwrap();
    let (address, answering) = other_end(move |stream| tls.answer().unwrap().handshake(&stream, PATIENCE));
    let mut stream = TcpStream::connect(address).unwrap();
    // One message of a record's length, and nothing behind it.
    let _ = stream.write_all(&[&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &[7; 9000]].concat());
    let error = answering.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
}
