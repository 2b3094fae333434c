//! Lines that a person edits on a terminal, with history and completion: the only rustyline code, but for what
//! `screen` writes meanwhile.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use rustyline::{
    ColorMode, CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::DefaultHistory,
    validate::Validator,
};

use super::{commands, screen::Screen, words};
use crate::{limits, paint, peer::asks::Asks};

/// The editor of one terminal.
pub(super) struct Lines {
    editor: Editor<Completing, DefaultHistory>,
    history: PathBuf,
    prompt: String,
    pub(super) screen: Screen,
}

/// What a person has typed.
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D, or the terminal is gone.
    End,
}

impl Lines {
    /// None where lines cannot be edited.
    pub(super) fn new(asks: &Asks) -> Option<Self> {
        let colors = if paint::is_on() { ColorMode::Enabled } else { ColorMode::Disabled };
        let config = Config::builder().completion_type(CompletionType::List).color_mode(colors);
        let config = config.max_history_size(limits::HISTORY_LINES).ok()?.history_ignore_space(true);
        let mut editor = Editor::with_config(config.build()).ok()?;
        let screen = Screen::start(editor.create_external_printer().ok()?).ok()?;
        editor.set_helper(Some(Completing { asks: asks.clone(), known: Mutex::default(), is_asking: Arc::default() }));
        let history = asks.share.private_folder().join("history");
        // There is none yet, or it is of no use: then it begins anew.
        let _ = editor.load_history(&history);
        Some(Self { editor, history, prompt: format!("{}> ", asks.jobs.getter().peer), screen })
    }

    pub(super) fn read(&mut self) -> Typed {
        self.screen.editing(true);
        let read = self.editor.readline(&self.prompt);
        self.screen.editing(false);
        match read {
            Ok(line) => {
                if !line.trim().is_empty() {
                    let _ = self.editor.add_history_entry(line.as_str());
                    let _ = self.editor.append_history(&self.history);
                }
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Interrupt,
            Err(_) => Typed::End,
        }
    }
}

/// Completes commands, and paths that the swarm knows.
struct Completing {
    asks: Asks,
    /// What was asked last, when, and what came.
    known: Mutex<Option<(String, Instant, Vec<String>)>>,
    /// An answer is still owed.
    is_asking: Arc<AtomicBool>,
}

impl Completing {
    /// Paths that begin with `text`; none in time is none.
    fn paths(&self, text: &str) -> Vec<String> {
        if text.contains(['*', '?']) {
            return Vec::new();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, at, paths)) = &*known
            && asked == text
            && at.elapsed() < limits::COMPLETION_FRESH
        {
            return paths.clone();
        }
        // One question at a time: a tracker that is slow is not asked more.
        if self.is_asking.swap(true, Ordering::AcqRel) {
            return Vec::new();
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let (link, pattern, is_asking) = (self.asks.link.clone(), format!("{text}*"), self.is_asking.clone());
        let ask = move || {
            let found = link.search(&pattern, false).map(|(found, _)| found).unwrap_or_default();
            is_asking.store(false, Ordering::Release);
            let _ = answer.send(found);
        };
        if thread::Builder::new().name("completion".into()).spawn(ask).is_err() {
            self.is_asking.store(false, Ordering::Release);
        }
        let Ok(found) = answered.recv_timeout(limits::COMPLETION_TIME) else { return Vec::new() };
        let paths = steps(text, found.iter().map(|row| row.path.as_str()));
        *known = Some((text.to_owned(), Instant::now(), paths.clone()));
        paths
    }

    /// What a download can be named by.
    fn downloads(&self) -> Vec<String> {
        let listed = self.asks.downloads();
        listed
            .iter()
            .map(|listed| listed.path.as_ref().map_or(listed.content.to_string(), ToString::to_string))
            .collect()
    }
}

/// Paths as far as the next folder, each once.
fn steps<'a>(text: &str, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let step = |path: &str| match path.get(text.len()..).and_then(|rest| rest.find('/')) {
        Some(at) => path[..=text.len() + at].to_owned(),
        None => path.to_owned(),
    };
    let mut steps: Vec<_> = paths.map(step).collect();
    steps.sort();
    steps.dedup();
    steps
}

impl Completer for Completing {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = &line[..at];
        let (start, word) = words::last(line);
        let before = line[..start].split_ascii_whitespace().next();
        // The text of a search is all that stands behind the blank, as it is.
        let (start, word) = match before {
            Some("search") => {
                let start = line.find("search").map_or(start, |at| at + "search ".len());
                (start, line[start..].to_owned())
            }
            _ => (start, word),
        };
        let found = match before {
            None => commands::names().map(str::to_owned).collect(),
            Some("get" | "search") => self.paths(&word),
            Some("cancel") => self.downloads(),
            Some(_) => Vec::new(),
        };
        let is_so = |found: &String| found.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(&word));
        let pair = |found: String| {
            let replacement = match before {
                None => format!("{found} "),
                Some("search") => found.clone(),
                Some(_) => words::quoted(&found),
            };
            Pair { display: found, replacement }
        };
        Ok((start, found.into_iter().filter(is_so).map(pair).collect()))
    }
}

impl Highlighter for Completing {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Owned(paint::bold(prompt))
    }
}

impl Hinter for Completing {
    type Hint = String;
}

impl Validator for Completing {}

impl Helper for Completing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_completed_folder_by_folder() {
        let paths = ["logs/a", "logs/b", "logs/old/c", "logs/old/d", "lo"];
        assert_eq!(steps("lo", paths.into_iter()), ["lo", "logs/"]);
        assert_eq!(steps("logs/", paths.into_iter().take(4)), ["logs/a", "logs/b", "logs/old/"]);
    }
}
