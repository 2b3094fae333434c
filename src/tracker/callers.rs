//! Who calls, by address: so many connections and so many requests a second. Pure: the time is passed in.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{address::origin, limits};

/// How long one request uses up what an address may ask.
const REQUEST_TIME: Duration = Duration::from_nanos(1_000_000_000 / limits::ADDRESS_REQUESTS);
/// How often accounts without connections are looked for.
const SWEEP_TIME: Duration = Duration::from_secs(1);

/// The addresses that have connections, and those that had until just now.
pub(super) struct Callers {
    open: AtomicUsize,
    accounts: Mutex<Accounts>,
}

struct Accounts {
    by_address: HashMap<IpAddr, Arc<Account>>,
    swept: Instant,
}

/// What one address has used; all its connections share it.
struct Account {
    /// Until when its requests are accounted for, at the rate that it may keep.
    busy_until: Mutex<Instant>,
    /// Its joins and announces that are in memory.
    queued: AtomicUsize,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// There are [`limits::TRACKER_CONNECTIONS`].
    All,
    /// There are [`limits::ADDRESS_CONNECTIONS`] from its address.
    Address,
}

impl Callers {
    pub(super) fn new(now: Instant) -> Self {
        let accounts = Accounts { by_address: HashMap::new(), swept: now };
        Self { open: AtomicUsize::new(0), accounts: Mutex::new(accounts) }
    }

    /// Connections that are open, and that calls of closed ones still stand for.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection in, until what is returned is dropped.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Caller, Full> {
        if self.open() >= limits::TRACKER_CONNECTIONS {
            return Err(Full::All);
        }
        let address = address.to_canonical();
        // Whoever is on the tracker's own machine has other ways to be a burden to it.
        let account = if address.is_loopback() { None } else { Some(self.account(address, now)?) };
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Caller { address, account, callers: Arc::clone(self) })
    }

    fn account(&self, address: IpAddr, now: Instant) -> Result<Arc<Account>, Full> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(accounts.swept) >= SWEEP_TIME {
            // Who closes its connections and comes back at once has not won a fresh account.
            accounts.by_address.retain(|_, account| Arc::strong_count(account) > 1 || *account.busy_until() > now);
            accounts.swept = now;
        }
        let new = || Arc::new(Account { busy_until: Mutex::new(now), queued: AtomicUsize::new(0) });
        let account = accounts.by_address.entry(origin(address)).or_insert_with(new);
        // One of these is the table's own.
        if Arc::strong_count(account) > limits::ADDRESS_CONNECTIONS {
            return Err(Full::Address);
        }
        Ok(Arc::clone(account))
    }
}

impl Account {
    fn busy_until(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.busy_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The other end of a connection.
pub(super) struct Caller {
    /// Where it is; IPv4 as such, also where it came in over an IPv6 socket.
    pub(super) address: IpAddr,
    /// None for loopback, which has no limits of its own.
    account: Option<Arc<Account>>,
    callers: Arc<Callers>,
}

impl Caller {
    /// Accounts for a request. Those that keep or end a lease are `kept`: they have as much again, which the
    /// others cannot use up.
    ///
    /// # Errors
    /// After what time it may be asked again, when its address asks too much.
    pub(super) fn ask(&self, now: Instant, is_kept: bool) -> Result<(), Duration> {
        let Some(account) = &self.account else { return Ok(()) };
        let mut busy_until = account.busy_until();
        let room = if is_kept { 2 * limits::ADDRESS_BURST } else { limits::ADDRESS_BURST };
        let busy = busy_until.saturating_duration_since(now);
        if busy > room {
            return Err(busy - room);
        }
        *busy_until = now + busy + REQUEST_TIME;
        Ok(())
    }

    /// Counts a join or announce in, until what is returned is dropped; none when its address has too many.
    pub(super) fn queue(self: &Arc<Self>) -> Option<Queued> {
        if let Some(account) = &self.account {
            if account.queued.load(Ordering::Relaxed) >= limits::ADDRESS_QUEUED {
                return None;
            }
            account.queued.fetch_add(1, Ordering::Relaxed);
        }
        Some(Queued(Arc::clone(self)))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.callers.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A join or announce that is in memory.
pub(super) struct Queued(Arc<Caller>);

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(account) = &self.0.account {
            account.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_so_many_connections_and_others_are_not_in_its_way() {
        let now = Instant::now();
        let callers = Arc::new(Callers::new(now));
        let mut held: Vec<_> = (0..limits::ADDRESS_CONNECTIONS as u128)
            .map(|host| {
                let from = Ipv6Addr::from_bits((0x2001_0db8 << 96) | host);
                callers.connect(from.into(), now).ok().unwrap()
            })
            .collect();
        assert_eq!(callers.open(), limits::ADDRESS_CONNECTIONS);
        assert_eq!(callers.connect(address("2001:db8::ffff"), now).err(), Some(Full::Address));
        assert!(callers.connect(address("2001:db8:0:1::1"), now).is_ok());
        held.pop();
        assert!(callers.connect(address("2001:db8::ffff"), now).is_ok());
        assert_eq!(callers.open(), limits::ADDRESS_CONNECTIONS - 1, "what was dropped is not counted");
    }

    #[test]
    fn all_together_have_so_many_connections_loopback_included() {
        let now = Instant::now();
        let callers = Arc::new(Callers::new(now));
        let here = address("127.0.0.1");
        let held: Vec<_> = (0..limits::TRACKER_CONNECTIONS).map(|_| callers.connect(here, now).ok().unwrap()).collect();
        assert_eq!(callers.connect(here, now).err(), Some(Full::All));
        assert_eq!(callers.connect(address("10.0.0.1"), now).err(), Some(Full::All));
        drop(held);
        assert!(callers.connect(here, now).is_ok());
    }

    #[test]
    fn who_asks_too_much_is_told_when_it_may_ask_again_and_can_renew_meanwhile() {
        let now = Instant::now();
        let callers = Arc::new(Callers::new(now));
        let caller = callers.connect(address("::ffff:10.0.0.1"), now).ok().unwrap();
        assert_eq!(caller.address, address("10.0.0.1"));
        let asked = |is_kept, now| (0..).take_while(|_| caller.ask(now, is_kept).is_ok()).take(100_000).count() as u64;
        let burst = limits::ADDRESS_BURST.as_secs() * limits::ADDRESS_REQUESTS;
        assert_eq!(asked(false, now), burst + 1);
        let pause = caller.ask(now, false).unwrap_err();
        assert_eq!(pause, REQUEST_TIME);
        assert_eq!(caller.ask(now + pause, false), Ok(()));
        assert!(asked(true, now + pause) >= burst);
        assert!(caller.ask(now + pause, true).is_err(), "renewals have a limit too");
        let later = now + Duration::from_secs(3600);
        assert_eq!(asked(false, later), burst + 1, "an hour of silence is not saved up");
        // A new connection goes on where the last one was closed.
        drop(caller);
        let again = callers.connect(address("10.0.0.1"), later + SWEEP_TIME).ok().unwrap();
        assert_eq!(again.ask(later, false), Err(REQUEST_TIME));
        drop(again);
        let long_after = later + Duration::from_secs(60);
        let _other = callers.connect(address("10.0.0.2"), long_after).ok().unwrap();
        assert_eq!(callers.accounts.lock().unwrap().by_address.len(), 1, "accounts without use are forgotten");
        let here = callers.connect(address("127.0.0.1"), now).ok().unwrap();
        assert!((0..3 * burst).all(|_| here.ask(now, false).is_ok()));
    }

    #[test]
    fn one_address_has_so_many_announces_in_memory() {
        let now = Instant::now();
        let callers = Arc::new(Callers::new(now));
        let caller = |from| Arc::new(callers.connect(address(from), now).ok().unwrap());
        let (one, same, other) = (caller("10.0.0.1"), caller("10.0.0.1"), caller("10.0.0.2"));
        let mut held: Vec<_> = (0..limits::ADDRESS_QUEUED).map(|_| one.queue().unwrap()).collect();
        assert!(one.queue().is_none() && same.queue().is_none() && other.queue().is_some());
        held.pop();
        assert!(same.queue().is_some());
    }
}
