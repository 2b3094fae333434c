//! `get`, and how a person is told of it.

use std::io::{IsTerminal, stderr};

use super::{
    Console,
    progress::{Meter, files_text},
    text,
};
use crate::{
    limits,
    name::{PeerId, SharePath},
    peer::{
        asks::{AskError, Face, Got, How, Tally},
        swarm::Report,
    },
    say, show,
};

impl Console {
    pub(super) fn get(&mut self, what: &str, target: Option<&str>) {
        let asks = self.asks.clone();
        let went = asks.get(what, target, self);
        self.meter = None;
        match went {
            Ok(tally) => tally.iter().for_each(|tally| say(tally_account(tally))),
            Err(error) => self.fail(error),
        }
    }
}

impl Face for Console {
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
        let line = |Got { content, size, path, .. }: &Got| format!("{content}\t{size}\t{path}\n");
        self.put(&files.iter().map(line).collect::<String>());
    }

    fn failed(&mut self, error: AskError) {
        self.fail(error);
    }

    fn note(&mut self, line: &str) {
        say(line);
    }

    fn tally(&mut self, tally: &Tally) {
        if stderr().is_terminal() {
            let more = if tally.is_all { "" } else { " or more" };
            let speed = text::speed(tally.bytes, tally.began.elapsed());
            show(format_args!("{} of {}{more}, {speed}", tally.done(), files_text(tally.found)));
        }
    }
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
