//! When what is written: peers in batches, many at once but none of them twice; and leases kept.

use std::{collections::HashMap, convert::Infallible, rc::Rc, time::Instant};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    Store,
    etcd::{Etcd, Failure, Keeper},
    outbox::Pending,
    write::Written,
};
use crate::{limits, name::PeerId};

/// Writes what the outbox has, as long as one connection to etcd lasts. When it is dropped, what was not written
/// whole is in the outbox again.
pub(super) struct Writer {
    store: Rc<Store>,
    etcd: Etcd,
    slots: Rc<Semaphore>,
    jobs: JoinSet<(PeerId, Result<Written, Failure>)>,
    /// What those jobs are to write.
    under_way: HashMap<PeerId, Rc<Pending>>,
    /// Leases that etcd was asked to keep and has not answered for, and since when it says nothing of any.
    asked: usize,
    silent_since: Instant,
}

impl Writer {
    pub(super) fn new(store: &Rc<Store>, etcd: &Etcd) -> Self {
        Self {
            store: Rc::clone(store),
            etcd: etcd.clone(),
            slots: Rc::new(Semaphore::new(limits::STORE_WRITES)),
            jobs: JoinSet::new(),
            under_way: HashMap::new(),
            asked: 0,
            silent_since: Instant::now(),
        }
    }

    /// Writes, and keeps leases, until that fails.
    pub(super) async fn run(mut self, keeper: &mut Keeper) -> Result<Infallible, Failure> {
        let store = Rc::clone(&self.store);
        // When the batch that is being filled is due.
        let mut due: Option<Instant> = None;
        loop {
            let now = Instant::now();
            tokio::select! {
                () = store.outbox.filled(), if due.is_none() => due = Some(now + limits::STORE_BATCH_TIME),
                () = sleep_until(due.unwrap_or(now).into()), if due.is_some() => {
                    due = None;
                    self.take(keeper);
                }
                Some(job) = self.jobs.join_next() => {
                    let (id, written) = job.map_err(|error| Failure::Lost(error.to_string()))?;
                    self.is_written(&id, written?);
                }
                kept = keeper.next() => {
                    kept?;
                    self.asked = self.asked.saturating_sub(1);
                    self.silent_since = Instant::now();
                }
                () = sleep(limits::STORE_ANSWER_TIME), if self.asked > 0 => {}
            }
            if self.asked > 0 && self.silent_since.elapsed() >= limits::STORE_ANSWER_TIME {
                return Err(Failure::Lost("it keeps no leases".to_owned()));
            }
        }
    }

    /// Takes what is in the outbox, and begins to write it.
    fn take(&mut self, keeper: &Keeper) {
        let (store, now) = (Rc::clone(&self.store), Instant::now());
        for (id, pending) in store.outbox.take() {
            let book = store.book.borrow();
            let known = book.get(&id);
            let is_ours = known.is_some_and(|known| known.tracker == store.me);
            if pending.is_renewed
                && let Some(known) = known.filter(|_| is_ours)
            {
                if self.asked == 0 {
                    self.silent_since = now;
                }
                self.asked += 1;
                keeper.keep(known.lease);
            }
            if !pending.has_news() && is_ours {
                continue;
            }
            if self.under_way.contains_key(&id) || known.is_some_and(|known| known.rests(now)) {
                store.outbox.put(&id, pending);
                continue;
            }
            self.begin(id, Rc::new(pending));
        }
    }

    fn begin(&mut self, id: PeerId, pending: Rc<Pending>) {
        self.under_way.insert(id.clone(), Rc::clone(&pending));
        let (store, etcd, slots) = (Rc::clone(&self.store), self.etcd.clone(), Rc::clone(&self.slots));
        self.jobs.spawn_local(async move {
            // Nobody closes the semaphore.
            let _slot = slots.acquire().await;
            let written = store.write_peer(&etcd, &id, &pending).await;
            (id, written)
        });
    }

    fn is_written(&mut self, id: &PeerId, written: Written) {
        let pending = self.under_way.remove(id);
        if let Some(pending) = pending.filter(|_| written == Written::Again) {
            self.store.outbox.put(id, (*pending).clone());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for (id, pending) in self.under_way.drain() {
            self.store.outbox.put(&id, (*pending).clone());
        }
    }
}
