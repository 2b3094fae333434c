//! The commands on stdin. Results go to stdout, everything meant for a person's eye to stderr.

mod commands;
mod downloads;
#[cfg(feature = "console")]
mod editor;
mod get;
#[cfg(feature = "console")]
mod gets;
mod progress;
#[cfg(feature = "console")]
mod screen;
mod teller;
mod text;
mod words;

pub use progress::report_hashing;
pub(in crate::peer) use teller::account;
pub use teller::{Form, Teller};

#[cfg(feature = "console")]
use std::sync::atomic::Ordering;
use std::{
    io::{self, BufRead, IsTerminal, Read},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

#[cfg(feature = "console")]
use crate::begin_screen;
use crate::{end_screen, limits, peer::asks::Asks, say, screen};

/// Carries commands out, one after the other.
pub struct Console {
    asks: Asks,
    teller: Teller,
    /// The first command has waited for the swarm to know this peer.
    settled: bool,
    /// A command runs on a terminal: what Ctrl-C sends then is not meant for the peer.
    is_busy: Arc<AtomicBool>,
    /// Where lines are edited, the gets that run meanwhile.
    #[cfg(feature = "console")]
    gets: Option<gets::Gets>,
}

/// What comes after a command.
enum Next {
    Command,
    Leave,
}

impl Console {
    /// A console for what this peer can be asked.
    pub fn new(asks: Asks) -> Self {
        Self {
            asks,
            teller: Teller::new(Form::Plain),
            settled: false,
            is_busy: Arc::default(),
            #[cfg(feature = "console")]
            gets: None,
        }
    }

    /// Whether a command runs, on a terminal where lines are edited.
    pub fn busy(&self) -> Arc<AtomicBool> {
        self.is_busy.clone()
    }

    /// Takes commands from stdin until one says to leave, or a terminal ends: then the exit code. None
    /// when a file or a pipe ends, after which the peer goes on serving.
    pub fn run(mut self) -> Option<u8> {
        let stdin = io::stdin().lock();
        let is_terminal = stdin.is_terminal();
        if is_terminal {
            say("type `help` for the commands, `leave` to end");
        }
        #[cfg(feature = "console")]
        if is_terminal
            && io::stdout().is_terminal()
            && io::stderr().is_terminal()
            && let Some(lines) = editor::Lines::new(&self.asks)
        {
            drop(stdin);
            self.edit(lines);
            return Some(0);
        }
        let next = self.run_on(stdin, is_terminal);
        match next {
            Next::Leave if is_terminal => Some(0),
            Next::Leave => Some(self.teller.has_failed().into()),
            Next::Command if is_terminal => Some(0),
            Next::Command => None,
        }
    }

    /// Takes commands from lines that are edited, until one says to leave.
    #[cfg(feature = "console")]
    fn edit(&mut self, mut lines: editor::Lines) {
        let screen = lines.screen.clone();
        begin_screen(move |text| screen.print(text));
        let gets = gets::Gets::new(self.asks.clone(), lines.screen.clone());
        self.gets = Some(gets.clone());
        let mut was_interrupted = false;
        loop {
            wait_for_foreground();
            let has_left = match lines.read() {
                editor::Typed::Line(line) if line.len() > limits::COMMAND_BYTES => {
                    self.fail(format_args!("a command is at most {} bytes long", limits::COMMAND_BYTES));
                    false
                }
                editor::Typed::Line(line) if line.trim().is_empty() => false,
                editor::Typed::Line(line) => {
                    self.is_busy.store(true, Ordering::Release);
                    let next = self.command(&line);
                    self.is_busy.store(false, Ordering::Release);
                    matches!(next, Next::Leave)
                }
                editor::Typed::End => true,
                editor::Typed::Interrupt if gets.stop_last() => false,
                editor::Typed::Interrupt if was_interrupted => true,
                editor::Typed::Interrupt => {
                    say("nothing is being fetched: `leave`, Ctrl-D or one more Ctrl-C ends this peer");
                    was_interrupted = true;
                    continue;
                }
            };
            if has_left {
                return end_screen();
            }
            was_interrupted = false;
        }
    }

    fn run_on(&mut self, mut input: impl BufRead, is_terminal: bool) -> Next {
        let mut line = Vec::new();
        loop {
            if is_terminal {
                wait_for_foreground();
            }
            match read_line(&mut input, &mut line) {
                Line::Text => {}
                Line::TooLong => {
                    self.fail(format_args!("a command is at most {} bytes long", limits::COMMAND_BYTES));
                    continue;
                }
                Line::End => return Next::Command,
            }
            match str::from_utf8(&line) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => {
                    if !is_terminal && !self.settled {
                        self.settle();
                    }
                    if let Next::Leave = self.command(text) {
                        return Next::Leave;
                    }
                }
                Err(_) => self.fail("a command has to be text in UTF-8"),
            }
        }
    }

    /// Gives the swarm a moment to know this peer, so that a script's first command finds it there.
    fn settle(&mut self) {
        self.settled = true;
        let deadline = Instant::now() + limits::SETTLE_TIME;
        while self.asks.share.hashing().is_some() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.asks.link.wait_settled(deadline);
    }

    fn fail(&mut self, error: impl std::fmt::Display) {
        self.teller.fail(error);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text,
    TooLong,
    End,
}

/// Reads one line, without its end. A line that is too long is read to its end and dropped. Input
/// that cannot be read has ended.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Line {
    line.clear();
    let mut result = Line::Text;
    loop {
        let begun = line.len();
        let room = (limits::COMMAND_BYTES + 1 - begun) as u64;
        match input.by_ref().take(room).read_until(b'\n', line) {
            Ok(0) | Err(_) if begun == 0 && result == Line::Text => return Line::End,
            Ok(0) | Err(_) => return result,
            Ok(_) if line.ends_with(b"\n") => {
                line.pop();
                line.pop_if(|last| *last == b'\r');
                return result;
            }
            Ok(_) if line.len() > limits::COMMAND_BYTES => {
                line.clear();
                result = Line::TooLong;
            }
            // The input's last line has no end.
            Ok(_) => {}
        }
    }
}

/// How the terminal was when the peer began, if stdin is one: a line may be edited when the peer ends.
pub struct Terminal(Option<Termios>);

impl Terminal {
    /// As it is now.
    pub fn now() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }

    /// Makes it that again.
    pub fn restore(&self) {
        let own = rustix::process::getpgrp();
        // From the background it would stop the process.
        let is_others = rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group != own);
        if let Some(was) = self.0.as_ref().filter(|_| !is_others) {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, was);
        }
        if screen().is_some() {
            end_screen();
            // What is said from now on begins below the line that was edited.
            say("");
        }
    }
}

/// A process in the background that reads from its terminal is stopped, and would serve nobody; so
/// `peer … &` waits here until it is brought back.
fn wait_for_foreground() {
    let own = rustix::process::getpgrp();
    while rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group != own) {
        thread::sleep(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_last_needs_no_end() {
        let long = "x".repeat(limits::COMMAND_BYTES);
        let input = format!("a b\r\n\n{long}\n{long}x\n{long}{long}{long}\nlast");
        let mut input = input.as_bytes();
        let mut next = || {
            let mut line = Vec::new();
            let kind = read_line(&mut input, &mut line);
            (kind, String::from_utf8(line).unwrap())
        };
        assert_eq!(next(), (Line::Text, "a b".into()));
        assert_eq!(next(), (Line::Text, String::new()));
        assert_eq!(next(), (Line::Text, long.clone()));
        assert_eq!(next().0, Line::TooLong);
        assert_eq!(next().0, Line::TooLong);
        assert_eq!(next(), (Line::Text, "last".into()));
        assert_eq!(next().0, Line::End);
    }
}
