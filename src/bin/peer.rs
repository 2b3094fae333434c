//! A peer: offers a folder, and takes commands on stdin.

use std::{
    env,
    io::{self, ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    num::NonZeroUsize,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{Arc, OnceLock, atomic::Ordering},
    thread,
    time::Instant,
};

use enjambre::{
    args::{Args, Command, Flag, Parsed},
    complain, limits,
    name::{PeerId, Zone},
    notify::Notify,
    peer::{
        asks::Asks,
        console::{self, Console, Terminal},
        flags,
        http::{Access, Http, Status, scheme},
        link::{Host, Joining, Link, LinkConfig, Trackers},
        metrics::Metrics,
        mirror::{Bounds, Mirror, Wishes},
        share::Share,
        swarm::{Fetcher, Getter, jobs::Jobs, partial::Downloads},
        throttle::Throttle,
        verbs,
    },
    rate::Rate,
    say,
    secret::{self, Secret},
    size::{self, KeepFree},
    tls::{self, Role, Tls},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::{Handle, Signals},
};

static COMMAND: Command = Command {
    name: "peer",
    about: "offers a folder to the swarm, and fetches from it",
    operands: &[
        ("id", "its name in the swarm: letters, digits, dots, dashes, underscores"),
        ("port", "TCP port to serve on; 0 takes a free one"),
        ("folder", "what to offer, and where fetched and uploaded files go"),
    ],
    flags: &[
        flags::TRACKER,
        Flag { name: "--bind", value: "ADDR", help: "address to serve on (0.0.0.0, all of IPv4; :: is for IPv6 too)" },
        Flag {
            name: "--advertise",
            value: "HOST",
            help: "address to give out, behind NAT; it takes the secret, or a tracker that allows it",
        },
        flags::ZONE,
        Flag {
            name: "--upload-limit",
            value: "RATE",
            help: "bytes of files sent a second, all together, as 5M or 500K (none)",
        },
        flags::DOWNLOAD_LIMIT,
        flags::KEEP_FREE,
        flags::CONNECTIONS,
        Flag {
            name: "--mirror",
            value: "PATTERN...",
            help: "fetch every file that matches and that --from announces, as it appears; once for each",
        },
        Flag { name: "--from", value: "PEER...", help: "whose files --mirror follows; once for each" },
        Flag {
            name: "--mirror-keep",
            value: "N",
            help: "keep so many files of what was mirrored; the oldest go first (all)",
        },
        Flag {
            name: "--mirror-max",
            value: "BYTES",
            help: "keep so many bytes of it, as 20G; the oldest go first (all)",
        },
        Flag {
            name: secret::FLAG,
            value: "FILE",
            help: "holds the swarm's secret: join by it, and answer only those who have it (answer all)",
        },
        tls::CERT,
        tls::KEY,
        tls::CA,
        Flag {
            name: "--public-read",
            value: "",
            help: "let those without the secret read, by GET and HEAD, and send nothing",
        },
        Flag {
            name: "--allow-host",
            value: "NAME...",
            help: "answer by this name too, beside its addresses, localhost and --advertise; once for each",
        },
    ],
    call_flags: &[],
    verbs: &[&verbs::GET, &verbs::SEARCH, &verbs::STATUS, &verbs::PUT],
    variables: &[(secret::VARIABLE, "the swarm's secret itself, where there is no --secret-file")],
    more: "In round brackets: what holds without the flag. In square ones: the variable that stands in for it.\n\
           It takes commands on stdin; `help` lists them.\n",
    codes: &[
        ("0", "it was told to leave, by `leave`, the end of a terminal, SIGINT or SIGTERM"),
        ("1", "the port cannot be had, or the tracker refuses its first join; from a script, a command has failed"),
        ("2", "the command line, the secret, a certificate or the folder is wrong, or another peer uses the folder"),
    ],
};

/// What the command line says.
struct Options {
    peer: PeerId,
    port: u16,
    folder: PathBuf,
    trackers: Trackers,
    bind: IpAddr,
    advertise: Option<Host>,
    zone: Zone,
    upload_limit: Option<Rate>,
    download_limit: Option<Rate>,
    keep_free: KeepFree,
    connections: NonZeroUsize,
    mirror: Option<Wishes>,
    access: Access,
}

/// An exit code and a sentence. 2 means that the command line has to change, 1 that something else has.
#[derive(Clone)]
struct Failure(u8, String);

fn main() -> ExitCode {
    let result = match COMMAND.parse() {
        Ok(Parsed::Text(text)) => {
            // Whoever has closed stdout does not want to read it.
            let _ = io::stdout().write_all(text.as_bytes());
            Ok(0)
        }
        Ok(Parsed::Args(args)) if args.command.name != COMMAND.name => Ok(verbs::run(&args)),
        Ok(Parsed::Args(args)) => options(args).map_err(|error| Failure(2, error)).and_then(run),
        Err(error) => Err(Failure(2, error)),
    };
    ExitCode::from(result.unwrap_or_else(|Failure(code, error)| {
        complain(error);
        code
    }))
}

fn options(args: Args) -> Result<Options, String> {
    let [peer, port, folder] = &args.operands[..] else { unreachable!("the table asks for three") };
    let peer = peer.to_string_lossy();
    let port = port.to_string_lossy();
    let advertise: Option<Host> = args.value("--advertise")?;
    let allowed = args
        .list("--allow-host")?
        .into_iter()
        .map(|name| name.parse().map_err(|error| format!("--allow-host {name}: {error}")));
    let names = allowed.chain(advertise.clone().map(Ok)).collect::<Result<_, _>>()?;
    let (secret, tls) = (Secret::of(&args)?, Tls::of(&args, Role::Peer, say)?);
    let access = Access { secret, is_public_read: args.is_set("--public-read")?, tls, names };
    if access.is_public_read && access.secret.is_none() {
        return Err(
            "--public-read keeps others from sending files, which takes a secret: give --secret-file FILE too".into()
        );
    }
    let mirror = wishes(&args, &peer)?;
    Ok(Options {
        mirror,
        peer: peer.parse().map_err(|error| format!("peer id `{peer}`: {error}"))?,
        port: port.parse().map_err(|_| format!("port `{port}`: a port is a number from 0 to 65535"))?,
        folder: folder.into(),
        trackers: flags::trackers(&args)?,
        bind: args
            .value_as("--bind", "write an address of this machine, or 0.0.0.0 for all of them, and no name")?
            .unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        advertise,
        zone: args.value("--zone")?.unwrap_or_default(),
        upload_limit: args.value("--upload-limit")?,
        download_limit: args.value("--download-limit")?,
        keep_free: args.value("--keep-free")?.unwrap_or_default(),
        connections: flags::connections(&args)?,
        access,
    })
}

/// What is to be mirrored; none where that is not asked for.
fn wishes(args: &Args, own: &str) -> Result<Option<Wishes>, String> {
    let list = |flag| {
        let items = args.list(flag)?;
        if items.len() > limits::WATCHED {
            return Err(format!("{flag}: at most {}", limits::WATCHED));
        }
        Ok(items)
    };
    let (patterns, publishers) = (list("--mirror")?, list("--from")?);
    let most = args.value::<String>("--mirror-max")?;
    let most = most
        .map(|text| size::bytes(&text).map_err(|_| format!("--mirror-max {text}: write a number of bytes, as 20G")));
    let bounds = Bounds { files: args.value_as("--mirror-keep", "write a number of files")?, bytes: most.transpose()? };
    if patterns.is_empty() {
        return match publishers.is_empty() && bounds == Bounds::default() {
            true => Ok(None),
            false => Err("--from, --mirror-keep and --mirror-max go with --mirror PATTERN".into()),
        };
    }
    if publishers.is_empty() {
        return Err("--mirror follows named peers only: give --from PEER, once for each".into());
    }
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.len() > limits::PATH_BYTES) {
        return Err(format!("--mirror {pattern}: at most {} bytes", limits::PATH_BYTES));
    }
    let publisher = |peer: String| match peer == own {
        true => Err(format!("--from {peer}: that is this peer itself, name another")),
        false => peer.parse().map_err(|error| format!("--from {peer}: {error}")),
    };
    let publishers = publishers.into_iter().map(publisher).collect::<Result<_, _>>()?;
    Ok(Some(Wishes { patterns, publishers, bounds }))
}

/// Serves until something ends it; the exit code.
fn run(options: Options) -> Result<u8, Failure> {
    let Options { peer, port, folder, trackers, bind, advertise, zone, access, .. } = options;
    let system = |error: io::Error| Failure(1, format!("the system gives no thread or descriptor: {error}"));

    let place = if port == 0 { String::new() } else { format!(" on port {port}") };
    let holder = format!("{peer}{place}, process {}", process::id());
    let share = Share::open(&folder, &holder, options.keep_free).map_err(|error| Failure(2, error))?;
    let listener = TcpListener::bind((bind, port)).map_err(|error| Failure(1, cannot_bind(bind, port, &error)))?;
    let port = listener.local_addr().map_err(system)?.port();
    share.start().map_err(system)?;
    // Serving does not wait for the tracker, so the link comes after it.
    let asks = Arc::new(OnceLock::new());
    let downloads = Downloads::default();
    let limit = options.upload_limit.map(Throttle::new);
    let (secret, tls) = (access.secret.clone(), access.tls.clone());
    let scheme = scheme(tls.as_ref());
    let metrics = Metrics::default();
    let status =
        Status { peer: peer.clone(), zone: zone.clone(), scheme, asks: Arc::clone(&asks), metrics: metrics.clone() };
    let http = Http::serve(listener, access, share.clone(), downloads.clone(), status, limit).map_err(system)?;
    let http = Arc::new(http);
    let serving =
        format!("serving {scheme}://{} from {} as {peer}", reachable(bind, port, &trackers), folder.display());
    say(&serving);
    let notify = Notify::of_environment().map(Arc::new);
    if let Some(notify) = &notify {
        notify.ready(&serving);
        give_signs_of_life(notify, &http).map_err(system)?;
    }
    if secret.is_none() && !bind.is_loopback() {
        say(format_args!(
            "no secret is set: whoever reaches port {port} can read these files and add others (--secret-file FILE)"
        ));
    }

    if let Some(tls) = &tls {
        tls.watch().map_err(system)?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system)?;
    let end = End { how: Arc::default(), signals: signals.handle() };
    let (refused, replaced) = (end.clone(), end.clone());
    share.on_replaced(move || replaced.with(Ok(Ending::Again)));
    let link =
        LinkConfig { trackers, secret: secret.clone(), tls: tls.clone(), peer: peer.clone(), zone: zone.clone() };
    let joining = Joining {
        port,
        bind,
        advertise,
        share: share.clone(),
        on_refused: Box::new(move |error| refused.with(Err(Failure(1, error)))),
    };
    let link = Link::start(link, joining).map_err(system)?;

    console::report_hashing(share.clone()).map_err(system)?;
    let fetcher = Fetcher::new(limits::SOURCE_STALL_TIME, options.connections, options.download_limit, secret, tls);
    let finder = Arc::new(link.clone());
    let getter = Getter { share: share.clone(), downloads, peer, zone, finder, fetcher, metrics };
    let jobs = Jobs::new(getter);
    let asked = asks.get_or_init(|| Asks { share, link: link.clone(), jobs: jobs.clone() }).clone();
    let joining = link.clone();
    jobs.resume(move || joining.wait_joined()).map_err(system)?;
    let mirror = options.mirror.map(|wishes| Mirror::start(wishes, asked.share.clone(), &link, jobs.clone()));
    let mirror = mirror.transpose().map_err(|error| Failure(1, format!("cannot mirror: {error}")))?;
    let console = Console::new(asked);
    let terminal = Terminal::now();
    let busy = console.busy();
    let left = end.clone();
    spawn("console", move || {
        if let Some(code) = console.run() {
            left.with(Ok(Ending::Code(code)));
        }
    })
    .map_err(system)?;

    // What Ctrl-C sends while a command runs is not meant for the peer.
    let is_signalled = signals.forever().any(|signal| signal != SIGINT || !busy.load(Ordering::Acquire));
    terminal.restore();
    // A signal means leave, and one more means now.
    let mut more = Signals::new([SIGINT, SIGTERM]).map_err(system)?;
    spawn("signals", move || {
        if more.forever().nth(usize::from(!is_signalled)).is_some() {
            process::exit(0);
        }
    })
    .map_err(system)?;
    let ending = if is_signalled { None } else { end.how.get().cloned() };
    let ending = ending.unwrap_or(Ok(Ending::Code(0)))?;
    say("leaving");
    mirror.inspect(Mirror::stop);
    if let (Ending::Code(_), Some(notify)) = (ending, &notify) {
        notify.stopping();
    }
    jobs.stop();
    link.leave();
    http.close(Instant::now() + limits::LEAVE_TIME);
    match ending {
        Ending::Code(code) => Ok(code),
        Ending::Again => Err(again(&folder)),
    }
}

/// What ends the wait of the main thread.
#[derive(Clone, Copy)]
enum Ending {
    /// The process ends.
    Code(u8),
    /// It begins anew: what it has open of the share is gone, and another folder is in its place.
    Again,
}

/// Becomes a new process of the same number with the same arguments; returns only where that fails.
fn again(folder: &Path) -> Failure {
    say(format_args!("folder {} is there again: starting anew", folder.display()));
    let mut args = env::args_os();
    // The kernel's own word for it holds wherever it was started from; an empty chroot has no /proc.
    let program = env::current_exe().ok().or_else(|| args.next().map(Into::into)).unwrap_or_default();
    let error = process::Command::new(program).args(env::args_os().skip(1)).exec();
    Failure(1, format!("cannot start anew: {error}"))
}

/// Ends the wait of the main thread, which otherwise only a signal ends.
#[derive(Clone)]
struct End {
    how: Arc<OnceLock<Result<Ending, Failure>>>,
    signals: Handle,
}

impl End {
    fn with(&self, how: Result<Ending, Failure>) {
        let _ = self.how.set(how);
        self.signals.close();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Tells a supervisor that wants to hear of it, as long as the door and the routes answer.
fn give_signs_of_life(notify: &Arc<Notify>, http: &Arc<Http>) -> io::Result<()> {
    let Some(every) = notify.watchdog() else { return Ok(()) };
    let (notify, http) = (Arc::clone(notify), Arc::clone(http));
    spawn("watchdog", move || {
        loop {
            if http.is_answering() {
                notify.alive();
            }
            thread::sleep(every);
        }
    })
}

fn cannot_bind(bind: IpAddr, port: u16, error: &io::Error) -> String {
    let address = SocketAddr::new(bind, port);
    match error.kind() {
        ErrorKind::AddrInUse => format!("port {port} is in use: choose another, or 0 for any that is free"),
        ErrorKind::AddrNotAvailable => format!("{bind} is no address of this machine: change --bind"),
        ErrorKind::PermissionDenied => format!("port {port} is not for this user: choose one from 1024 up"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// The address at which others reach this peer: the one it is bound to, or else the one from which
/// it would speak to a tracker, or to the world. Connecting a UDP socket chooses that one and
/// sends nothing.
fn reachable(bind: IpAddr, port: u16, trackers: &Trackers) -> SocketAddr {
    /// An address that is nobody's (RFC 5737).
    const WORLD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
    let towards = |other: SocketAddr| {
        let any: IpAddr = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(other).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let address = match bind.is_unspecified() {
        true => {
            // Who listens on all addresses of IPv4 is not reached by IPv6.
            let others = trackers.iter().filter_map(|tracker| tracker.resolve().ok()).flatten().chain([WORLD]);
            others.filter(|other| bind.is_ipv6() || other.is_ipv4()).find_map(towards).unwrap_or(bind)
        }
        false => bind,
    };
    SocketAddr::new(address, port)
}
