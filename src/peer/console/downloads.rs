//! `downloads`, `cancel`, `peers` and `status`.

use super::Console;
use crate::{peer::asks, say};

impl Console {
    pub(super) fn downloads(&mut self) {
        let downloads = self.asks.downloads();
        self.teller.downloads(&downloads);
    }

    pub(super) fn cancel(&mut self, what: &str) {
        match self.asks.cancel(what) {
            Ok(()) => say(format_args!("cancelled {what}")),
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn peers(&mut self) {
        match asks::everybody(&self.asks.link) {
            Ok(peers) => self.teller.peers(&peers),
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn status(&mut self) {
        let status = self.asks.status();
        self.teller.status(&status);
    }
}
