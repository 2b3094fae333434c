//! `peer get`: into the folder that is meant, or to stdout.

use std::{
    borrow::Cow,
    env,
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{Stop, Visit, codes, codes::Failed, visitor};
use crate::{
    args::Args,
    limits,
    name::{SharePath, Zone},
    peer::{
        asks::{Asks, Face, Wanted},
        console::{Teller, account},
        flags,
        metrics::Metrics,
        share::Share,
        swarm::{Fetcher, Getter, Watch, jobs::Jobs, partial::Downloads},
    },
    rate::Rate,
    say,
    size::KeepFree,
};

/// Where a `get` is to go.
enum Output<'a> {
    Stdout,
    /// A folder, and the path in it where one is given.
    Folder(PathBuf, Option<Cow<'a, str>>),
}

impl<'a> Output<'a> {
    fn of(output: Option<&'a str>) -> Self {
        match output {
            None => Self::Folder(".".into(), None),
            Some("-") => Self::Stdout,
            Some(folder) if folder.ends_with('/') || Path::new(folder).is_dir() => Self::Folder(folder.into(), None),
            Some(file) => {
                let path = Path::new(file);
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let name = path.file_name().unwrap_or_default();
                Self::Folder(folder.unwrap_or(Path::new(".")).into(), Some(name.to_string_lossy()))
            }
        }
    }
}

impl Visit {
    pub(super) fn get(&mut self, what: &str, args: &Args) -> Result<u8, Failed> {
        let output = args.value::<String>("--output").map_err(Failed::usage)?;
        let keep_free = args.value::<KeepFree>(flags::KEEP_FREE.name).map_err(Failed::usage)?.unwrap_or_default();
        let connections = flags::connections(args).map_err(Failed::usage)?;
        let limit = args.value::<Rate>(flags::DOWNLOAD_LIMIT.name).map_err(Failed::usage)?;
        let (secret, tls) = (self.secret.clone(), self.tls.clone());
        let fetcher = Fetcher::new(limits::SOURCE_STALL_TIME, connections, limit, secret, tls);
        let output = Output::of(output.as_deref());
        let share = match &output {
            Output::Stdout => Share::passing(&env::temp_dir(), keep_free).map_err(Failed::disk)?,
            // Of a folder that is there, something else is wrong than its name.
            Output::Folder(folder, _) => Share::visit(folder, keep_free)
                .map_err(|error| if folder.is_dir() { Failed::disk(error) } else { Failed::usage(error) })?,
        };
        let done = self.get_into(&share, what, &output, fetcher, args);
        if let Some(kept) = share.end_visit() {
            say(format_args!("what has come is kept in {}: the same get goes on from there", kept.display()));
        }
        done
    }

    fn get_into(
        &mut self,
        share: &Share,
        what: &str,
        output: &Output<'_>,
        fetcher: Fetcher,
        args: &Args,
    ) -> Result<u8, Failed> {
        let peer = visitor()?;
        let zone = args.value::<Zone>(flags::ZONE.name).map_err(Failed::usage)?.unwrap_or_default();
        let link = self.link(args, peer.clone(), zone.clone())?;
        let finder = Arc::new(link.clone());
        let getter = Getter {
            share: share.clone(),
            downloads: Downloads::default(),
            peer,
            zone,
            finder,
            fetcher,
            metrics: Metrics::default(),
        };
        let jobs = Jobs::once(getter);
        let (stopped, kept) = (jobs.clone(), share.clone());
        let tidy = move || {
            kept.end_visit();
        };
        self.stop.watch(move || stopped.stop(), tidy).map_err(|error| Failed::system(&error))?;
        let asks = Asks { share: share.clone(), link, jobs };
        match output {
            Output::Stdout => self.pass(&asks, what),
            Output::Folder(_, target) => {
                let tally = asks.get(what, target.as_deref(), &mut self.teller)?;
                self.teller.end(tally.as_ref());
                Ok(self.teller.take_first().map_or_else(|| self.code(), |first| codes::of(&first)))
            }
        }
    }

    /// Writes one content to stdout.
    fn pass(&mut self, asks: &Asks, what: &str) -> Result<u8, Failed> {
        let Wanted::Content(id, path) = asks.resolve(what, true)? else {
            return Err(Failed::absent(format_args!("{what} matches several files, which cannot all go to stdout")));
        };
        let path = path.or_else(|| "stdout".parse().ok()).ok_or_else(|| Failed::usage("no name"))?;
        // Not buffered: each block goes on as it is.
        let out = io::stdout().as_fd().try_clone_to_owned();
        let mut out = File::from(out.map_err(|error| Failed::system(&error))?);
        let report = {
            let watch = Looking { teller: Mutex::new(&mut self.teller), path: &path, stop: &self.stop };
            asks.jobs.getter().pass(&id, &mut out, &watch)?
        };
        self.teller.end(None);
        say(account(&path, &report));
        Ok(0)
    }
}

/// Looks on for a get that goes to stdout.
struct Looking<'a> {
    teller: Mutex<&'a mut Teller>,
    path: &'a SharePath,
    stop: &'a Stop,
}

impl Watch for Looking<'_> {
    fn progress(&self, done: u64, size: u64) {
        if let Ok(mut teller) = self.teller.lock() {
            teller.progress(self.path, done, size);
        }
    }

    fn note(&self, line: &str) {
        say(line);
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }
}
