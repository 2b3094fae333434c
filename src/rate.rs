//! Rates in bytes a second: how a person writes one, and when bytes may go so that one is kept. Pure.

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    limits,
    size::{self, BadBytes},
};

/// Bytes a second, [`limits::RATE_LEAST`] at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

/// What is wrong with a rate that somebody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateError {
    /// It is no number of bytes.
    NoRate,
    /// It is below [`limits::RATE_LEAST`].
    TooLow,
    /// It does not fit 64 bits.
    TooHigh,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRate => f.write_str("a rate is a whole number of bytes a second, as 5M, 500K, 1G or 700000"),
            Self::TooLow => {
                let least = limits::RATE_LEAST >> 10;
                write!(f, "a rate is at least {least}K: with less, others take this peer for one that hangs")
            }
            Self::TooHigh => f.write_str("no link is as fast as that: leave the limit out for none"),
        }
    }
}

impl std::error::Error for RateError {}

impl FromStr for Rate {
    type Err = RateError;

    /// Reads `5M` and the like; see [`size::bytes`].
    fn from_str(text: &str) -> Result<Self, RateError> {
        match size::bytes(text) {
            Ok(bytes) if bytes < limits::RATE_LEAST => Err(RateError::TooLow),
            Ok(bytes) => Ok(Self(bytes)),
            Err(BadBytes::NoNumber) => Err(RateError::NoRate),
            Err(BadBytes::TooMany) => Err(RateError::TooHigh),
        }
    }
}

impl Rate {
    /// Bytes a second.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// How long so many bytes take.
    pub fn time(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The bytes to ask a [`Schedule`] for at once: so few that many who share a rate come in quick turns.
    pub fn portion(self) -> usize {
        let bytes = u128::from(self.0) * limits::RATE_PORTION_TIME.as_nanos() / 1_000_000_000;
        let (least, most) = (limits::RATE_PORTION_BYTES.start, limits::RATE_PORTION_BYTES.end);
        usize::try_from(bytes).unwrap_or(most).clamp(least, most)
    }
}

/// Gives portions of bytes their times, one behind the other, so that all together keep a rate. Whoever
/// has had one stands behind all the others for the next.
pub struct Schedule {
    rate: Rate,
    /// When all that was given a time has gone.
    free_at: Duration,
}

impl Schedule {
    /// A schedule on which nothing stands.
    pub fn new(rate: Rate) -> Self {
        Self { rate, free_at: Duration::ZERO }
    }

    /// The time at which `bytes` may go, for one who asks at `now`. It may be past: sleepers wake late,
    /// and what that costs is made up for. Who comes after a longer pause makes up for nothing.
    pub fn book(&mut self, bytes: u64, now: Duration) -> Duration {
        if now.saturating_sub(self.free_at) > limits::RATE_LATE_TIME {
            self.free_at = now;
        }
        let time = self.free_at;
        self.free_at += self.rate.time(bytes);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_rate_is_read_in_binary_units_and_nothing_else_passes_for_one() {
        for (text, bytes) in [
            ("32768", 32 << 10),
            ("32K", 32 << 10),
            ("500k", 500 << 10),
            ("500KiB", 500 << 10),
            ("5M", 5 << 20),
            ("005mib", 5 << 20),
            ("1G", 1 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::bytes), Ok(bytes), "{text}");
        }
        for text in
            ["", "K", "M5", "5 M", " 5M", "5M ", "-5M", "+5M", "5.5M", "5KB", "5B", "5T", "5MM", "5iB", "5é", "٥M"]
        {
            assert_eq!(text.parse::<Rate>(), Err(RateError::NoRate), "{text}");
        }
        for text in ["0", "0G", "31K", "32767"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError::TooLow), "{text}");
        }
        for text in ["18446744073709551616", "17179869184G", "99999999999999999999999999K"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError::TooHigh), "{text}");
        }
    }

    #[test]
    fn a_portion_is_short_at_any_rate() {
        for (text, bytes) in [("32K", 4 << 10), ("1M", 10485), ("1G", 1 << 20), ("18446744073709551615", 1 << 20)] {
            assert_eq!(rate(text).portion(), bytes, "{text}");
        }
    }

    #[test]
    fn no_stretch_of_time_brings_more_than_its_rate_and_who_never_rests_has_nearly_all_of_it() {
        let mut random = 88172645463325252_u64;
        let mut below = |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        for (text, rests) in [("32K", false), ("1M", false), ("5M", true), ("700M", false), ("700M", true)] {
            let rate = rate(text);
            let per_second = rate.bytes() as f64;
            let mut schedule = Schedule::new(rate);
            let began = Duration::from_secs(3);
            let mut now = began;
            // Bytes so far, the least that they were behind the rate, and the most that a stretch was ahead.
            let (mut sum, mut lowest, mut ahead) = (0.0, f64::INFINITY, 0.0_f64);
            for _ in 0..3000 {
                let bytes = 1 + below(rate.portion() as u64);
                let time = schedule.book(bytes, now);
                if time > now {
                    // Sleepers wake late.
                    now = time + Duration::from_micros(below(5_000));
                }
                let due = (now - began).as_secs_f64() * per_second;
                lowest = f64::min(lowest, sum - due);
                sum += bytes as f64;
                ahead = ahead.max(sum - due - lowest);
                now += Duration::from_micros(if rests { below(400_000) } else { 0 });
            }
            let allowed = limits::RATE_LATE_TIME.as_secs_f64() * per_second + rate.portion() as f64;
            assert!(ahead <= allowed, "{text}, {rests}: {ahead} ahead, {allowed} allowed");
            let share = sum / (now - began).as_secs_f64() / per_second;
            assert!(rests || share > 0.99, "{text}: {share}");
        }
    }

    #[test]
    fn who_comes_after_a_pause_has_one_portion_at_once_and_no_burst() {
        let rate = rate("1M");
        let mut schedule = Schedule::new(rate);
        let hour = Duration::from_secs(3600);
        let times: Vec<_> = (0..3).map(|_| schedule.book(1 << 10, hour) - hour).collect();
        let step = rate.time(1 << 10);
        assert_eq!(times, [Duration::ZERO, step, step * 2]);
    }

    #[test]
    fn a_small_request_stands_behind_one_portion_of_each_big_one() {
        let rate = rate("1M");
        let mut schedule = Schedule::new(rate);
        let now = Duration::from_secs(1);
        let others = 48;
        for _ in 0..others {
            schedule.book(rate.portion() as u64, now);
        }
        let waits = schedule.book(100, now) - now;
        assert!(waits <= limits::RATE_PORTION_TIME * others, "{waits:?}");
    }
}
