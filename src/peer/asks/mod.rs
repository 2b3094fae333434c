//! What a person asks of a peer, done once: the console, the JSON API and one-shot commands are faces that only
//! parse and tell.

pub mod json;
pub mod lines;

mod error;
mod many;
mod resolve;
mod status;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use error::AskError;
pub use many::Tally;
pub use resolve::Wanted;
pub use status::Status;

use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::{Found, Link, LinkError, Member, Roll, Source},
        share::{Entry, Lookup, Share},
        swarm::{
            Finder, Report,
            jobs::{Handle, Jobs, Listed},
        },
    },
};
use resolve::named;

/// What one peer can be asked for. Clones are handles to the same one.
#[derive(Clone)]
pub struct Asks {
    /// Its files.
    pub share: Share,
    /// Its swarm.
    pub link: Link,
    /// Its downloads.
    pub jobs: Jobs,
}

/// Who shows how a `get` goes.
pub trait Face {
    /// A job with this number brings a file.
    fn began(&mut self, _job: u64) {}
    /// Whether the rest is not wanted any more.
    fn is_stopped(&self) -> bool {
        false
    }
    /// So many of so many bytes of a file are here.
    fn progress(&mut self, path: &SharePath, here: u64, size: u64);
    /// These files are here, safely on disk.
    fn got(&mut self, files: &[Got]);
    /// One of many files is not, and why; the others go on.
    fn failed(&mut self, error: AskError);
    /// Something a person may want to know; one line.
    fn note(&mut self, line: &str);
    /// How a get of many files stands.
    fn tally(&mut self, tally: &Tally);
}

/// A file that a `get` was about, and that is here.
#[derive(Clone, Debug)]
pub struct Got {
    /// Its content.
    pub content: ContentId,
    /// Its bytes.
    pub size: u64,
    /// Its path.
    pub path: SharePath,
    /// How it came.
    pub how: How,
}

/// How a file has come.
#[derive(Clone, Debug)]
pub enum How {
    /// It was here before.
    Here,
    /// By a download of its own.
    Fetched(Arc<Report>),
    /// With many others, or it was here before: the [`Tally`] tells of these.
    Together,
}

/// What becomes of a content that is to be brought to a path.
pub enum Begun {
    /// It is there already, and has so many bytes.
    Here(u64),
    /// This job brings it.
    Job(Handle),
}

impl Asks {
    /// Files whose path matches `text`, and whether there are more.
    ///
    /// # Errors
    /// When the text is blank, or no tracker can be asked.
    pub fn search(&self, text: &str) -> Result<(Vec<Found>, bool), AskError> {
        search(&self.link, text)
    }

    /// Some of these files, those behind a reply whose cursor is given, or the first; and the cursor for what comes
    /// behind them, empty at the end. There can be no file in it and more behind it.
    ///
    /// # Errors
    /// As [`search`](Self::search), or when the cursor is none.
    pub fn search_from(&self, text: &str, cursor: Vec<u8>) -> Result<(Vec<Found>, Vec<u8>), AskError> {
        check_text(text)?;
        Ok(self.link.search_from(text, cursor)?)
    }

    /// Peers of the swarm behind a reply whose cursor is given, or the first of them.
    ///
    /// # Errors
    /// When no tracker can be asked, or the cursor is none.
    pub fn peers(&self, cursor: &str) -> Result<Roll, AskError> {
        Ok(self.link.peers(cursor)?)
    }

    /// What a path, a content id or a pattern names; `has_target` says that it is to go to another path.
    ///
    /// # Errors
    /// When it names nothing, or more than can be meant.
    pub fn resolve(&self, what: &str, has_target: bool) -> Result<Wanted, AskError> {
        resolve::resolve(&self.link, what, has_target)
    }

    /// Fetches what a path, a content id or a pattern names, to `target` where one is given, and waits for it: to that
    /// path, or, where it ends with `/`, below that folder. The tally is of many files.
    ///
    /// # Errors
    /// When it names nothing or more than can be meant, or one file cannot be had. Of many, `face` is told.
    pub fn get(&self, what: &str, target: Option<&str>, face: &mut dyn Face) -> Result<Option<Tally>, AskError> {
        let (folder, path) = match target {
            Some(target) => match target.strip_suffix('/') {
                Some(folder) => (Some(target_path(folder)?), None),
                None => (None, Some(target_path(target)?)),
            },
            None => (None, None),
        };
        match self.resolve(what, path.is_some())? {
            Wanted::Content(id, known) => {
                let below = |path| resolve::below(folder.as_ref(), path);
                let path = match path {
                    Some(path) => path,
                    None => known.map(below).transpose()?.ok_or_else(|| nameless(what))?,
                };
                let got = self.fetch(&id, &path, face)?;
                face.got(&[got]);
                Ok(None)
            }
            Wanted::Matches(first) => Ok(Some(self.get_matches(what, first, folder.as_ref(), face))),
        }
    }

    /// Has a content brought to a path, and does not wait for it.
    ///
    /// # Errors
    /// When something is in the way, or it cannot be begun.
    pub fn begin(&self, id: &ContentId, path: &SharePath) -> Result<Begun, AskError> {
        match self.share.look_up_hashed(path, Instant::now() + limits::UNHASHED_TIME) {
            Lookup::Known(Entry { content, size }) if content == *id => Ok(Begun::Here(size)),
            Lookup::Known(_) => {
                Err(AskError::Taken(format!("{path} is here with other content: give a new path to fetch {id} to")))
            }
            Lookup::Unhashed => Err(AskError::Unhashed(path.clone())),
            Lookup::Absent => match self.jobs.start(id, path) {
                Ok(job) => Ok(Begun::Job(job)),
                Err(error) => Err(AskError::Get(path.clone(), Arc::new(error))),
            },
        }
    }

    /// Brings a content to a path, and waits until it is there.
    fn fetch(&self, id: &ContentId, path: &SharePath, face: &mut dyn Face) -> Result<Got, AskError> {
        let (size, how) = match self.begin(id, path)? {
            Begun::Here(size) => (size, How::Here),
            Begun::Job(job) => {
                face.began(job.number());
                let outcome = job.wait(|here, size| face.progress(path, here, size));
                let report = outcome.map_err(|error| AskError::Get(path.clone(), error))?;
                self.settle();
                (report.size, How::Fetched(report))
            }
        };
        Ok(Got { content: *id, size, path: path.clone(), how })
    }

    /// So that whatever a script does next finds this peer among the sources.
    fn settle(&self) {
        self.link.wait_settled(Instant::now() + Duration::from_secs(u64::from(self.link.is_joined())));
    }

    /// Downloads in their order, and then what is left of others.
    pub fn downloads(&self) -> Vec<Listed> {
        self.jobs.list()
    }

    /// Ends the one download that a path, a content id or else its number names, and removes what is here of it.
    ///
    /// # Errors
    /// When there is none, or several, or it has ended meanwhile.
    pub fn cancel(&self, what: &str) -> Result<(), AskError> {
        let (id, path) = (what.parse::<ContentId>().ok(), what.parse::<SharePath>().ok());
        let number = what.parse().ok();
        let (named_so, others): (Vec<_>, Vec<_>) = self.jobs.list().into_iter().partition(|listed| match id {
            Some(id) => listed.content == id,
            None => path.is_some() && listed.path == path,
        });
        let numbered = others.into_iter().filter(|listed| number.is_some() && listed.number == number);
        let matches = if named_so.is_empty() { numbered.collect() } else { named_so };
        match &matches[..] {
            [] => Err(AskError::Absent(format!("no download of {}: `downloads` lists them", named(what)))),
            [listed] => {
                let is_gone = match listed.number {
                    Some(number) => self.jobs.cancel(number),
                    None => self.jobs.discard(&listed.content),
                };
                is_gone.then_some(()).ok_or_else(|| {
                    AskError::Taken(format!("{what} has ended meanwhile, or begun again: see `downloads`"))
                })
            }
            several => {
                let other = |listed: &Listed| match (&listed.path, id) {
                    (Some(path), Some(_)) => path.to_string(),
                    _ => listed.content.to_string(),
                };
                let kind = if id.is_some() { "path" } else { "content id" };
                let others: String = several.iter().map(|listed| format!("\n  {}", other(listed))).collect();
                Err(AskError::Several(format!(
                    "several downloads of {what}: cancel one by its number or {kind}{others}"
                )))
            }
        }
    }
}

fn check_text(text: &str) -> Result<(), AskError> {
    match text.len() {
        _ if text.trim().is_empty() => Err(AskError::Bad("search needs a text: search notes".into())),
        0..=limits::PATH_BYTES => Ok(()),
        _ => Err(AskError::Bad(format!("search takes a text of at most {} bytes", limits::PATH_BYTES))),
    }
}

/// As [`Asks::search`], for whoever has no share.
///
/// # Errors
/// When the text is blank, or no tracker can be asked.
pub fn search(link: &Link, text: &str) -> Result<(Vec<Found>, bool), AskError> {
    check_text(text)?;
    Ok(link.search(text, false)?)
}

/// All peers of the swarm, ordered by id.
///
/// # Errors
/// When no tracker can be asked.
pub fn everybody(link: &Link) -> Result<Vec<Member>, AskError> {
    let mut peers = Vec::new();
    let mut cursor = String::new();
    loop {
        let roll = link.peers(&cursor)?;
        peers.extend(roll.peers);
        cursor = roll.cursor;
        if cursor.is_empty() || peers.len() >= limits::PEERS_TOLD {
            return Ok(peers);
        }
    }
}

/// Where a `get` is to go.
///
/// # Errors
/// When no file can have this name.
pub fn target_path(target: &str) -> Result<SharePath, AskError> {
    target.parse().map_err(|error| AskError::Bad(format!("{}: {error}", named(target))))
}

/// For a content id that is asked for, and goes by no path.
pub fn nameless(what: &str) -> AskError {
    AskError::Bad(format!("{what} has no name: give a path to fetch it to"))
}

impl Finder for Link {
    fn whole(&self, id: &ContentId) -> Result<Vec<Source>, LinkError> {
        self.locate(id).map(|located| located.sources)
    }

    fn neighbours(&self, id: &ContentId, size: u64, dead: &[PeerId]) -> Result<Vec<Source>, LinkError> {
        self.begin_download(id, size);
        Link::neighbours(self, id, dead)
    }

    fn end(&self, id: &ContentId) {
        self.end_download(id);
    }
}
