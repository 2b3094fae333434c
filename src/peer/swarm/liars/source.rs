//! A source, and how it may behave.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::PIECE;
use crate::content::PieceHasher;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Manner {
    Honest,
    /// One byte of a piece in the middle is wrong.
    WrongByte,
    WrongList,
    ListTooLong,
    ListTooShort,
    ListRedirects,
    ListHangs,
    /// Its list comes byte by byte.
    ListDrips,
    /// Its list begins late, and does not go on.
    ListLate,
    /// Honest, and takes its time.
    Unhurried,
    /// Its have-map has half a number more.
    HaveOfOddLength,
    HaveWithoutEnd,
    /// Says that it holds everything, and has nothing.
    ClaimsAll,
    /// Claims pieces that there are not, and some that it has not.
    ClaimsMore,
    /// Gives as fresh what it was not asked for.
    FreshOthers,
    FreshWrong,
    /// Sends nothing behind the third piece: there it hangs up.
    StopsAtThree,
    /// Sends nothing behind the third piece: there it hangs.
    HangsAtThree,
    /// Says less is coming than was asked.
    SaysLess,
    SaysMore,
    OtherRange,
    NoRange,
    /// Stops in the middle and closes.
    BreaksOff,
    /// More follows than was said.
    Overflows,
    Chunked,
    Redirects,
    Lacks,
    Busy,
    NotHttp,
    EndlessHead,
    Hangs,
    HangsMidway,
    Drips,
    /// Slow at first, and behind the third piece it drips.
    DripsAtThree,
    HangsUp,
    /// Nothing listens.
    Dead,
}

pub(super) const LIARS: [Manner; 25] = {
    use Manner::*;
    [
        WrongByte,
        WrongList,
        ListTooLong,
        ListTooShort,
        ListRedirects,
        ListHangs,
        ListDrips,
        SaysLess,
        SaysMore,
        OtherRange,
        NoRange,
        BreaksOff,
        Overflows,
        Chunked,
        Redirects,
        Lacks,
        Busy,
        NotHttp,
        EndlessHead,
        Hangs,
        HangsMidway,
        Drips,
        DripsAtThree,
        HangsUp,
        Dead,
    ]
};

/// A source with manners of its own.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The ranges it was asked for.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    pub(super) fn start(manner: Manner, content: &[u8]) -> Self {
        let list = Self::list(content);
        Self::with_list(manner, content, list)
    }

    pub(super) fn list(content: &[u8]) -> Vec<u8> {
        let mut hasher = PieceHasher::default();
        hasher.update(content);
        hasher.finish().1.to_bytes()
    }

    pub(super) fn with_list(manner: Manner, content: &[u8], list: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let peer = Self { address, asked: Arc::clone(&asked) };
        let content = content.to_vec();
        if manner != Manner::Dead {
            // Ends with the test's process.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (content, list, asked) = (content.clone(), list.clone(), Arc::clone(&asked));
                    thread::spawn(move || answer(manner, stream, &content, &list, &asked));
                }
            });
        }
        peer
    }
}

fn answer(manner: Manner, stream: TcpStream, content: &[u8], list: &[u8], asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut out = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            (input.read_line(&mut line).ok()? > 0).then_some(())?;
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_lowercase());
        }
        if head[0].contains("/pieces") {
            asked.lock().unwrap().push("list".into());
            let mut list = list.to_vec();
            let mut status = "200 OK";
            match manner {
                Manner::WrongList => list[5] ^= 1,
                Manner::ListTooLong => list.extend(vec![7; 1 << 20]),
                Manner::ListTooShort => list.truncate(32),
                Manner::ListRedirects => status = "302 Found\r\nLocation: http://127.0.0.1:1/",
                Manner::ListHangs => thread::sleep(Duration::from_secs(60)),
                Manner::ListLate => thread::sleep(Duration::from_millis(1500)),
                _ => {}
            }
            write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", list.len()).ok()?;
            let (portion, pause) = match manner {
                Manner::ListDrips => (1, 5),
                Manner::ListLate => (1, 60_000),
                Manner::Unhurried => (8 << 10, 50),
                _ => (list.len().max(1), 0),
            };
            for portion in list.chunks(portion) {
                out.write_all(portion).ok()?;
                thread::sleep(Duration::from_millis(pause));
            }
            continue;
        }
        if head[0].contains("/fresh") {
            let body = match manner {
                Manner::FreshWrong => vec![7; PIECE],
                Manner::FreshOthers => content[..PIECE].to_vec(),
                _ => {
                    // An ordinary web server, which leaves the choice to others.
                    write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?;
                    continue;
                }
            };
            asked.lock().unwrap().push("fresh".into());
            let first = head[0].split_once("of=")?.1.split_once('-')?.0;
            let first = if manner == Manner::FreshOthers { "9" } else { first };
            write!(out, "HTTP/1.1 200 OK\r\nEnjambre-Pieces: {first}-{first}\r\nContent-Length: {PIECE}\r\n\r\n")
                .ok()?;
            out.write_all(&body).ok()?;
            continue;
        }
        if head[0].contains("/have") {
            // One that downloads too, and has nothing yet.
            let (have, map, length) = match manner {
                Manner::HaveOfOddLength => ("1/8", vec![0, 1, 0], 3),
                Manner::HaveWithoutEnd => ("1/8", vec![0; 1 << 20], 1_u64 << 40),
                Manner::ClaimsAll => ("all", Vec::new(), 0),
                Manner::ClaimsMore => ("6/8", vec![0, 0, 0, 1, 0, 2, 0, 200, 255, 255, 0, 3], 12),
                _ => ("0/8", Vec::new(), 0),
            };
            write!(out, "HTTP/1.1 200 OK\r\nEnjambre-Have: {have}\r\nContent-Length: {length}\r\n\r\n").ok()?;
            out.write_all(&map).ok()?;
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="))?;
        asked.lock().unwrap().push(range.to_owned());
        let (first, last) = range.split_once('-')?;
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let mut body = content.get(first..=last)?.to_vec();
        let mut length = body.len();
        let mut status = "206 Partial Content";
        let mut extra = format!("Content-Range: bytes {first}-{last}/{}\r\n", content.len());
        let half = body.len() / 2;
        match manner {
            Manner::WrongByte => body[half] ^= 1,
            Manner::SaysLess => length -= 1,
            Manner::SaysMore => length += 1,
            Manner::OtherRange => extra = format!("Content-Range: bytes 0-{last}/{}\r\n", content.len() + 1),
            Manner::NoRange => (status, extra) = ("200 OK", String::new()),
            Manner::Overflows => body.extend(vec![7; 1 << 20]),
            Manner::Redirects => (status, extra) = ("302 Found", "Location: http://127.0.0.1:1/\r\n".into()),
            Manner::Lacks | Manner::ClaimsAll | Manner::ClaimsMore => status = "404 Not Found",
            Manner::Unhurried => thread::sleep(Duration::from_millis(100)),
            Manner::Busy => status = "503 Service Unavailable",
            Manner::HangsUp => return None,
            Manner::Hangs => thread::sleep(Duration::from_secs(60)),
            Manner::NotHttp => drop(out.write_all(b"\x1b[31mSSH-2.0-x\r\n\r\n")),
            Manner::EndlessHead => loop {
                out.write_all(b"HTTP/1.1 206 Partial Content\r\n").ok()?;
                (0..1000).try_for_each(|n| write!(out, "X-{n}: {}\r\n", "x".repeat(1000)).ok())?;
            },
            _ => {}
        }
        match manner {
            Manner::Chunked => {
                write!(out, "HTTP/1.1 {status}\r\n{extra}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n")
            }
            _ => write!(out, "HTTP/1.1 {status}\r\n{extra}Content-Length: {length}\r\n\r\n"),
        }
        .ok()?;
        match manner {
            Manner::BreaksOff => return out.write_all(&body[..half]).ok(),
            Manner::HangsMidway => {
                out.write_all(&body[..half]).ok()?;
                thread::sleep(Duration::from_secs(60));
            }
            Manner::DripsAtThree if last < 3 * PIECE => {
                out.write_all(&body[..half]).ok()?;
                thread::sleep(Duration::from_millis(20));
                out.write_all(&body[half..]).ok()?;
            }
            Manner::Drips | Manner::DripsAtThree => {
                for byte in &body {
                    out.write_all(&[*byte]).ok()?;
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Manner::StopsAtThree | Manner::HangsAtThree if last >= 3 * PIECE => {
                out.write_all(&body[..(3 * PIECE).saturating_sub(first)]).ok()?;
                if manner == Manner::HangsAtThree {
                    thread::sleep(Duration::from_secs(60));
                }
                return None;
            }
            _ => out.write_all(&body).ok()?,
        }
    }
}
