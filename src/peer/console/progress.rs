//! What a person sees while something takes long.

use std::{
    io::{IsTerminal, stderr},
    thread,
    time::{Duration, Instant},
};

use super::text;
#[cfg(feature = "console")]
use crate::peer::swarm::jobs::{Listed, Standing};
use crate::{
    limits,
    name::SharePath,
    peer::share::{Hashing, Share},
    say, show,
};

/// Shows how a download goes, on a terminal in place.
pub(super) struct Meter {
    path: SharePath,
    began: Instant,
    /// When a line was last shown.
    shown: Instant,
    /// The bytes that were here at the beginning.
    from: u64,
}

impl Meter {
    /// For a download of which so many bytes are here.
    pub(super) fn new(path: &SharePath, here: u64) -> Self {
        let began = Instant::now();
        Self { path: path.clone(), began, shown: began, from: here }
    }

    pub(super) fn is_of(&self, path: &SharePath) -> bool {
        self.path == *path
    }

    pub(super) fn show(&mut self, here: u64, size: u64) {
        if !stderr().is_terminal() || self.shown.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.shown = Instant::now();
        let rate = here.saturating_sub(self.from) as f64 / self.began.elapsed().as_secs_f64();
        show(how_far(self.path.as_str(), here, size, rate as u64));
    }
}

/// How a download goes: its name, how much is here, how fast it comes, how long it takes.
fn how_far(name: &str, here: u64, size: u64, rate: u64) -> String {
    let percent = (here as f64 / size.max(1) as f64 * 100.0) as u64;
    let left = match size.saturating_sub(here).checked_div(rate) {
        Some(seconds @ ..120) => format!(", {seconds} s left"),
        Some(seconds) => format!(", {} min left", seconds.div_ceil(60)),
        None => String::new(),
    };
    let (here, size, rate) = (text::size(here), text::size(size), text::size(rate));
    format!("{}: {percent}%, {here} of {size}, {rate}/s{left}", text::shortened(name, 30))
}

/// A row about a download that runs, or waits for room, from so many sources.
#[cfg(feature = "console")]
pub(super) fn row(listed: &Listed, sources: usize) -> String {
    let Listed { number, path, size, here, rate, standing, .. } = listed;
    let number = number.map_or_else(String::new, |number| format!("{number:>3}  "));
    let name = path.as_ref().map_or("", SharePath::as_str);
    match size {
        Some(size) if *standing == Standing::Running => {
            let sources = if sources > 0 { format!(", {sources} source{}", plural(sources)) } else { String::new() };
            format!("{number}{}{sources}", how_far(name, *here, *size, *rate))
        }
        _ => format!("{number}{}: {standing}", text::shortened(name, 30)),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Starts a thread that tells of hashing that takes long.
///
/// # Errors
/// When the system gives no thread.
pub fn report_hashing(share: Share) -> std::io::Result<()> {
    let is_terminal = stderr().is_terminal();
    let interval = if is_terminal { Duration::from_secs(1) } else { limits::HASHING_REPORT_TIME };
    thread::Builder::new().name("hashing".into()).stack_size(64 << 10).spawn(move || {
        let mut reporter = Reporter { interval, state: State::Idle };
        loop {
            let hashing = share.hashing();
            let is_idle = hashing.is_none();
            match reporter.step(Instant::now(), hashing) {
                Some(Line::Left(line)) if is_terminal => show(line),
                Some(Line::Left(line)) => say(line),
                Some(Line::Done) => {
                    let (files, bytes) = share.totals();
                    say(format_args!("hashing: done, {} shared, {}", files_text(files), text::size(bytes)));
                }
                None => {}
            }
            if is_idle {
                share.wait_hashing();
            }
            thread::sleep(Duration::from_secs(1));
        }
    })?;
    Ok(())
}

/// Decides what to say about hashing, and when.
struct Reporter {
    interval: Duration,
    state: State,
}

enum State {
    Idle,
    /// Busy since then, nothing said.
    Quiet(Instant),
    /// Last said then.
    Told(Instant),
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Left(String),
    Done,
}

impl Reporter {
    fn step(&mut self, now: Instant, hashing: Option<Hashing>) -> Option<Line> {
        let Some(hashing) = hashing else {
            let was = std::mem::replace(&mut self.state, State::Idle);
            return matches!(was, State::Told(_)).then_some(Line::Done);
        };
        let due = match self.state {
            State::Idle => {
                self.state = State::Quiet(now);
                false
            }
            State::Quiet(since) => now - since >= limits::HASHING_QUIET_TIME,
            State::Told(last) => now - last >= self.interval,
        };
        due.then(|| {
            self.state = State::Told(now);
            Line::Left(format!("hashing: {}, {} left", files_text(hashing.files), text::size(hashing.bytes)))
        })
    }
}

pub(super) fn files_text(files: usize) -> String {
    format!("{files} file{}", plural(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_hashing_is_told_of_and_its_end_then_too() {
        let start = Instant::now();
        let mut reporter = Reporter { interval: Duration::from_secs(10), state: State::Idle };
        let busy = Some(Hashing { files: 2, bytes: 3 << 30 });
        let mut told = |second, hashing| reporter.step(start + Duration::from_secs(second), hashing);
        assert_eq!([told(0, busy), told(1, busy), told(1, None)], [None, None, None], "short");
        assert_eq!([told(10, busy), told(11, busy)], [None, None]);
        assert_eq!(told(12, busy), Some(Line::Left("hashing: 2 files, 3.0 GiB left".into())));
        assert_eq!([told(13, busy), told(21, busy)], [None, None]);
        assert!(told(22, busy).is_some());
        assert_eq!(told(23, None), Some(Line::Done));
        assert_eq!(told(24, None), None);
    }
}
