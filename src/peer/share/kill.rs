//! Points on the way of files into the share, at which `tests/kills/` has a peer killed. What is built for use has
//! none of it.

/// Kills this process if it is meant to die here: the file that `TEST_KILL_AT` names says at which point, and
/// the how manieth time that is passed.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use rustix::process::{Signal, getpid, kill_process};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Some(order) = std::env::var_os("TEST_KILL_AT").and_then(|file| std::fs::read_to_string(file).ok()) else {
        return;
    };
    let Some((at, times)) = order.split_once(' ') else { return };
    if at == name && times.parse().is_ok_and(|times: u32| PASSED.fetch_add(1, Ordering::Relaxed) + 1 >= times) {
        let _ = kill_process(getpid(), Signal::KILL);
        thread::park();
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) fn point(_: &str) {}
