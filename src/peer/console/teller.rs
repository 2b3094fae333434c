//! How what was asked for looks: results on stdout, as tables, lines or JSON; and how a `get` goes, on stderr.

use std::{
    fmt::Display,
    io::{ErrorKind, IsTerminal, Write, stderr, stdout},
};

use serde_json::Value;

use super::{
    progress::{Meter, files_text},
    text,
};
use crate::{
    complain, limits,
    name::{PeerId, SharePath},
    peer::{
        asks::{AskError, Face, Got, How, Status, Tally, json, lines},
        link::{Found, Member},
        swarm::{Report, jobs::Listed},
    },
    say, screen, show,
};

/// In which form results are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Tables on a terminal, elsewhere lines with tabs.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Tells a person or a script.
pub struct Teller {
    form: Form,
    /// How the download goes that is waited for.
    meter: Option<Meter>,
    /// What failed first of many files.
    first: Option<AskError>,
    has_failed: bool,
    /// Nobody reads the results any more.
    is_shut: bool,
    /// It ends with what it tells.
    is_once: bool,
}

impl Teller {
    /// One that has told nothing yet.
    pub fn new(form: Form) -> Self {
        Self { form, meter: None, first: None, has_failed: false, is_shut: false, is_once: false }
    }

    /// So too for a process that ends with what it tells, as quietly as a pipe does.
    pub fn once(form: Form) -> Self {
        Self { is_once: true, ..Self::new(form) }
    }

    /// Whether an error was told.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The first error about one of many files.
    pub fn take_first(&mut self) -> Option<AskError> {
        self.first.take()
    }

    /// Tells of an error.
    pub fn fail(&mut self, error: impl Display) {
        self.has_failed = true;
        complain(error);
    }

    /// The rows of a search.
    pub fn found(&mut self, found: &[Found]) {
        let row = |row: &Found| {
            vec![text::size(row.size), row.sources.to_string(), row.path.to_string(), row.content.to_string()]
        };
        self.rows(found, &["size", "sources", "path", "content id"], row, lines::found, json::found);
    }

    /// The downloads of a peer.
    pub fn downloads(&mut self, downloads: &[Listed]) {
        if downloads.is_empty() {
            return say("no downloads");
        }
        let row = |listed: &Listed| {
            let number = listed.number.map_or_else(String::new, |number| number.to_string());
            let size = listed.size.map_or_else(|| "?".to_owned(), text::size);
            let path = listed.path.as_ref().map_or("", SharePath::as_str).to_owned();
            let rate = if listed.rate > 0 { format!("{}/s", text::size(listed.rate)) } else { String::new() };
            vec![
                number,
                text::size(listed.here),
                size,
                rate,
                listed.standing.to_string(),
                path,
                listed.content.to_string(),
            ]
        };
        let head = ["number", "here", "size", "rate", "state", "path", "content id"];
        self.rows(downloads, &head, row, lines::listed, json::listed);
    }

    /// The peers of a swarm.
    pub fn peers(&mut self, peers: &[Member]) {
        let row = |member: &Member| {
            let Member { place, files, bytes, downloads, mirror } = member;
            let mirror = mirror.map_or_else(String::new, |mirror| format!("{} of {}", mirror.here, mirror.wanted));
            let (zone, address) = (place.zone.as_str().to_owned(), place.address.to_string());
            let counts = [files.to_string(), text::size(*bytes), downloads.to_string()];
            [vec![place.peer.to_string(), address, zone], counts.to_vec(), vec![mirror]].concat()
        };
        let head = ["peer", "address", "zone", "files", "bytes", "downloads", "mirrored"];
        self.rows(peers, &head, row, lines::member, json::member);
    }

    /// How a peer stands.
    pub fn status(&mut self, status: &Status) {
        let text = lines::status(status);
        if !stdout().is_terminal() {
            return self.put(&text);
        }
        let row = |line: &str| line.split('\t').map(str::to_owned).collect();
        let mut rows: Vec<Vec<String>> = text.lines().map(row).collect();
        rows.iter_mut().filter(|row| row[0] == "bytes").for_each(|row| row[1] = text::size(status.bytes));
        self.put(&text::table(&["peer", status.peer.as_str()], &rows[1..]));
    }

    fn rows<T>(
        &mut self,
        rows: &[T],
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
        line: fn(&T) -> String,
        json: fn(&T) -> Value,
    ) {
        let text = match self.form {
            Form::Plain if stdout().is_terminal() => text::table(head, &rows.iter().map(row).collect::<Vec<_>>()),
            Form::Plain => rows.iter().map(line).collect(),
            Form::Json => rows.iter().map(|row| format!("{}\n", json(row))).collect(),
        };
        self.put(&text);
    }

    /// Writes results to stdout.
    pub(super) fn put(&mut self, text: &str) {
        if let Some(screen) = screen() {
            return screen(text);
        }
        let mut stdout = stdout().lock();
        let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else { return };
        self.is_shut |= error.kind() == ErrorKind::BrokenPipe;
        // Whoever ends a pipe does not want to be told of it; a peer's script goes on without its results.
        if self.is_once && self.is_shut {
            self.has_failed = true;
        } else {
            self.fail(format_args!("cannot write the result to stdout: {error}"));
        }
    }

    /// A get is over; of many files, how that went.
    pub fn end(&mut self, tally: Option<&Tally>) {
        self.meter = None;
        tally.iter().for_each(|tally| say(tally_account(tally)));
    }
}

impl Face for Teller {
    fn progress(&mut self, path: &SharePath, here: u64, size: u64) {
        let meter = self.meter.take().filter(|meter| meter.is_of(path));
        self.meter.insert(meter.unwrap_or_else(|| Meter::new(path, here))).show(here, size);
    }

    fn got(&mut self, files: &[Got]) {
        for Got { path, how, .. } in files {
            match how {
                How::Here => say(format_args!("{path} is here already")),
                How::Fetched(report) => say(account(path, report)),
                How::Together => {}
            }
        }
        let text: String = match self.form {
            Form::Plain => files.iter().map(lines::got).collect(),
            Form::Json => files.iter().map(|got| format!("{}\n", json::got(got))).collect(),
        };
        self.put(&text);
    }

    fn failed(&mut self, error: AskError) {
        self.fail(&error);
        self.first.get_or_insert(error);
    }

    fn note(&mut self, line: &str) {
        say(line);
    }

    fn tally(&mut self, tally: &Tally) {
        if stderr().is_terminal() {
            show(tally_row(tally));
        }
    }
}

/// How a get of many files goes.
pub(super) fn tally_row(tally: &Tally) -> String {
    let more = if tally.is_all { "" } else { " or more" };
    let speed = text::speed(tally.bytes, tally.began.elapsed());
    format!("{} of {}{more}, {speed}", tally.done(), files_text(tally.found))
}

/// How a file came.
pub(in crate::peer) fn account(path: &SharePath, report: &Report) -> String {
    let speed = text::speed(report.size, report.time);
    let sources: Vec<_> = report.sources.iter().map(PeerId::as_str).collect();
    match &report.copied {
        Some(from) => format!("copied {path} from the own {from}: {speed}"),
        None if sources.is_empty() => format!("made {path} of what was here: {speed}"),
        None => format!("fetched {path} from {}: {speed}", sources.join(", ")),
    }
}

/// The line at the end of a get of many files.
fn tally_account(tally: &Tally) -> String {
    let mut parts = Vec::new();
    if tally.fetched > 0 {
        let sources: Vec<_> = tally.sources.iter().take(limits::ROW_PLACES).map(PeerId::as_str).collect();
        let more = tally.sources.len() - sources.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let speed = text::speed(tally.bytes, tally.began.elapsed());
        let from = if sources.is_empty() { String::new() } else { format!(" from {}{more}", sources.join(", ")) };
        parts.push(format!("fetched {}{from}: {speed}", files_text(tally.fetched)));
    }
    for (files, what) in [(tally.alone, "one by one"), (tally.here, "here already"), (tally.failed, "failed")] {
        if files > 0 {
            parts.push(format!("{} {what}", files_text(files)));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
