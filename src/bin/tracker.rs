//! The tracker: `tracker --help` says how it is started.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    str::FromStr,
    thread,
    time::Duration,
};

use enjambre::{
    args::{Args, Command, Flag, Parsed},
    limits, say, tracker,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio::{runtime, sync::oneshot};

static COMMAND: Command = Command {
    name: "tracker",
    about: "knows which peer holds which file",
    operands: &[],
    flags: &[
        Flag { name: "--listen", value: "ADDR:PORT", help: "where peers connect (0.0.0.0:50051)" },
        Flag { name: "--lease", value: "SECONDS", help: "how long to believe a silent peer, 1 to 3600 (15)" },
        Flag {
            name: "--allow-advertise",
            value: "",
            help: "let peers give out another address than they connect from",
        },
    ],
    more: "In round brackets: what holds without the flag. In square ones: the variable that stands in for it.\n\
           The log goes to stderr. SIGINT and SIGTERM end the tracker.\n",
};

struct Options {
    listen: SocketAddr,
    config: tracker::Config,
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
    let listen = args.value("--listen")?.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 50051)));
    let allow_advertise = args.is_set("--allow-advertise")?;
    Ok(Options { listen, config: tracker::Config { lease, allow_advertise } })
}

fn run(Options { listen, config }: &Options) -> Result<(), String> {
    let listener = TcpListener::bind(listen).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                ": perhaps another tracker runs here; stop it, or take another port with --listen"
            }
            io::ErrorKind::AddrNotAvailable => ": no interface has this address; --listen 0.0.0.0:PORT takes them all",
            io::ErrorKind::PermissionDenied => ": ports below 1024 are for root; take another with --listen",
            _ => "",
        };
        format!("cannot listen on {listen}: {error}{advice}")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    tracker::raise_open_files();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("cannot wait for signals: {error}"))?;
    let (stop, stopped) = oneshot::channel();
    thread::spawn(move || {
        signals.forever().next();
        let _ = stop.send(());
    });
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    say(format_args!("tracker listening on {address}, lease {} s", config.lease.as_secs()));
    let serving = tracker::serve(listener, *config, async {
        let _ = stopped.await;
    });
    runtime.block_on(serving).map_err(|error| format!("cannot serve on {address}: {error}"))
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
    let (error, code) = match options.map(|options| run(&options)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error, 1),
        Err(error) => (error, 2),
    };
    say(format_args!("error: {error}"));
    ExitCode::from(code)
}
