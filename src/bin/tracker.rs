//! The tracker: `tracker --help` says how it is started.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use enjambre::{
    args::{Args, Command, Flag, Parsed},
    limits,
    notify::Notify,
    secret::{self, Secret},
    tls::{self, Role, Tls},
    tracker::{self, Health, Listeners, Shared, log},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use tokio::{
    runtime::{self, Runtime},
    sync::oneshot,
    time::sleep,
};

static COMMAND: Command = Command {
    name: "tracker",
    about: "knows which peer holds which file",
    operands: &[],
    flags: &[
        Flag { name: "--listen", value: "ADDR:PORT", help: "where peers connect (0.0.0.0:50051)" },
        Flag { name: "--metrics-listen", value: "ADDR:PORT", help: "serve /metrics and /healthz there by HTTP (off)" },
        Flag { name: "--lease", value: "SECONDS", help: "how long to believe a silent peer, 1 to 3600 (15)" },
        Flag {
            name: "--store",
            value: "etcd://HOST:PORT,...",
            help: "be one of several trackers that share an etcd, below /PREFIX of it (alone, in memory)",
        },
        Flag {
            name: "--allow-advertise",
            value: "",
            help: "let peers give out another address than they connect from; with a secret, all may",
        },
        Flag {
            name: secret::FLAG,
            value: "FILE",
            help: "holds the swarm's secret: answer only those who have it (answer all)",
        },
        tls::CERT,
        tls::KEY,
        tls::CA,
    ],
    call_flags: &[],
    verbs: &[],
    variables: &[(secret::VARIABLE, "the swarm's secret itself, where there is no --secret-file")],
    more: "In round brackets: what holds without the flag. In square ones: the variable that stands in for it.\n\
           The log goes to stderr. SIGINT and SIGTERM end the tracker once the calls in flight are answered, within\n\
           two seconds; a second one, at once.\n",
    codes: &[
        ("0", "SIGINT or SIGTERM has ended it"),
        ("1", "the port cannot be had"),
        ("2", "the command line, the secret or a certificate is wrong"),
    ],
};

/// How `--listen` and the like are written.
const LISTEN: &str = "write ADDR:PORT, as 0.0.0.0:50051 or [::]:50051, an address and no name";

struct Options {
    listen: SocketAddr,
    metrics_listen: Option<SocketAddr>,
    store: Option<Store>,
    secret: Option<Secret>,
    tls: Option<Tls>,
    config: tracker::Config,
}

#[cfg(feature = "etcd")]
type Store = tracker::StoreAddress;

/// No store at all, where the tracker was built without etcd.
#[cfg(not(feature = "etcd"))]
#[derive(Clone)]
enum Store {}

#[cfg(not(feature = "etcd"))]
impl FromStr for Store {
    type Err = &'static str;

    fn from_str(_: &str) -> Result<Self, &'static str> {
        Err("this tracker was built without etcd: take one that was built with it")
    }
}

/// A lease as the command line has it, in whole seconds.
struct Lease(Duration);

impl FromStr for Lease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds| limits::LEASE_SECONDS.contains(seconds));
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(|| {
            let (least, most) = (limits::LEASE_SECONDS.start(), limits::LEASE_SECONDS.end());
            format!("a lease is {least} to {most} seconds long")
        })
    }
}

fn options(args: &Args) -> Result<Options, String> {
    let Lease(lease) = args.value("--lease")?.unwrap_or(Lease(limits::LEASE));
    let listen = args.value_as("--listen", LISTEN)?.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 50051)));
    let secret = Secret::of(args)?;
    // With a secret, no call of anybody else comes so far.
    let allow_advertise = args.is_set("--allow-advertise")? || secret.is_some();
    let metrics_listen = args.value_as("--metrics-listen", LISTEN)?;
    let store = args.value("--store")?;
    let tls = Tls::of(args, Role::Tracker, log)?;
    Ok(Options { listen, metrics_listen, store, secret, tls, config: tracker::Config { lease, allow_advertise } })
}

/// What the tracker works on together with all who share its store, once it knows what they do.
#[cfg(feature = "etcd")]
async fn share(store: Store, config: tracker::Config, health: &Health) -> Result<Shared, String> {
    let health = health.clone();
    let shared = tracker::share(store, config, move |is_degraded| health.set_degraded(is_degraded)).await;
    shared.map_err(|error| format!("cannot start: {error}"))
}

#[cfg(not(feature = "etcd"))]
async fn share(store: Store, _: tracker::Config, _: &Health) -> Result<Shared, String> {
    match store {}
}

/// Listens at the address that a flag was given, or says what could be done about it.
fn listen(flag: &str, on: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(on).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(": perhaps another tracker runs here; stop it, or take another port with {flag}")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!(": no interface has this address; {flag} 0.0.0.0:PORT takes them all")
            }
            io::ErrorKind::PermissionDenied => format!(": ports below 1024 are for root; take another with {flag}"),
            _ => String::new(),
        };
        format!("cannot listen on {on}: {error}{advice}")
    })
}

fn run(Options { listen: on, metrics_listen, store, secret, tls, config }: Options) -> Result<(), String> {
    tracker::raise_open_files();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("cannot wait for signals: {error}"))?;
    if let Some(tls) = &tls {
        tls.watch().map_err(|error| format!("cannot wait for signals: {error}"))?;
    }
    let (stop, mut stopped) = oneshot::channel();
    thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        let _ = stop.send(());
        if let Some(signal) = signals.next() {
            // As if nobody had waited for it: this ends the process.
            let _ = emulate_default_handler(signal);
        }
    });
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().event_interval(limits::EVENT_INTERVAL).build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let health = Health::default();
    let shared = match store {
        None => Shared::alone(config),
        // Who knows nothing yet does not listen: peers take another tracker.
        Some(store) => {
            let shared = runtime.block_on(async {
                tokio::select! {
                    shared = share(store, config, &health) => shared.map(Some),
                    _ = &mut stopped => Ok(None),
                }
            });
            let Some(shared) = shared? else { return Ok(()) };
            shared
        }
    };
    let calls = listen("--listen", on)?;
    let monitor = metrics_listen.map(|on| listen("--metrics-listen", on)).transpose()?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    let at = address(&calls)?;
    if let Some(monitor) = &monitor {
        log(format_args!("metrics on http://{}/metrics", address(monitor)?));
    }
    let how = if tls.is_some() { ", by TLS" } else { "" };
    let listening = format!("tracker listening on {at}, lease {} s{how}", config.lease.as_secs());
    log(&listening);
    let notify = Notify::of_environment().map(Arc::new);
    if let Some(notify) = &notify {
        notify.ready(&listening);
        give_signs_of_life(&runtime, notify);
    }
    let serving = tracker::serve(Listeners { calls, tls, monitor }, config, secret, health, shared, async {
        let _ = stopped.await;
        log("stopping");
        notify.inspect(|notify| notify.stopping());
    });
    runtime.block_on(serving).map_err(|error| format!("cannot serve on {at}: {error}"))
}

/// Tells a supervisor that wants to hear of it, as long as the one thread that answers calls gets round to it.
fn give_signs_of_life(runtime: &Runtime, notify: &Arc<Notify>) {
    let Some(every) = notify.watchdog() else { return };
    let notify = Arc::clone(notify);
    runtime.spawn(async move {
        loop {
            notify.alive();
            sleep(every).await;
        }
    });
}

fn main() -> ExitCode {
    let options = match COMMAND.parse() {
        Ok(Parsed::Args(args)) => options(&args),
        Ok(Parsed::Text(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(error),
    };
    let (error, code) = match options.map(run) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error, 1),
        Err(error) => (error, 2),
    };
    log(format_args!("error: {error}"));
    ExitCode::from(code)
}
