//! What of this peer's uplink is taken, and whether it is somebody's turn. What shares an uplink arrives together, and late:
//! of eight pieces that leave at once, none is with somebody who could give it on before all of them are. So few leave at a
//! time, and whoever else would ask for one is held until it is its turn, and chooses then what to ask for: meanwhile that
//! piece may have come from elsewhere. Pure.
//!
//! When bytes have left, only their receiver knows; its next request on the connection tells. That is a trip there and back
//! later, and so is the request for which a turn was given: as many more turns are given as end meanwhile, or the uplink
//! would stand still.

use std::{collections::VecDeque, time::Duration};

use crate::limits;

/// The turns that are taken, by the numbers of their connections.
#[derive(Default)]
pub struct Uplink {
    /// Oldest first.
    taken: VecDeque<Turn>,
    /// How many answers with pieces there are in a second, as of `sent`.
    pace: f64,
    sent: Duration,
    /// Seconds between a turn and the request that it was given for.
    gap: f64,
}

struct Turn {
    connection: u64,
    since: Duration,
    /// Pieces are on their way. Otherwise the request for them is.
    is_sending: bool,
    /// It was given. Others have asked for pieces all the same, and are in nobody's way.
    is_given: bool,
}

/// What is over when a connection asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing.
    Nothing,
    /// It was sent pieces.
    Answer,
    /// It was given a turn, which it takes now.
    Wait,
}

impl Turn {
    /// When it is over in any case.
    fn end(&self) -> Duration {
        self.since.saturating_add(limits::TURN_TIME)
    }
}

impl Uplink {
    /// Whether one more may begin, of about so many.
    pub fn is_free(&self, most: usize, now: Duration) -> bool {
        self.free_at(most, now) <= now
    }

    /// When that is at the latest, if none ends before.
    pub fn free_at(&self, most: usize, now: Duration) -> Duration {
        let given = || self.taken.iter().filter(|turn| turn.is_given);
        let in_the_way = given().count().checked_sub(self.most(most, now)).and_then(|last| given().nth(last));
        in_the_way.map_or(Duration::ZERO, Turn::end)
    }

    /// Whether so many are under way, turn or not, that whoever wants more should ask for a turn.
    pub fn is_busy(&self, now: Duration) -> bool {
        let under_way = self.taken.iter().filter(|turn| turn.end() > now).count();
        under_way >= self.most(limits::TURNS, now)
    }

    fn most(&self, most: usize, now: Duration) -> usize {
        most + (2.0 * self.pace(now) * self.gap).ceil() as usize
    }

    /// A connection is told that it is its turn.
    pub fn give(&mut self, connection: u64, now: Duration) {
        self.begin(Turn { connection, since: now, is_sending: false, is_given: true });
    }

    /// A connection is sent pieces, at its turn or not.
    pub fn send(&mut self, connection: u64, at_turn: bool, now: Duration) {
        self.begin(Turn { connection, since: now, is_sending: true, is_given: at_turn });
        self.pace = self.pace(now) + 1.0 / limits::TURN_TIME.as_secs_f64();
        self.sent = now;
    }

    fn begin(&mut self, turn: Turn) {
        let is_over = |other: &Turn| other.connection == turn.connection || other.end() <= turn.since;
        self.taken.retain(|other| !is_over(other));
        self.taken.push_back(turn);
    }

    /// A connection asks for something: what it had is over.
    pub fn end(&mut self, connection: u64, now: Duration) -> Ended {
        let at = self.taken.iter().position(|turn| turn.connection == connection);
        let Some(turn) = at.and_then(|at| self.taken.remove(at)) else { return Ended::Nothing };
        if turn.is_sending {
            Ended::Answer
        } else {
            let gap = now.saturating_sub(turn.since).min(limits::TURN_TIME).as_secs_f64();
            self.gap = self.gap * 0.9 + gap * 0.1;
            Ended::Wait
        }
    }

    /// What was sent long ago counts for less.
    fn pace(&self, now: Duration) -> f64 {
        self.pace * (-now.saturating_sub(self.sent).div_duration_f64(limits::TURN_TIME)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const MOST: usize = 4;

    fn full() -> Uplink {
        let mut uplink = Uplink::default();
        for connection in 0..MOST as u64 {
            assert!(uplink.is_free(MOST, NOW));
            uplink.send(connection, true, NOW);
        }
        assert!(!uplink.is_free(MOST, NOW));
        assert!(uplink.is_free(MOST + 1, NOW));
        uplink
    }

    #[test]
    fn a_turn_is_free_when_one_has_ended_and_a_connection_has_one_at_most() {
        let mut uplink = full();
        assert_eq!((uplink.end(0, NOW), uplink.end(0, NOW)), (Ended::Answer, Ended::Nothing));
        assert!(uplink.is_free(MOST, NOW));
        uplink.send(1, true, NOW);
        assert!(uplink.is_free(MOST, NOW), "it had one before");
        uplink.give(7, NOW);
        assert!(!uplink.is_free(MOST, NOW));
    }

    #[test]
    fn who_asks_without_a_turn_makes_an_uplink_busy_and_holds_up_nobody() {
        let mut uplink = Uplink::default();
        for connection in 0..limits::TURNS as u64 {
            assert!(!uplink.is_busy(NOW));
            uplink.send(connection, false, NOW);
        }
        assert!(uplink.is_busy(NOW) && uplink.is_free(1, NOW));
        assert!(!uplink.is_busy(NOW + limits::TURN_TIME));
    }

    #[test]
    fn who_does_not_come_back_holds_nobody_up_for_long() {
        let mut uplink = full();
        assert_eq!(uplink.free_at(MOST, NOW), NOW + limits::TURN_TIME);
        let half = NOW + limits::TURN_TIME / 2;
        uplink.give(7, half);
        assert_eq!(uplink.free_at(MOST, half), NOW + limits::TURN_TIME, "two are in the way, of the same age");
        assert!(!uplink.is_free(MOST, half));
        assert!(uplink.is_free(MOST, NOW + limits::TURN_TIME));
    }

    /// An uplink that sends one piece after the other, `each` taking so long, to as many askers as want its turns, so far
    /// away: how much of the time it was busy, and how many had a turn in the end.
    fn run(each: Duration, trip: Duration) -> (f64, usize) {
        let (mut uplink, mut now, mut free) = (Uplink::default(), NOW, NOW);
        // When who comes back next, and whether for a piece.
        let mut coming = VecDeque::new();
        let (mut askers, mut sent) = (0, 0);
        let end = NOW + Duration::from_secs(20);
        while now < end {
            while uplink.is_free(MOST, now) {
                askers += 1;
                uplink.give(askers, now);
                coming.push_back((now + trip, askers, true));
            }
            let next = coming.iter().copied().min().expect("some are under way");
            coming.retain(|other| *other != next);
            let (at, asker, is_for_piece) = next;
            now = at;
            let ended = uplink.end(asker, now);
            if is_for_piece {
                assert_eq!(ended, Ended::Wait);
                uplink.send(asker, true, now);
                free = free.max(now) + each;
                sent += 1;
                coming.push_back((free + trip, asker, false));
            }
        }
        (f64::from(sent) * each.as_secs_f64() / 20.0, coming.len())
    }

    #[test]
    fn few_are_under_way_and_the_uplink_is_seldom_idle_also_where_trips_are_long() {
        let each = Duration::from_millis(6);
        for (trip, most) in [(0, 4), (1, 5), (5, 8), (20, 15)] {
            let (busy, under_way) = run(each, Duration::from_millis(trip));
            assert!(busy > 0.9 && under_way <= most, "{trip} ms: {busy} of the time, {under_way}");
        }
    }
}
