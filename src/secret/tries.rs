//! How long those wait who send a wrong secret. Pure: the time is passed in.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{address::origin, limits};

/// When the last wrong secret of each address is answered. Whoever has the right one never gets in here, so nobody
/// is shut out by others behind the same address.
#[derive(Default)]
pub struct Tries(HashMap<IpAddr, Instant>);

impl Tries {
    /// How long the answer to a wrong secret is held back: one from each address after the other.
    pub fn failed(&mut self, from: IpAddr, now: Instant) -> Duration {
        let (from, latest) = (origin(from), now + limits::TRY_TIME.end);
        if self.0.len() >= limits::TRIED_ADDRESSES {
            self.0.retain(|_, turn| *turn > now);
            if self.0.len() >= limits::TRIED_ADDRESSES && !self.0.contains_key(&from) {
                return limits::TRY_TIME.end;
            }
        }
        let turn = self.0.entry(from).or_insert(now);
        *turn = ((*turn).max(now) + limits::TRY_TIME.start).min(latest);
        *turn - now
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn tries_of_one_address_are_answered_one_after_the_other_and_those_of_others_are_not() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let (one, other) = ("2001:db8::1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let same = "2001:db8::2".parse().unwrap();
        let (step, most) = (limits::TRY_TIME.start, limits::TRY_TIME.end);
        assert_eq!(tries.failed(one, now), step);
        assert_eq!(tries.failed(same, now), 2 * step, "one network of IPv6 is one address");
        assert_eq!(tries.failed(other, now), step);
        assert_eq!(tries.failed(one, now + step), 2 * step);
        let last = (0..100).map(|_| tries.failed(one, now)).last();
        assert_eq!(last, Some(most), "none waits for longer than a call may take");
        assert_eq!(tries.failed(one, now + 2 * most), step, "what was is forgotten");
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let address = |number: usize| Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into();
        for number in 0..2 * limits::TRIED_ADDRESSES {
            let pause = tries.failed(address(number), now);
            let is_known = number < limits::TRIED_ADDRESSES;
            assert_eq!(pause, if is_known { limits::TRY_TIME.start } else { limits::TRY_TIME.end });
        }
        assert_eq!(tries.0.len(), limits::TRIED_ADDRESSES);
        assert_eq!(tries.failed(address(0), now), 2 * limits::TRY_TIME.start);
        assert_eq!(tries.failed(address(usize::MAX >> 40), now + limits::TRY_TIME.end), limits::TRY_TIME.start);
        assert_eq!(tries.0.len(), 1, "those that are over make room");
    }
}
