//! One-shot use: `peer get`, `search`, `status` and `put`. No folder is shared and nobody joins; what is fetched is
//! verified as everywhere.

mod codes;
mod get;
mod put;
mod table;

use std::{
    io, process,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{
    asks,
    console::{Form, Teller},
    flags,
    link::{Link, LinkConfig},
    random,
};
use crate::{
    args::Args,
    complain, hush, limits,
    name::{PeerId, Zone},
    say,
    secret::Secret,
    tls::{Role, Tls},
};
use codes::Failed;
pub use table::{GET, PUT, SEARCH, STATUS};

/// Does what the verb says, and gives the exit code.
pub fn run(args: &Args) -> u8 {
    let done = Visit::new(args).and_then(|mut visit| {
        let operand = |at: usize| args.operands[at].to_string_lossy();
        let done = match args.command.name {
            name if name == SEARCH.name => visit.search(&operand(0), args),
            name if name == STATUS.name => visit.status(args),
            name if name == PUT.name => visit.put(&args.operands[0], &operand(1)),
            _ => visit.get(&operand(0), args),
        };
        let code = visit.stop.code();
        done.map_err(|failed| code.map_or(failed, Failed::silent))
    });
    match done {
        Ok(code) => code,
        Err(Failed { code, text }) => {
            text.iter().for_each(complain);
            code
        }
    }
}

/// One call of one verb.
struct Visit {
    secret: Option<Secret>,
    tls: Option<Tls>,
    teller: Teller,
    stop: Stop,
}

impl Visit {
    fn new(args: &Args) -> Result<Self, Failed> {
        if args.is_set("--quiet").map_err(Failed::usage)? {
            hush();
        }
        let form = if args.is_set("--json").map_err(Failed::usage)? { Form::Json } else { Form::Plain };
        let secret = Secret::of(args).map_err(Failed::usage)?;
        let tls = Tls::of(args, Role::Peer, say).map_err(Failed::usage)?;
        Ok(Self { secret, tls, teller: Teller::once(form), stop: Stop::default() })
    }

    /// A link by which to ask, from a `zone`.
    fn link(&self, args: &Args, peer: PeerId, zone: Zone) -> Result<Link, Failed> {
        let trackers = flags::trackers(args).map_err(Failed::usage)?;
        let (secret, tls) = (self.secret.clone(), self.tls.clone());
        Link::visit(LinkConfig { trackers, secret, tls, peer, zone }).map_err(|error| Failed::system(&error))
    }

    fn search(&mut self, text: &str, args: &Args) -> Result<u8, Failed> {
        let (found, more) = asks::search(&self.link(args, visitor()?, Zone::default())?, text)?;
        if found.is_empty() {
            return Err(Failed::absent(format!("no file matches {text} now: try a shorter part of its path")));
        }
        self.teller.found(&found);
        if more {
            say("there is more: search for a longer text to see it");
        }
        Ok(self.code())
    }

    fn status(&mut self, args: &Args) -> Result<u8, Failed> {
        let peers = asks::everybody(&self.link(args, visitor()?, Zone::default())?)?;
        if peers.is_empty() {
            say("the tracker answers, and knows no peer");
        }
        self.teller.peers(&peers);
        Ok(self.code())
    }

    /// The code at the end of what was told whole, unless nobody took it.
    fn code(&self) -> u8 {
        if self.teller.has_failed() { codes::DISK } else { 0 }
    }
}

/// An id that nobody has: who visits is known to nobody.
fn visitor() -> Result<PeerId, Failed> {
    let id = format!("visitor-{:016x}", random());
    id.parse().map_err(|_| Failed::system(&io::Error::other("no id")))
}

/// Whether a signal has come that ends the visit, and which.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicI32>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// What the process ends with then, as a shell gives it for a process that the signal has killed.
    fn code(&self) -> Option<u8> {
        let signal = self.0.load(Ordering::Acquire);
        (signal != 0).then_some(128 + signal as u8)
    }

    /// From now on, the first signal ends what runs: `tell` passes it on, and `tidy` is done where it does not end
    /// soon.
    fn watch(&self, tell: impl FnOnce() + Send + 'static, tidy: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let stop = self.clone();
        let wait = move || {
            let Some(signal) = signals.forever().next() else { return };
            stop.0.store(signal, Ordering::Release);
            tell();
            thread::sleep(limits::VISIT_END_TIME);
            tidy();
            process::exit(128 + signal);
        };
        thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
    }
}
