//! The swarm's certificates: how this process proves itself, and whom it believes. Read anew when they change.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use rustls::{AlertDescription, CertificateError, ClientConfig, ServerConfig, pki_types::ServerName};
use signal_hook::{consts::SIGHUP, iterator::Signals};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    PEER_NAME, Role, Session,
    accepting::Accepting,
    files::{Files, Stamps},
    transport::Duplex,
};
use crate::{args::Args, limits};

/// TLS as this process speaks it; clones are handles to the same one.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    role: Role,
    tell: fn(String),
    state: Mutex<State>,
}

struct State {
    configs: Configs,
    /// The files as they were when they were last read, for good or ill.
    stamps: Stamps,
    looked: Instant,
}

/// What was read from the files.
#[derive(Clone)]
pub(super) struct Configs {
    /// For who connects to this process.
    pub(super) server: Arc<ServerConfig>,
    pub(super) to_peers: Arc<ClientConfig>,
    pub(super) to_trackers: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// What the flags ask for; none without any of them. A person is told by `tell` when the files were read anew.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the flags or the files, and what to do.
    pub fn of(args: &Args, role: Role, tell: fn(String)) -> Result<Option<Self>, String> {
        let Some(files) = Files::of(args)? else { return Ok(None) };
        let tls = Self::new(files, role, tell)?;
        // Of what is no key, nobody is told how to hide it.
        tls.0.files.warn();
        Ok(Some(tls))
    }

    pub(super) fn new(files: Files, role: Role, tell: fn(String)) -> Result<Self, String> {
        let (looked, stamps) = (Instant::now(), files.stamps());
        let configs = files.read(role)?;
        let state = Mutex::new(State { configs, stamps, looked });
        Ok(Self(Arc::new(Shared { files, role, tell, state })))
    }

    /// Reads the files anew on SIGHUP.
    ///
    /// # Errors
    /// When the system gives no thread or descriptor.
    pub fn watch(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGHUP])?;
        let tls = self.clone();
        let work = move || signals.forever().for_each(|_| tls.reload());
        thread::Builder::new().name("certificates".into()).stack_size(limits::CONNECTION_STACK).spawn(work).map(drop)
    }

    fn reload(&self) {
        let state = &mut *self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(state, self.0.files.stamps());
    }

    fn read(&self, state: &mut State, stamps: Stamps) {
        state.stamps = stamps;
        match self.0.files.read(self.0.role) {
            Ok(configs) => {
                state.configs = configs;
                (self.0.tell)("the certificates were read anew".into());
            }
            Err(error) => (self.0.tell)(format!("the certificates stay as they were: {error}")),
        }
    }

    fn configs(&self) -> Configs {
        let state = &mut *self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(state.looked) >= limits::TLS_LOOK_TIME {
            state.looked = now;
            let stamps = self.0.files.stamps();
            if stamps != state.stamps {
                self.read(state, stamps);
            }
        }
        state.configs.clone()
    }

    /// This end of a connection that was accepted.
    ///
    /// # Errors
    /// When there is no random number to be had.
    pub fn answer(&self) -> io::Result<Session> {
        Session::server(self.configs().server).map_err(io::Error::other)
    }

    /// This end of a connection to a peer.
    pub(super) fn ask(&self) -> io::Result<Session> {
        let name = ServerName::try_from(PEER_NAME).map_err(io::Error::other)?;
        Session::client(self.configs().to_peers, name).map_err(io::Error::other)
    }

    pub(super) fn accept(&self, stream: TcpStream) -> Box<dyn Duplex> {
        Box::new(Accepting::new(stream, self.configs().server))
    }

    pub(super) async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<Box<dyn Duplex>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connected = TlsConnector::from(self.configs().to_trackers).connect(name, stream).await;
        let stream = connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => io::Error::new(io::ErrorKind::InvalidData, format!("it {}", explain(error))),
            None => error,
        })?;
        Ok(Box::new(stream))
    }
}

/// What a person is told of an error with the other end: the rest of a sentence that begins with it.
pub(super) fn explain(error: &rustls::Error) -> String {
    use CertificateError as Of;
    let text = match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "does not speak TLS: start it with --tls-cert, --tls-key and --tls-ca"
        }
        rustls::Error::InvalidCertificate(error) => match error {
            Of::UnknownIssuer | Of::BadSignature => "has a certificate that is not from the authority of --tls-ca",
            Of::Expired | Of::ExpiredContext { .. } => {
                "has a certificate whose time is over: make it a new one by scripts/certificates.sh"
            }
            Of::NotValidYet | Of::NotValidYetContext { .. } => {
                "has a certificate whose time is still to come: set the clocks right"
            }
            Of::NotValidForName | Of::NotValidForNameContext { .. } => {
                "has a certificate for other names than it was called by: make it one for this name or address"
            }
            _ => return format!("has a certificate that is not good: {error}"),
        },
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => "does not know the authority of this certificate",
        rustls::Error::AlertReceived(alert) => return format!("ends the handshake: {alert:?}"),
        error => return format!("breaks TLS: {error}"),
    };
    text.to_owned()
}
