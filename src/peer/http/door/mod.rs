//! The door: the listener in front of tiny_http, and all of TCP that the peer's HTTP side knows.
//!
//! tiny_http 0.12 is not safe on a public socket: a `Content-Length` can make it abort, it has no
//! time-outs and no limits, and it reads some requests otherwise than others do (ARCHITECTURE.md
//! has the list). So the door owns the port. Each connection has a thread here, which reads a head
//! within limits, refuses what is not strictly framed, and writes the head anew, without a body,
//! to tiny_http on a private Unix socket. The routes behind it answer with a head and small bytes,
//! or leave at the [`Desk`] what else is to be done: a range of a file to send, the body to read.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Access,
    answer::{Answer, reason},
    routes::{Asking, Outcome},
};
use crate::{
    address::origin,
    limits,
    peer::{
        metrics::{Metrics, Other, Refused, Transfer},
        throttle::Throttle,
    },
    tls::Tls,
};
use body::Body;
use count::{Counted, is_for_a_peer};
use guard::{Guard, Refusal};
use head::{Framing, Head};
use inner::{Inner, InnerAnswer};
use send::Outlet;
use slots::{Slot, Slots};
use wire::{NoHead, Wire};

pub(super) use inner::EXCHANGE;

mod body;
mod count;
mod guard;
mod head;
mod inner;
#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;
mod probe;
mod sealed;
mod send;
mod slots;
mod wire;

/// Where the routes leave what a connection's thread is to do, by the number of the exchange.
#[derive(Default)]
pub(super) struct Desk {
    next: AtomicU64,
    exchanges: Mutex<HashMap<u64, (About, Option<Leave>)>>,
}

/// What the routes may know of a request beyond its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// The number of the connection.
    pub(super) connection: u64,
    /// The body's length, where it has one from the start; zero where there is no body.
    pub(super) length: Option<u64>,
    /// The request was parked and is asked for the second time: do not park it again.
    pub(super) was_parked: bool,
}

/// Reads a request's body and answers.
pub(super) type Work = Box<dyn FnOnce(&mut (dyn Read + Send)) -> Answer + Send>;

/// What is to be done beside, or in place of, sending tiny_http's answer.
pub(super) enum Leave {
    /// Send this range of a file as the body of the answer.
    File(Box<dyn Promised + Send>, Range<u64>),
    /// Read the body and answer with what this gives; tiny_http's answer is dropped.
    Work(Work),
    /// Wait in this, then ask the routes again; tiny_http's answer is dropped.
    Park(Box<dyn FnOnce() + Send>),
}

/// A file whose bytes were promised in an answer.
pub(super) trait Promised {
    /// The file, to be read with offsets of the reader's own.
    fn file(&self) -> &File;
    /// Whether it still is what the answer promised. Asked after the last read and before the last
    /// bytes go out.
    fn is_unchanged(&self) -> bool;
    /// All that was promised has gone out.
    fn sent(&self) {}
}

impl Desk {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (About, Option<Leave>)>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, about: About) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, (about, None));
        number
    }

    fn close(&self, number: u64) -> Option<Leave> {
        self.lock().remove(&number)?.1
    }

    /// What is known of an exchange that is under way.
    pub(super) fn about(&self, number: u64) -> Option<About> {
        self.lock().get(&number).map(|(about, _)| *about)
    }

    /// Leaves something to do.
    pub(super) fn leave(&self, number: u64, leave: Leave) {
        if let Some((_, left)) = self.lock().get_mut(&number) {
            *left = Some(leave);
        }
    }
}

/// Answers what goes without tiny_http; none for all else.
pub(super) type Direct = Box<dyn Fn(&Asking) -> Option<Outcome> + Send + Sync>;

/// The open door.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<Tls>,
    guard: Guard,
    direct: Direct,
    inner: Inner,
    desk: Arc<Desk>,
    slots: Arc<Slots>,
    /// On the bytes of files.
    limit: Option<Throttle>,
    metrics: Metrics,
    is_closing: AtomicBool,
}

impl Door {
    /// Opens the door: accepts on `listener` those who have `access`, and asks `direct`, or else the
    /// tiny_http that listens on `socket`. The bytes of files go no faster than `limit`.
    pub(super) fn open(
        listener: TcpListener,
        access: Access,
        socket: PathBuf,
        desk: Arc<Desk>,
        direct: Direct,
        limit: Option<Throttle>,
        metrics: Metrics,
    ) -> io::Result<Arc<Self>> {
        let inner = Inner::connect(socket)?;
        // Where the system's queue is full, it drops a client's first packet, which comes again a second later.
        rustix::net::listen(&listener, limits::CONNECTIONS_QUEUED)?;
        let slots = Arc::default();
        let is_closing = AtomicBool::new(false);
        let tls = access.tls.clone();
        let guard = Guard::new(access);
        let door = Arc::new(Self { listener, tls, guard, direct, inner, desk, slots, limit, metrics, is_closing });
        let accepting = Arc::clone(&door);
        thread::Builder::new()
            .name("door".into())
            .stack_size(limits::CONNECTION_STACK)
            .spawn(move || accepting.accept())?;
        Ok(door)
    }

    /// Accepts no more, closes connections that wait, and gives the others until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        self.is_closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.slots.close(deadline);
    }

    /// Whether connections are accepted, and tiny_http answers.
    pub(super) fn is_answering(&self) -> bool {
        probe::is_accepting(&self.listener, limits::PROBE_TIME).unwrap_or(false) && self.inner.is_answering()
    }

    fn accept(self: &Arc<Self>) {
        while !self.is_closing.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, from)) => self.admit(stream, from),
                Err(_) if self.is_closing.load(Ordering::SeqCst) => return,
                // Whatever it was (a client that is gone, no descriptors left), the next one is
                // accepted, a moment later, when the most patient client has made room.
                Err(_) => {
                    self.slots.make_room();
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let stream = Arc::new(stream);
        let from = origin(from.ip());
        // Small answers must not wait for an acknowledgement of the ones before.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(limits::SLOW_LOOK_TIME));
        let Some(slot) = self.slots.admit(&stream, from) else { return self.turn_away(&stream) };
        let door = Arc::clone(self);
        let for_thread = Arc::clone(&stream);
        let serve = move || door.serve(&for_thread, from, &slot);
        let thread = thread::Builder::new().name("connection".into()).stack_size(limits::CONNECTION_STACK).spawn(serve);
        if thread.is_err() {
            self.turn_away(&stream);
        }
    }

    /// Serves one connection to its end.
    fn serve(&self, stream: &TcpStream, from: IpAddr, slot: &Slot) {
        let Ok(session) = self.tls.as_ref().map(Tls::answer).transpose() else { return };
        let mut wire = Wire::new(stream, session);
        let mut next = wire.agree(limits::HEAD_TIME).and_then(|()| wire.read_head(limits::HEAD_TIME));
        loop {
            let head = match next {
                Ok(head) => head,
                Err(NoHead::Over) => return,
                Err(NoHead::Refused(answer)) => {
                    self.metrics.refused(Refused::Request);
                    if wire.send(&whole(&answer, false, true)).is_ok() {
                        wire.linger();
                    }
                    return;
                }
            };
            if !slot.set_waiting(false) {
                return;
            }
            let after = match self.guard.check(&head, from, Instant::now()) {
                Ok(()) => self.exchange(&mut wire, slot, &head),
                Err(refusal) => self.refuse(&mut wire, slot, &head, &refusal),
            };
            match after {
                Ok(After::Kept) => {}
                Ok(After::Lingering) if slot.set_waiting(true) => return wire.linger(),
                Ok(After::Lingering) | Err(_) => return,
            }
            if !slot.set_waiting(true) {
                return;
            }
            next = wire.read_head(limits::IDLE_TIME);
        }
    }

    /// Answers who is not let through. Nothing of a body is read for that.
    fn refuse(&self, wire: &mut Wire, slot: &Slot, head: &Head, refusal: &Refusal) -> io::Result<After> {
        self.metrics.refused(refusal.why);
        if let Some(pause) = refusal.pause
            && !slot.hold(pause)
        {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let has_body = head.framing != Framing::Length(0);
        let is_closed = refusal.pause.is_some() || has_body || self.is_closing.load(Ordering::SeqCst);
        let is_kept = head.is_kept && !is_closed;
        wire.send(&whole(&refusal.answer, is_kept, head.method != "HEAD"))?;
        Ok(if is_kept { After::Kept } else { After::Lingering })
    }

    fn exchange(&self, wire: &mut Wire, slot: &Slot, head: &Head) -> io::Result<After> {
        let length = match head.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let mut body = Body::new(wire, head.framing, head.expects_continue);
        let mut about = About { connection: slot.number(), length, was_parked: false };
        let (answer, left) = loop {
            let (answer, left) = self.ask(head, about);
            match left {
                Some(Leave::Park(wait)) if !about.was_parked => wait(),
                left => break (answer, left),
            }
            about.was_parked = true;
        };
        let is_head = head.method == "HEAD";
        let (answer, file) = match (answer, left) {
            (Ok(answer), Some(Leave::File(file, range))) => {
                (Reply::File(answer, range.end - range.start), Some((file, range)))
            }
            (Ok(_), Some(Leave::Work(work))) => {
                let busy =
                    || Answer::problem(503, "Too many uploads at once; try again soon.").with("Retry-After", "5");
                let work = || work(&mut Counted { body: &mut body, metrics: &self.metrics });
                (Reply::Own(slot.upload(work).unwrap_or_else(busy)), None)
            }
            (Ok(answer), _) => (Reply::Small(answer), None),
            (Err(_), _) => (Reply::Own(Answer::problem(500, "The request could not be handled.")), None),
        };
        let is_kept = body.is_drained() && head.is_kept && !self.is_closing.load(Ordering::SeqCst);
        let bytes = answer.bytes(is_kept, !is_head);
        match file {
            Some((file, range)) if !is_head => {
                let under_way = self.metrics.begin(Transfer::Answer);
                let to = if is_for_a_peer(&head.target) { Other::Partial } else { Other::Client };
                wire.send_file(
                    &bytes,
                    &*file,
                    range,
                    Outlet { limit: self.limit.as_ref(), sent: self.metrics.sent(to) },
                )?;
                under_way.done(true);
            }
            _ => wire.send(&bytes)?,
        }
        Ok(if is_kept { After::Kept } else { After::Lingering })
    }

    fn ask(&self, head: &Head, about: About) -> (io::Result<InnerAnswer>, Option<Leave>) {
        let headers = head.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let asking = Asking { method: &head.method, target: &head.target, headers, about };
        if let Some((answer, leave)) = (self.direct)(&asking) {
            return (Ok(InnerAnswer::of(answer, head.method == "HEAD")), leave);
        }
        let number = self.desk.open(about);
        let answer = self.inner.ask(head, number);
        (answer, self.desk.close(number))
    }

    /// Tells a client that there is no place for it, without waiting for anything: under TLS, before anything is agreed
    /// on, only that this end has cancelled it.
    fn turn_away(&self, stream: &TcpStream) {
        self.metrics.refused(Refused::Connections);
        let answer = match self.tls {
            None => whole(
                &Answer::problem(503, "All connections are in use; try again soon.").with("Retry-After", "1"),
                false,
                true,
            ),
            Some(_) => CANCELLED.to_vec(),
        };
        let _ = rustix::net::send(stream, &answer, rustix::net::SendFlags::DONTWAIT);
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// The alerts `user_canceled`, "for some reason unrelated to a protocol failure", and `close_notify`, which follows it
/// (RFC 8446 section 6.1).
const CANCELLED: [u8; 14] = [21, 3, 3, 0, 2, 1, 90, 21, 3, 3, 0, 2, 1, 0];

/// What becomes of a connection after an exchange.
enum After {
    /// The next request may come.
    Kept,
    /// It ends, gently.
    Lingering,
}

/// An answer, by who made it.
enum Reply {
    /// The door, or work it was given.
    Own(Answer),
    /// tiny_http, body and all.
    Small(InnerAnswer),
    /// tiny_http its head; a file of this many bytes is the body.
    File(InnerAnswer, u64),
}

impl Reply {
    /// The head, and the body where it is small and wanted.
    fn bytes(self, is_kept: bool, with_body: bool) -> Vec<u8> {
        match self {
            Self::Own(answer) => whole(&answer, is_kept, with_body),
            Self::Small(answer) => {
                let mut bytes = head_bytes(answer.status, &answer.lines, answer.length, is_kept);
                bytes.extend_from_slice(&answer.body);
                bytes
            }
            Self::File(answer, length) => head_bytes(answer.status, &answer.lines, length, is_kept),
        }
    }
}

fn whole(answer: &Answer, is_kept: bool, with_body: bool) -> Vec<u8> {
    let mut bytes = head_bytes(answer.status, &answer.lines(), answer.body.len() as u64, is_kept);
    if with_body {
        bytes.extend_from_slice(&answer.body);
    }
    bytes
}

fn head_bytes(status: u16, lines: &[u8], length: u64, is_kept: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.len() + 100);
    // Writing to memory does not fail.
    let _ = write!(bytes, "HTTP/1.1 {status} {}\r\n", reason(status));
    bytes.extend_from_slice(lines);
    // These two have no body and say nothing of its length (RFC 9110 section 8.6).
    if !matches!(status, 204 | 304) {
        let _ = write!(bytes, "Content-Length: {length}\r\n");
    }
    bytes.extend_from_slice(if is_kept { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    bytes
}
