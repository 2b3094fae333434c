//! The peer's HTTP side: the door in front, tiny_http behind it, and the routes.

use std::{
    fs::File,
    io,
    net::TcpListener,
    os::{fd::AsRawFd, unix::net::UnixListener},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Instant,
};

use super::{asks::Asks, link::Host, metrics::Metrics, share::Share, swarm::partial::Downloads, throttle::Throttle};
use crate::{
    name::{PeerId, Zone},
    secret::Secret,
    tls::Tls,
};
use door::{Desk, Door};
use routes::{Asking, Routes};

mod answer;
mod api;
mod content;
mod door;
mod metalink;
#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;
mod page;
mod queue;
mod range;
mod routes;
mod upload;

/// A Unix socket's path is at most this long (`sun_path` less its NUL, unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

/// What a peer tells of itself over HTTP, beside its share.
pub struct Status {
    /// Its id.
    pub peer: PeerId,
    /// Its zone.
    pub zone: Zone,
    /// By what it is asked: `http` or `https`.
    pub scheme: &'static str,
    /// What it can be asked for, once its parts are together: it serves before.
    pub asks: Arc<OnceLock<Asks>>,
    /// What it counts.
    pub metrics: Metrics,
}

/// Who may ask a peer, and for what.
pub struct Access {
    /// What everybody has to prove who asks for more than `/healthz`.
    pub secret: Option<Secret>,
    /// All may read without it.
    pub is_public_read: bool,
    /// By what this peer proves itself, and nobody reads along.
    pub tls: Option<Tls>,
    /// What this peer is called, beside its addresses and `localhost`: who asks for another name is not meant for it.
    pub names: Vec<Host>,
}

/// Of the URLs that lead to a peer, with TLS or without.
pub fn scheme(tls: Option<&Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// A peer's HTTP side, serving.
pub struct Http {
    door: Arc<Door>,
    socket: PathBuf,
    /// Keeps the path through `/proc` good, where the folder's own is too long for a socket.
    _folder: File,
}

impl Http {
    /// Serves `share`, and what `downloads` have gained, to who connects to `listener` and has `access`:
    /// files no faster than `limit`. `status` is what it tells of itself.
    ///
    /// # Errors
    /// When a thread cannot be started, or the socket to tiny_http cannot be made in the share's
    /// private folder.
    pub fn serve(
        listener: TcpListener,
        access: Access,
        share: Share,
        downloads: Downloads,
        status: Status,
        limit: Option<Throttle>,
    ) -> io::Result<Self> {
        let folder = File::open(share.private_folder())?;
        let mut socket = share.private_folder().join("door");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES {
            socket = format!("/proc/self/fd/{}/door", folder.as_raw_fd()).into();
        }
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let desk = Arc::new(Desk::default());
        let metrics = status.metrics.clone();
        let routes = Arc::new(Routes::new(share, downloads, status, Arc::clone(&desk)));
        routes::start(UnixListener::bind(&socket)?, Arc::clone(&routes))?;
        let direct = Box::new(move |asking: &Asking| routes.direct(asking));
        let door = Door::open(listener, access, socket.clone(), desk, direct, limit, metrics)?;
        Ok(Self { door, socket, _folder: folder })
    }

    /// Whether the door accepts connections and lets go of them, and the routes answer; false too where either takes
    /// too long. Who turns others away for want of room answers.
    pub fn is_answering(&self) -> bool {
        self.door.is_answering()
    }

    /// Accepts nothing more, and lets what is being served come to its end, until `deadline`.
    pub fn close(&self, deadline: Instant) {
        self.door.close(deadline);
        let _ = std::fs::remove_file(&self.socket);
    }
}
