//! `search`, `list`, `leave`, `help`, and which command a line is.

use std::io::{IsTerminal, stdout};

use super::{Console, Next, progress::files_text, text, words};
use crate::{
    limits,
    name::SharePath,
    peer::share::{Entry, Hashing},
    say,
};

/// The commands: how each is written, and what it does.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    ("search <text>", "files whose path contains the text, or matches it where it has * or ?"),
    ("get <what> [<new path>]", "fetch by path, content id or pattern into the own folder, and offer it from then on"),
    ("get <what> --to <place>", "the same; to a folder (FOLDER/) or a new path"),
    ("list", "the own files"),
    ("downloads", "what is being fetched, waits for something, or is left of a broken get"),
    ("cancel <which>", "end such a download, by its number, path or content id, and remove what is here of it"),
    ("peers", "who is in the swarm, and with what"),
    ("status", "how this peer stands"),
    ("leave", "say good-bye, finish what is being served, end"),
    ("help", "this text"),
];

/// The names of the commands, each once.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let names = COMMANDS.iter().filter_map(|(usage, _)| usage.split(' ').next());
    let mut last = "";
    names.filter(move |name| std::mem::replace(&mut last, name) != *name)
}

fn help() -> String {
    let rows = COMMANDS.iter().map(|(usage, what)| format!("{usage:25}{what}\n"));
    rows.collect::<String>()
        + "Quote a path that has blanks: get 'my notes.txt'. From a pipe or a file, results are lines with tabs."
}

impl Console {
    /// Carries out the command on a line that is not blank.
    pub(super) fn command(&mut self, line: &str) -> Next {
        let line = line.trim_start();
        let verb = line.split_ascii_whitespace().next().unwrap_or_default();
        if verb == "search" {
            // The text is whatever stands behind the blank: a search needs no quotes.
            self.search(line[verb.len()..].get(1..).unwrap_or_default());
            return Next::Command;
        }
        let words = match words::split(line) {
            Ok(words) => words,
            Err(error) => {
                self.fail(error);
                return Next::Command;
            }
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["get", what] => self.get(what, None),
            ["get", what, "--to", to] | ["get", "--to", to, what] if what.contains(['*', '?']) => {
                self.get(what, Some(&format!("{}/", to.trim_end_matches('/'))));
            }
            ["get", what, "--to", target] | ["get", "--to", target, what] | ["get", what, target]
                if !what.starts_with("--") && target != "--to" =>
            {
                self.get(what, Some(target));
            }
            ["get", ..] => self.fail(
                "get takes a path, a content id or a pattern, and maybe a new path; what has spaces goes in quotes: get 'my notes.txt'",
            ),
            ["list"] => self.list(),
            ["downloads"] => self.downloads(),
            ["cancel", what] => self.cancel(what),
            ["cancel", ..] => self.fail("cancel takes a number, a path or a content id, in quotes where it has spaces: `downloads` lists them"),
            ["peers"] => self.peers(),
            ["status"] => self.status(),
            ["help"] => say(help()),
            ["leave"] => return Next::Leave,
            ["list" | "downloads" | "peers" | "status" | "help" | "leave", ..] => {
                self.fail(format_args!("{} stands alone on its line", words[0]))
            }
            _ => {
                // It can be a line of anything that was piped here by mistake, and hold what a terminal obeys.
                let verb = text::shortened(verb, 30).replace(char::is_control, "?");
                let known: Vec<_> = names().collect();
                self.fail(format_args!("unknown command `{verb}`: the commands are {}", known.join(", ")));
            }
        }
        Next::Command
    }

    fn search(&mut self, text: &str) {
        let (found, more) = match self.asks.search(text) {
            Ok(answer) => answer,
            Err(error) => return self.fail(error),
        };
        if found.is_empty() {
            say("nothing found");
        } else {
            self.teller.found(&found);
        }
        if more {
            say("there is more: search for a longer text to see it");
        }
    }

    fn list(&mut self) {
        let is_terminal = stdout().is_terminal();
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let page = self.asks.share.list(after.as_ref(), limits::LIST_PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            if is_terminal {
                let row = |(path, Entry { content, size }): (SharePath, Entry)| {
                    vec![text::size(size), path.to_string(), content.to_string()]
                };
                rows.extend(page.into_iter().map(row));
            } else {
                let line =
                    |(path, Entry { content, size }): &(SharePath, Entry)| format!("{content}\t{size}\t{path}\n");
                self.teller.put(&page.iter().map(line).collect::<String>());
            }
        }
        if is_terminal {
            self.teller.put(&text::table(&["size", "path", "content id"], &rows));
            let (files, bytes) = self.asks.share.totals();
            say(format_args!("{}, {}", files_text(files), text::size(bytes)));
        }
        if let Some(Hashing { files, .. }) = self.asks.share.hashing() {
            say(format_args!("{} still to be hashed", files_text(files)));
        }
    }
}
