//! What is done about a path: nothing, or its content is fetched, and the oldest make room.

use std::{sync::MutexGuard, thread, time::Instant};

use super::{
    Mirror, State, UNHASHED_PAUSE,
    followed::Wanted,
    history::{Bounds, Turn},
};
use crate::{
    content::ContentId,
    limits,
    name::SharePath,
    peer::{
        share::{Entry, Lookup},
        swarm::{GetError, jobs::Outcome},
    },
    say, size,
};

impl State {
    /// Of all that there is when nothing has been mirrored yet, passes over what would have to make room at once: in
    /// the order of their paths, the last ones stay.
    pub(super) fn choose(&mut self, bounds: Bounds) {
        let (mut files, mut bytes) = (0, 0);
        let todo = std::mem::take(&mut self.todo);
        let mut is_full = false;
        for path in todo.into_iter().rev() {
            let Wanted::One(content, size) = self.followed.wanted(&path) else {
                self.todo.insert(path);
                continue;
            };
            is_full |= !bounds.hold(files + 1, bytes + size);
            if is_full {
                let line = self.history.note(&path, content, size, Turn::PassedOver);
                self.unsaved.push(line);
            } else {
                (files, bytes) = (files + 1, bytes + size);
                self.todo.insert(path);
            }
        }
    }
}

impl Mirror {
    /// Looks what is to be done about a path, and begins it.
    pub(super) fn look<'a>(&'a self, state: MutexGuard<'a, State>, path: SharePath) -> MutexGuard<'a, State> {
        let shared = &self.0;
        let (content, size) = match state.followed.wanted(&path) {
            Wanted::Nothing => return state,
            Wanted::Several => {
                drop(state);
                say(format_args!("not mirrored: those who are followed differ about {path}"));
                let mut state = shared.lock();
                state.blocked.insert(path);
                return state;
            }
            Wanted::One(content, size) => (content, size),
        };
        if state.history.is_passed_over(&path, &content) {
            return state;
        }
        // The disk is slow, and others want to tell something.
        drop(state);
        let found = shared.share.look_up(&path);
        let mut state = shared.lock();
        if let Lookup::Known(Entry { content: found, size }) = found
            && state.history.is_to_note(&path, &found)
        {
            // It came, and the peer was killed before it had noted that.
            let line = state.history.note(&path, found, size, Turn::Here);
            state.unsaved.push(line);
            // What it took the place of may have been left behind.
            shared.share.discard_partial(&found);
        }
        let over = match found {
            Lookup::Known(Entry { content: found, .. }) if found == content => {
                state.failed.remove(&path);
                return state;
            }
            Lookup::Known(Entry { content: found, .. }) if state.history.is_own(&path, &found) => Some(found),
            Lookup::Known(_) => {
                drop(state);
                say(format_args!(
                    "not mirrored: {path} is here with other content, which this peer has not mirrored; move it away"
                ));
                let mut state = shared.lock();
                state.blocked.insert(path);
                return state;
            }
            Lookup::Unhashed => {
                state.failed.insert(path, (Some(Instant::now() + UNHASHED_PAUSE), 0));
                return state;
            }
            Lookup::Absent => None,
        };
        if !shared.bounds.hold(1, size) {
            let line = state.history.note(&path, content, size, Turn::PassedOver);
            drop(state);
            shared.save(&[line], None);
            say(format_args!("not mirrored: {path} has {}, which is more than --mirror-max", size::shown(size)));
            return shared.lock();
        }
        // On disk before the first byte is: whatever happens, what comes is known to be this peer's own.
        let line = state.history.note(&path, content, size, Turn::Begun);
        let lines: Vec<_> = state.unsaved.drain(..).chain([line]).collect();
        state.fetching.insert(path.clone());
        drop(state);
        shared.save(&lines, None);
        let (mirror, wanted) = (self.clone(), path.clone());
        let fetch = move || {
            let outcome = match mirror.0.jobs.follow(&content, &wanted, over) {
                Ok(job) => job.wait(|_, _| {}),
                Err(error) => Err(error.into()),
            };
            mirror.fetched(wanted, content, size, &outcome);
        };
        let thread = thread::Builder::new().name("mirror-get".into()).stack_size(limits::CONNECTION_STACK).spawn(fetch);
        let mut state = shared.lock();
        if thread.is_err() {
            state.fetching.remove(&path);
            state.put_off(path);
        }
        state
    }

    /// Takes note of how a fetch went.
    fn fetched(&self, path: SharePath, content: ContentId, size: u64, outcome: &Outcome) {
        let shared = &self.0;
        let mut state = shared.lock();
        state.fetching.remove(&path);
        match outcome {
            Ok(report) => {
                state.failed.remove(&path);
                let mut lines = vec![state.history.note(&path, content, size, Turn::Here)];
                let gone = state.history.beyond(shared.bounds);
                lines.extend(
                    gone.iter()
                        .map(|(path, content, size)| state.history.note(path, *content, *size, Turn::PassedOver)),
                );
                drop(state);
                shared.save(&lines, None);
                let sources: Vec<_> = report.sources.iter().map(|peer| peer.as_str()).collect();
                let from = if sources.is_empty() { String::new() } else { format!(" from {}", sources.join(", ")) };
                say(format_args!("mirrored {path}{from}: {} in {:.1} s", size::shown(size), report.time.as_secs_f32()));
                for (path, content, _) in gone {
                    self.remove(&path, &content);
                }
                state = shared.lock();
                // A newer version may have come meanwhile.
                if !matches!(state.followed.wanted(&path), Wanted::One(wanted, _) if wanted == content) {
                    state.todo.insert(path);
                }
            }
            Err(error) => match **error {
                GetError::Stopped => {}
                // Somebody was faster: it is looked at once more what is there.
                GetError::Conflict(_) => drop(state.todo.insert(path)),
                _ => {
                    if state.put_off(path.clone()) {
                        drop(state);
                        say(format_args!("not mirrored yet: {path}: {error:#}; it is tried again"));
                    }
                }
            },
        }
        shared.due.notify_all();
    }

    /// Takes a file out of the share that has made room for newer ones.
    fn remove(&self, path: &SharePath, content: &ContentId) {
        match self.0.share.remove(path, content) {
            Ok(true) => say(format_args!("removed {path}: newer ones have its place (--mirror-keep, --mirror-max)")),
            Ok(false) => say(format_args!("{path} stays: somebody has changed or removed it")),
            Err(error) => say(error),
        }
    }
}
