//! `search`, `list`, `leave`, `help`, and which command a line is.

use std::io::{IsTerminal, stdout};

use super::{Console, Next, progress::files_text, text, words};
use crate::{
    limits,
    name::SharePath,
    peer::{
        share::{Entry, Hashing},
    },
    say,
};

const HELP: &str = "\
search <text>                   files whose path contains the text, or matches it where it has * or ?
get <path or id> [<new path>]   fetch a file into the own folder and offer it from then on
list                            the own files
downloads                       what is being fetched, waits for something, or is left of a broken get
cancel <path or id>             end such a download and remove what is here of it
leave                           say good-bye, finish what is being served, end
help                            this text
Quote a path that has blanks: get 'my notes.txt'. From a pipe or a file, results are lines with tabs.";

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
            ["get", what, target] => self.get(what, Some(target)),
            ["get", ..] => self.fail(
                "get takes a path or a content id, and maybe a new path; what has spaces goes in quotes: get 'my notes.txt'",
            ),
            ["list"] => self.list(),
            ["downloads"] => self.downloads(),
            ["cancel", what] => self.cancel(what),
            ["cancel", ..] => self.fail("cancel takes a path or a content id, in quotes where it has spaces: `downloads` lists them"),
            ["help"] => say(HELP),
            ["leave"] => return Next::Leave,
            ["list" | "downloads" | "help" | "leave", ..] => {
                self.fail(format_args!("{} stands alone on its line", words[0]))
            }
            _ => {
                // It can be a line of anything that was piped here by mistake, and hold what a terminal obeys.
                let verb = text::shortened(verb, 30).replace(char::is_control, "?");
                self.fail(format_args!(
                    "unknown command `{verb}`: the commands are search, get, list, downloads, cancel, leave, help"
                ));
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
