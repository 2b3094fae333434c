//! `get`: which content is meant, and what stands where it should go.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{Console, progress::Meter, text};
use crate::{
    content::ContentId,
    limits,
    name::{PeerId, SharePath},
    peer::{
        link::{Found, Link, LinkError, Page, Source},
        share::{Entry, Lookup},
        swarm::{Finder, Report, Watch},
    },
    say,
};

impl Console {
    pub(super) fn get(&mut self, what: &str, target: Option<&str>) {
        let target = match target.map(str::parse::<SharePath>).transpose() {
            Ok(target) => target,
            Err(error) => return self.fail(format_args!("{}: {error}", target.map_or(String::new(), named))),
        };
        match resolve(&self.link, what, target.is_some()) {
            Ok(Wanted::Content(id, path)) => {
                let Some(path) = target.or(path) else {
                    return self.fail(format_args!("{what} has no name: give a path, as in `get {what} notes.txt`"));
                };
                if let Err(error) = self.fetch(&id, &path) {
                    self.fail(error);
                }
            }
            Ok(Wanted::Matches(first)) => self.get_matches(what, first),
            Err(error) => self.fail(error),
        }
    }

    /// Brings a content to a path, and prints the result.
    pub(super) fn fetch(&mut self, id: &ContentId, path: &SharePath) -> Result<(), String> {
        let size = match self.share.look_up_hashed(path, Instant::now() + limits::UNHASHED_TIME) {
            Lookup::Known(Entry { content, size }) if content == *id => {
                say(format_args!("{path} is here already"));
                size
            }
            Lookup::Known(_) => {
                return Err(format!("{path} is here with other content: give a new path, as in `get {id} <new path>`"));
            }
            Lookup::Unhashed => {
                return Err(is_unhashed(path));
            }
            Lookup::Absent => {
                let meter = Meter::new(path.as_str());
                let job = self.jobs.start(id, path).map_err(|error| format!("{path}: {error}"))?;
                let outcome = job.wait(|done, size| meter.progress(done, size));
                let report = outcome.map_err(|error| format!("{path}: {error}"))?;
                say(account(path, &report));
                // So that whatever a script does next finds this peer among the sources.
                self.link.wait_settled(Instant::now() + Duration::from_secs(u64::from(self.link.is_joined())));
                report.size
            }
        };
        self.put(&format!("{id}\t{size}\t{path}\n"));
        Ok(())
    }
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

/// What a `get` is about.
enum Wanted {
    /// One content, and its path where there is one.
    Content(ContentId, Option<SharePath>),
    /// What a pattern matches: the first page of it.
    Matches(Page),
}

/// Finds out what `what` names: an id, else a path, else a pattern.
fn resolve(link: &Link, what: &str, has_target: bool) -> Result<Wanted, String> {
    if let Ok(id) = what.parse::<ContentId>() {
        if has_target {
            return Ok(Wanted::Content(id, None));
        }
        let paths = link.locate(&id).map_err(|error| error.to_string())?.paths;
        return match &paths[..] {
            [] => Err(format!("nobody offers {id} now")),
            [path] => Ok(Wanted::Content(id, Some(path.clone()))),
            several => {
                let mut error = format!("{id} goes by several paths: say which, as in `get {id} {}`", several[0]);
                for path in several {
                    let _ = write!(error, "\n  {path}");
                }
                Err(error)
            }
        };
    }
    let path = what.parse::<SharePath>();
    if let Ok(path) = &path {
        let (rows, _) = link.search(what, true).map_err(|error| error.to_string())?;
        let rows: Vec<_> = rows.into_iter().filter(|row| row.path == *path).collect();
        if !rows.is_empty() {
            return Ok(Wanted::Content(one_content(what, &rows)?, Some(path.clone())));
        }
    }
    if !what.contains(['*', '?']) {
        return Err(match path {
            Ok(_) => format!("nobody offers {what} now: `search` finds files by a part of their path"),
            Err(error) => format!("{}: {error}", named(what)),
        });
    }
    let page = link.page(what, None).map_err(|error| error.to_string())?;
    match &page.found[..] {
        [] => Err(format!("nothing matches {what} now")),
        [first, ..] if !page.has_more() && page.found.iter().all(|row| row.path == first.path) => {
            Ok(Wanted::Content(one_content(first.path.as_str(), &page.found)?, Some(first.path.clone())))
        }
        _ if has_target => Err(format!("{what} matches several files: they cannot all go to one path, leave it out")),
        _ => Ok(Wanted::Matches(page)),
    }
}

/// A word that is no path, to be shown; one can be empty or hold what a terminal would obey.
pub(super) fn named(word: &str) -> String {
    if word.is_empty() || word.contains(char::is_control) { format!("{word:?}") } else { word.to_owned() }
}

pub(super) fn is_unhashed(path: &SharePath) -> String {
    format!("{path} is here and not hashed yet: try again in a while, or give a new path")
}

/// The content that a path names, where it names one.
pub(super) fn one_content(path: &str, rows: &[Found]) -> Result<ContentId, String> {
    let mut contents = BTreeMap::new();
    for row in rows {
        contents.entry(row.content).or_insert(row);
    }
    if contents.len() == 1 {
        return Ok(rows[0].content);
    }
    let mut error = format!("{path} names {} contents: get one by its id, as in `get <id> {path}`", contents.len());
    for (id, row) in contents {
        let ids: Vec<_> = row.source_ids.iter().map(PeerId::as_str).collect();
        let _ = write!(error, "\n  {id}  {}  {}", text::size(row.size), ids.join(","));
    }
    Err(error)
}

fn account(path: &SharePath, report: &Report) -> String {
    let speed = text::speed(report.size, report.time);
    let sources: Vec<_> = report.sources.iter().map(PeerId::as_str).collect();
    match &report.copied {
        Some(from) => format!("copied {path} from the own {from}: {speed}"),
        None if sources.is_empty() => format!("made {path} of what was here: {speed}"),
        None => format!("fetched {path} from {}: {speed}", sources.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, content: &[u8], size: u64) -> Found {
        let source_ids = vec!["p1".parse().unwrap()];
        Found { path: path.parse().unwrap(), content: ContentId::of(content), size, sources: 1, source_ids }
    }

    #[test]
    fn a_path_with_several_contents_is_listed_and_one_with_several_sizes_is_not() {
        let a = ContentId::of(b"a");
        assert_eq!(one_content("x", &[found("x", b"a", 1), found("x", b"a", 2)]), Ok(a));
        let error = one_content("x", &[found("x", b"a", 1), found("x", b"b", 2)]).unwrap_err();
        assert!(error.starts_with("x names 2 contents") && error.contains(&format!("\n  {a}  1 byte  p1")), "{error}");
    }

    #[test]
    fn an_account_names_where_the_bytes_came_from() {
        let path = "a".parse().unwrap();
        let report = |sources: &[&str], copied: Option<&str>| Report {
            size: 1 << 20,
            sources: sources.iter().map(|peer| peer.parse().unwrap()).collect(),
            copied: copied.map(|path| path.parse().unwrap()),
            fetched: 0,
            time: Duration::from_secs(1),
        };
        for (report, text) in [
            (report(&["p1", "p2"], None), "fetched a from p1, p2: 1.0 MiB in 1.0 s (1.0 MiB/s)"),
            (report(&[], Some("b")), "copied a from the own b: 1.0 MiB in 1.0 s (1.0 MiB/s)"),
            (report(&[], None), "made a of what was here: 1.0 MiB in 1.0 s (1.0 MiB/s)"),
        ] {
            assert_eq!(account(&path, &report), text);
        }
    }
}
