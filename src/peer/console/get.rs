//! `get`.

use super::Console;

impl Console {
    pub(super) fn get(&mut self, what: &str, target: Option<&str>) {
        #[cfg(feature = "console")]
        if let Some(gets) = &self.gets {
            if let Err(error) = gets.begin(what, target) {
                self.fail(error);
            }
            return;
        }
        let asks = self.asks.clone();
        let went = asks.get(what, target, &mut self.teller);
        if let Err(error) = went.map(|tally| self.teller.end(tally.as_ref())) {
            self.fail(error);
        }
    }
}
