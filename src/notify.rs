//! Tells whoever supervises this process how it stands, as systemd has it (sd_notify(3)): short texts to a socket.

use std::{
    env,
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use crate::limits;

/// Of the time after which the supervisor takes this process for dead, each sign of life takes so much.
const WATCHDOG_PART: u32 = 3;

/// Where to tell it.
pub struct Notify {
    socket: UnixDatagram,
    to: SocketAddr,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
}

impl Notify {
    /// Whoever the environment names; none where nobody wants to know, or in a way that this does not speak.
    pub fn of_environment() -> Option<Self> {
        let to = address(&env::var_os("NOTIFY_SOCKET")?)?;
        let socket = UnixDatagram::unbound().ok()?;
        // What is told is not worth waiting for a supervisor that does not listen.
        socket.set_write_timeout(Some(limits::NOTIFY_TIME)).ok()?;
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // The variables may be inherited from a process that they were meant for.
        let is_meant = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_meant);
        Some(Self { socket, to, watchdog: watchdog.map(|micros| Duration::from_micros(micros) / WATCHDOG_PART) })
    }

    /// This process serves; what it does, for a person.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// It has begun to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=leaving");
    }

    /// It lives: to be told this [often](Self::watchdog).
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How often a sign of life is wanted; none where it is not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn tell(&self, state: &str) {
        // Whoever does not hear it will do what it does with the silent.
        let _ = self.socket.send_to_addr(state.as_bytes(), &self.to);
    }
}

/// The socket that `NOTIFY_SOCKET` names: a path, or a name without one behind an `@`.
fn address(name: &OsString) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}
