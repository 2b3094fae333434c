//! What the tracker says of itself.

use std::sync::Arc;

use tokio::sync::watch;

/// How the tracker is: whoever asks for its health or reads its metrics is told. Clones are handles to the same.
#[derive(Clone, Default)]
pub struct Health(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    /// It was told to stop, and takes no new work.
    pub(super) is_draining: bool,
    /// It answers from what it knows, and may not hear what other trackers know.
    pub(super) is_degraded: bool,
}

impl Health {
    /// Says whether the tracker hears what others know. While it does not, it serves all the same.
    pub fn set_degraded(&self, is_degraded: bool) {
        self.0.send_if_modified(|state| std::mem::replace(&mut state.is_degraded, is_degraded) != is_degraded);
    }

    /// From now on the tracker says that it is about to end.
    pub(super) fn drain(&self) {
        self.0.send_modify(|state| state.is_draining = true);
    }

    pub(super) fn state(&self) -> State {
        *self.0.borrow()
    }

    #[cfg(feature = "health")]
    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}
