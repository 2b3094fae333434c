//! Keeps a rate that many threads share, by making them wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::rate::{Rate, Schedule};

/// A rate that all clones keep together. Nothing runs while nobody waits.
#[derive(Clone)]
pub struct Throttle(Arc<Shared>);

struct Shared {
    rate: Rate,
    began: Instant,
    schedule: Mutex<Schedule>,
}

impl Throttle {
    /// A throttle through which nothing has gone.
    pub fn new(rate: Rate) -> Self {
        Self(Arc::new(Shared { rate, began: Instant::now(), schedule: Mutex::new(Schedule::new(rate)) }))
    }

    /// The rate.
    pub fn rate(&self) -> Rate {
        self.0.rate
    }

    /// The bytes to wait for and send, or receive, at once.
    pub fn portion(&self) -> usize {
        self.0.rate.portion()
    }

    /// Waits until `bytes` may go, portion by portion; how long that took.
    pub fn wait(&self, mut bytes: usize) -> Duration {
        let Shared { rate, began, schedule } = &*self.0;
        let mut waited = Duration::ZERO;
        while bytes > 0 {
            let portion = bytes.min(rate.portion());
            bytes -= portion;
            let now = began.elapsed();
            let time = schedule.lock().unwrap_or_else(PoisonError::into_inner).book(portion as u64, now);
            if time > now {
                thread::sleep(time - now);
                waited += began.elapsed() - now;
            }
        }
        waited
    }
}
