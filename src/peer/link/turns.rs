//! Which of several trackers is used, and what is said of them. Pure.

use super::address::TrackerAddress;

/// The trackers in this peer's order, and the one it uses: until that is away.
pub(super) struct Turns {
    /// With each whether it was used, was away and has not answered since. Never empty.
    trackers: Vec<(TrackerAddress, bool)>,
    using: usize,
    /// The one in use has taken another's turn, or was away: its first answer is news.
    is_new: bool,
}

impl Turns {
    pub(super) fn new(trackers: Vec<TrackerAddress>) -> Self {
        Self { trackers: trackers.into_iter().map(|tracker| (tracker, false)).collect(), using: 0, is_new: false }
    }

    /// The place of the one in use.
    pub(super) fn using(&self) -> usize {
        self.using
    }

    pub(super) fn address(&self, at: usize) -> &TrackerAddress {
        &self.trackers[at].0
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &TrackerAddress> {
        self.trackers.iter().map(|(tracker, _)| tracker)
    }

    /// Whom to ask, one after the other: the one in use, those behind it, and last those known to be away.
    pub(super) fn order(&self) -> Vec<usize> {
        let number = self.trackers.len();
        let mut order: Vec<_> = (self.using..self.using + number).map(|at| at % number).collect();
        order[1..].sort_by_key(|at| self.trackers[*at].1);
        order
    }

    /// One was away: if it is the one in use, the next takes its turn. Gives the line that says so, once until it is
    /// back.
    pub(super) fn failed(&mut self, at: usize, reason: &str) -> Option<String> {
        if at != self.using {
            return None;
        }
        let next = self.order().get(1).copied();
        self.using = next.unwrap_or(at);
        self.is_new = true;
        let (tracker, was_away) = &mut self.trackers[at];
        if std::mem::replace(was_away, true) {
            return None;
        }
        let line = format!("tracker {tracker} is away ({reason}): ");
        Some(match next {
            Some(next) => format!("{line}trying {}", self.address(next)),
            None => line + "serving all the same, trying again",
        })
    }

    /// One has answered. Gives the line that says so where that is news.
    pub(super) fn answered(&mut self, at: usize) -> Option<String> {
        if at != self.using {
            return None;
        }
        let (tracker, was_away) = &mut self.trackers[at];
        let came = if std::mem::take(was_away) { "is back" } else { "answers" };
        std::mem::take(&mut self.is_new).then(|| format!("tracker {tracker} {came}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(names: &str) -> Turns {
        Turns::new(names.split(' ').map(|name| format!("{name}:1").parse().unwrap()).collect())
    }

    #[test]
    fn the_only_tracker_is_away_and_comes_back() {
        let mut turns = turns("a");
        assert_eq!(turns.answered(0), None);
        let line = "tracker a:1 is away (refused): serving all the same, trying again";
        assert_eq!(turns.failed(0, "refused").as_deref(), Some(line));
        assert_eq!((turns.failed(0, "refused"), turns.order()), (None, vec![0]));
        assert_eq!(turns.answered(0).as_deref(), Some("tracker a:1 is back"));
        assert_eq!(turns.answered(0), None);
    }

    #[test]
    fn the_next_takes_the_turn_of_one_that_is_away_and_keeps_it() {
        let mut turns = turns("a b c");
        assert_eq!(turns.failed(0, "gone").as_deref(), Some("tracker a:1 is away (gone): trying b:1"));
        assert_eq!((turns.using(), turns.order()), (1, vec![1, 2, 0]));
        assert_eq!(turns.answered(1).as_deref(), Some("tracker b:1 answers"));
        // Calls that were under way when it was left change nothing.
        assert_eq!((turns.failed(0, "gone"), turns.answered(0), turns.using()), (None, None, 1));
        assert_eq!(turns.failed(1, "gone").as_deref(), Some("tracker b:1 is away (gone): trying c:1"));
        assert_eq!(turns.failed(2, "gone").as_deref(), Some("tracker c:1 is away (gone): trying a:1"));
        for at in [0, 1, 2, 0] {
            assert_eq!((turns.using(), turns.failed(at, "gone")), (at, None), "each is told of once");
        }
        assert_eq!(turns.answered(1).as_deref(), Some("tracker b:1 is back"));
        assert_eq!(turns.order(), [1, 2, 0]);
    }

    #[test]
    fn one_that_is_known_to_be_away_is_asked_last() {
        let mut turns = turns("a b c");
        turns.failed(0, "gone");
        turns.failed(1, "gone");
        turns.answered(2);
        assert_eq!(turns.order(), [2, 0, 1]);
        turns.failed(2, "gone");
        turns.answered(0);
        assert_eq!(turns.order(), [0, 1, 2]);
        turns.failed(0, "gone");
        turns.answered(1);
        assert_eq!(turns.order(), [1, 2, 0], "those behind it first");
    }
}
