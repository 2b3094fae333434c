//! How long to wait before a call that failed is made again. Pure: chance, from 0 to 1, is passed in.

use std::time::Duration;

use super::replies::Refusal;
use crate::limits;

/// Pauses between tries: doubling, jittered, so that a fleet does not come back in step.
#[derive(Default)]
pub(super) struct Retry {
    pauses: u32,
    /// Trackers in a row that were away.
    away: usize,
}

impl Retry {
    /// The pause after a refusal, where there are so many trackers; never longer than a third of the lease.
    pub(super) fn pause(
        &mut self,
        refusal: &Refusal,
        trackers: usize,
        lease: Option<Duration>,
        chance: f64,
    ) -> Duration {
        let longest = longest(lease);
        self.away = if matches!(refusal, Refusal::Away(_)) { self.away + 1 } else { 0 };
        match refusal {
            Refusal::Busy(hint, _) => hinted(*hint, lease, chance),
            // Another one is asked at once.
            Refusal::Away(_) if !self.away.is_multiple_of(trackers) => Duration::ZERO,
            _ => {
                let pause = limits::RETRY_TIME.saturating_mul(1 << self.pauses.min(20)).min(longest);
                self.pauses += 1;
                pause.mul_f64((1.0 + chance) / 2.0)
            }
        }
    }

    /// Whether all of so many trackers were away, one after the other.
    pub(super) fn is_everyone_away(&self, trackers: usize) -> bool {
        self.away >= trackers
    }
}

/// How long to wait where a tracker said how long: not less, up to a quarter of the lease, and at most a third more.
pub(super) fn hinted(hint: Duration, lease: Option<Duration>, chance: f64) -> Duration {
    hint.max(limits::RETRY_TIME).min(longest(lease) * 3 / 4).mul_f64(1.0 + chance / 3.0)
}

fn longest(lease: Option<Duration>) -> Duration {
    lease.map_or(limits::RETRY_TIME_MAX, |lease| lease / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASES: [Option<Duration>; 3] = [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(15))];
    const CHANCES: [f64; 3] = [0.0, 0.5, 1.0];

    fn away() -> Refusal {
        Refusal::Away(String::new())
    }

    #[test]
    fn pauses_grow_and_never_pass_a_third_of_the_lease() {
        for (lease, chance) in LEASES.into_iter().flat_map(|lease| CHANCES.map(|chance| (lease, chance))) {
            let mut retry = Retry::default();
            let pauses: Vec<_> = (0..100).map(|_| retry.pause(&away(), 1, lease, chance)).collect();
            assert_eq!(pauses[0], limits::RETRY_TIME.mul_f64((1.0 + chance) / 2.0));
            assert!(pauses.is_sorted() && pauses[99] <= longest(lease));
            assert_eq!(pauses[99], longest(lease).mul_f64((1.0 + chance) / 2.0));
        }
    }

    #[test]
    fn every_tracker_is_tried_before_a_pause() {
        let mut retry = Retry::default();
        let mut pause = |refusal: &Refusal| retry.pause(refusal, 3, None, 1.0);
        let zero = Duration::ZERO;
        for round in [limits::RETRY_TIME, 2 * limits::RETRY_TIME] {
            assert_eq!([pause(&away()), pause(&away()), pause(&away())], [zero, zero, round]);
        }
        assert_eq!(pause(&away()), zero);
        // One that forgets is there: from then on it is a round of its own.
        assert_eq!(pause(&Refusal::Forgotten), 4 * limits::RETRY_TIME);
        assert_eq!([pause(&away()), pause(&away())], [zero, zero]);
    }

    #[test]
    fn a_hint_is_obeyed_with_jitter_on_top_and_within_a_third_of_the_lease() {
        for (lease, chance) in LEASES.into_iter().flat_map(|lease| CHANCES.map(|chance| (lease, chance))) {
            let wait = |millis| hinted(Duration::from_millis(millis), lease, chance);
            assert!(wait(0) >= limits::RETRY_TIME, "no tracker makes a peer ask without end");
            assert!(wait(240) >= Duration::from_millis(240));
            assert!(wait(u64::MAX) <= longest(lease) && wait(u64::MAX) >= longest(lease) * 3 / 4);
        }
        let lease = Some(Duration::from_secs(15));
        assert_eq!(
            CHANCES.map(|chance| hinted(Duration::from_millis(3000), lease, chance).as_millis()),
            [3000, 3500, 4000]
        );
        let busy = Refusal::Busy(Duration::from_millis(300), String::new());
        assert_eq!(Retry::default().pause(&busy, 3, lease, 0.0), Duration::from_millis(300));
    }
}
