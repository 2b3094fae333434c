//! What every request passes first: it is counted, turned away where there is too much, and joins and announces
//! wait for their turn.
//!
//! One thread does everything here, task by task in the order in which they can go on. Joins and announces are
//! what a fleet that comes back has thousands of, and an announce takes milliseconds. So they take turns, one in
//! each round of the tasks that can go on, and only so many are in memory. A search, a renewal or a leave
//! never waits for more than the round that is under way.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http_body::Frame;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
};

use super::{
    callers::{Caller, Queued},
    calls::random,
    codes::promised,
    direct::{self, Told},
    lock::Lock,
    metrics::{Call, Metrics, Shed, Timed},
    refusals::{self, Log},
    service::Wire,
};
use crate::{limits, proto::tracker_server::TrackerServer, secret::Secret};

/// An answer on its way.
pub(super) type Answer = BoxFuture<http::Response<Body>, Infallible>;

/// Answers with a status alone.
pub(super) fn at_once(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// The tracker's services behind their gate. Clones are the same.
#[derive(Clone)]
pub(super) struct Gate(Arc<Inner>);

struct Inner {
    announces: TrackerServer<Wire>,
    others: TrackerServer<Wire>,
    wire: Arc<Wire>,
    #[cfg(any(feature = "health", feature = "reflection"))]
    standard: super::standard::Standard,
    lock: Lock,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
}

impl Gate {
    pub(super) fn new(
        wire: Wire,
        secret: Option<Secret>,
        #[cfg(any(feature = "health", feature = "reflection"))] standard: super::standard::Standard,
    ) -> Self {
        let (queue, metrics, log) = (Arc::clone(&wire.queue), Arc::clone(&wire.metrics), Arc::clone(&wire.log));
        let wire = Arc::new(wire);
        Self(Arc::new(Inner {
            announces: TrackerServer::from_arc(Arc::clone(&wire)).max_decoding_message_size(limits::RPC_BYTES),
            others: TrackerServer::from_arc(Arc::clone(&wire)).max_decoding_message_size(limits::RPC_SMALL_BYTES),
            wire,
            #[cfg(any(feature = "health", feature = "reflection"))]
            standard,
            lock: Lock::new(secret),
            queue,
            metrics,
            log,
        }))
    }

    /// Whether a call has to wait for its turn, and may: then it holds its place as long as what is returned.
    ///
    /// # Errors
    /// When it is turned away: why, and what its caller is told.
    fn admit(&self, call: Call, caller: &Arc<Caller>, now: Instant) -> Result<Option<Place>, (Shed, Status)> {
        if let Err(pause) = caller.ask(now, matches!(call, Call::Renew | Call::Leave)) {
            let most = limits::ADDRESS_REQUESTS;
            let sentence = format!("at most {most} requests a second from one address");
            // Those behind one address would else all come back at once.
            let pause = pause + limits::SHED_PAUSE.start + spread(limits::ADDRESS_BURST / 2);
            return Err((Shed::Address, refusals::later(&sentence, pause)));
        }
        let queue = &self.0.queue;
        let has_room = match call {
            Call::Join => queue.has_room_for_joins(now),
            Call::Announce => queue.places() < limits::QUEUED,
            _ => return Ok(None),
        };
        if !has_room {
            let sentence = "the tracker has as many joins and announces as it can take";
            return Err((Shed::Load, refusals::later(sentence, queue.pause(now))));
        }
        let Some(queued) = caller.queue() else {
            let most = limits::ADDRESS_QUEUED;
            let sentence = format!("at most {most} joins and announces at a time from one address");
            return Err((Shed::Address, refusals::later(&sentence, queue.pause(now))));
        };
        Ok(Some(Place::new(queue, queued)))
    }

    fn answer(&self, call: Call, caller: &Arc<Caller>, request: http::Request<Body>, now: Instant) -> Way {
        // Before all else: who has no secret uses up nothing of what its address may ask.
        if let Err((status, answer)) = self.0.lock.open(request.headers(), caller.address, now) {
            self.0.log.refused(call, caller.address, &status);
            return Way::Other(answer);
        }
        let place = match self.admit(call, caller, now) {
            Ok(place) => place,
            Err((why, status)) => {
                self.0.metrics.shed(call, why);
                self.0.log.refused(call, caller.address, &status);
                return Way::Other(at_once(status));
            }
        };
        #[cfg(any(feature = "health", feature = "reflection"))]
        if request.uri().path().starts_with("/grpc.") {
            return Way::Other(self.0.standard.call(request));
        }
        if call == Call::Announce {
            let (mut announces, queue) = (self.0.announces.clone(), Arc::clone(&self.0.queue));
            return Way::Other(Box::pin(async move {
                let _place = place;
                // Nobody closes the semaphore, and who waits here too long meets the call's time-out.
                let _reading = queue.reading.acquire().await;
                Ok(promised(announces.call(request).await?, limits::RPC_BYTES))
            }));
        }
        if matches!(call, Call::Renew | Call::Locate) {
            return Way::Direct(Box::pin(self.clone().answer_directly(call, Arc::clone(caller), request)));
        }
        let mut others = self.0.others.clone();
        Way::Other(Box::pin(async move {
            let _place = place;
            Ok(promised(others.call(request).await?, limits::RPC_SMALL_BYTES))
        }))
    }

    /// Answers what is as it should be without tonic; it answers the rest.
    async fn answer_directly(
        self,
        call: Call,
        caller: Arc<Caller>,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Told>, Infallible> {
        let read = match direct::only_piece(request.body_mut()).await {
            Ok(piece) => match self.0.wire.answer_directly(call, &caller, &piece) {
                Some(answer) => return Ok(answer.unwrap_or_else(Status::into_http)),
                None => [Ok(Frame::data(piece))].into(),
            },
            Err(read) => read,
        };
        let request = request.map(|rest| Body::new(direct::Begun { read, rest }));
        let answer = self.0.others.clone().call(request).await?;
        Ok(promised(answer, limits::RPC_SMALL_BYTES).map(Told::Other))
    }
}

impl Service<http::Request<Body>> for Gate {
    type Response = http::Response<Told>;
    type Error = Infallible;
    type Future = Passing;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Passing {
        let call = Call::of(request.uri().path());
        let now = Instant::now();
        let timed = Timed::new(Arc::clone(&self.0.metrics), call, now);
        let answer = match request.extensions().get::<Arc<Caller>>().cloned() {
            Some(caller) => self.answer(call, &caller, request, now),
            None => Way::Other(at_once(Status::internal("the connection has no address"))),
        };
        Passing { answer, timed: Some(timed) }
    }
}

/// How an answer comes about.
enum Way {
    Direct(BoxFuture<http::Response<Told>, Infallible>),
    Other(Answer),
}

/// An answer under way, which is counted when it comes, or does not.
pub(super) struct Passing {
    answer: Way,
    timed: Option<Timed>,
}

impl Future for Passing {
    type Output = Result<http::Response<Told>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.answer {
            Way::Direct(answer) => ready!(answer.as_mut().poll(cx)),
            Way::Other(answer) => ready!(answer.as_mut().poll(cx)).map(|answer| answer.map(Told::Other)),
        };
        if let (Some(timed), Ok(response)) = (self.timed.take(), &answer) {
            // What succeeds says so only behind its body.
            let status = response.headers().get("grpc-status");
            timed.answered(status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes())));
        }
        Poll::Ready(answer)
    }
}

/// Joins and announces: how many are in memory, and whose turn it is.
pub(super) struct Queue {
    /// The longest that anybody is told to wait.
    longest_pause: Duration,
    places: AtomicUsize,
    reading: Semaphore,
    turns: Semaphore,
    pace: Mutex<Pace>,
}

/// What is expected of those who are not in memory.
struct Pace {
    /// When the last of those who were turned away is to be back.
    last: Instant,
    /// What an announce's turn takes of the time, on average, with as much for everything else.
    turn: Duration,
    /// Joins that were let in, of which no announce has come yet; half of them never have one.
    arriving: usize,
    /// When these were halved.
    halved: Instant,
}

impl Queue {
    pub(super) fn new(lease: Duration) -> Self {
        let now = Instant::now();
        Self {
            longest_pause: limits::SHED_PAUSE.end.min(lease / 4),
            places: AtomicUsize::new(0),
            reading: Semaphore::new(limits::ANNOUNCES),
            turns: Semaphore::new(1),
            pace: Mutex::new(Pace { last: now, turn: Duration::ZERO, arriving: 0, halved: now }),
        }
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    pub(super) async fn turn(&self, call: Call) -> Turn<'_> {
        // Nobody closes the semaphore.
        let permit = self.turns.acquire().await.ok();
        Turn { queue: self, call, begun: Instant::now(), _permit: permit }
    }

    fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may join. A join takes no time itself, so that a whole fleet would be in before its first
    /// announce is done: with announces in memory, those that are still to come are counted too.
    fn has_room_for_joins(&self, now: Instant) -> bool {
        let places = self.places();
        if places == 0 {
            return true;
        }
        let mut pace = self.pace();
        if now.saturating_duration_since(pace.halved) >= limits::ARRIVAL_TIME {
            pace.halved = now;
            pace.arriving /= 2;
        }
        places + pace.arriving < limits::QUEUED_BEFORE_JOINS
    }

    /// How long the next one who is turned away should wait: until those before it have had their turn.
    fn pause(&self, now: Instant) -> Duration {
        let mut pace = self.pace();
        let least = now + limits::SHED_PAUSE.start.min(self.longest_pause);
        pace.last = (pace.last + pace.turn).clamp(least, now + self.longest_pause);
        let pause = pace.last - now;
        pause / 2 + spread(pause / 2)
    }
}

/// A random part of a time.
fn spread(most: Duration) -> Duration {
    most.mul_f64(f64::from(u32::from_ne_bytes(random())) / f64::from(u32::MAX))
}

/// A join or announce that is in memory.
struct Place {
    queue: Arc<Queue>,
    _queued: Queued,
}

impl Place {
    fn new(queue: &Arc<Queue>, queued: Queued) -> Self {
        queue.places.fetch_add(1, Ordering::Relaxed);
        Self { queue: Arc::clone(queue), _queued: queued }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.places.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A turn at the registry.
pub(super) struct Turn<'a> {
    queue: &'a Queue,
    call: Call,
    begun: Instant,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut pace = self.queue.pace();
        if self.call == Call::Join {
            pace.arriving += 1;
        } else {
            pace.arriving = pace.arriving.saturating_sub(1);
            pace.turn = (7 * pace.turn + 2 * self.begun.elapsed()) / 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tracker::callers::Callers;

    #[tokio::test]
    async fn joins_are_let_in_as_long_as_few_announces_are_there_or_to_come() {
        let now = Instant::now();
        let queue = Arc::new(Queue::new(limits::LEASE));
        let caller = Callers::connect(&Arc::new(Callers::new(now)), [127, 0, 0, 1].into(), now).ok().unwrap();
        let caller = Arc::new(caller);
        let place = || Place::new(&queue, caller.queue().unwrap());
        for _ in 0..2 * limits::QUEUED {
            drop(queue.turn(Call::Join).await);
        }
        assert!(queue.has_room_for_joins(now), "where nobody announces, any number may join");
        let announce = place();
        assert!(!queue.has_room_for_joins(now), "the announces of those who joined are still to come");
        for _ in 0..2 * limits::QUEUED {
            drop(queue.turn(Call::Announce).await);
        }
        assert!(queue.has_room_for_joins(now));
        let others: Vec<_> = (2..limits::QUEUED_BEFORE_JOINS).map(|_| place()).collect();
        assert!(queue.has_room_for_joins(now));
        drop(queue.turn(Call::Join).await);
        assert!(!queue.has_room_for_joins(now));
        // One that does not announce is not waited for.
        let later = now + 2 * limits::ARRIVAL_TIME;
        assert!(queue.has_room_for_joins(later));
        let last = place();
        assert!(!queue.has_room_for_joins(later));
        drop((announce, others, last));
        assert_eq!(queue.places(), 0);
    }

    #[test]
    fn those_who_are_turned_away_are_told_different_times_and_none_beyond_a_quarter_of_a_lease() {
        let now = Instant::now();
        for lease in [Duration::from_secs(1), Duration::from_secs(15), Duration::from_secs(3600)] {
            let queue = Queue::new(lease);
            queue.pace().turn = Duration::from_millis(10);
            let most = limits::SHED_PAUSE.end.min(lease / 4);
            let told: Vec<_> = (0..1000).map(|_| queue.pause(now)).collect();
            assert!(told.iter().all(|pause| (limits::SHED_PAUSE.start / 2..=most).contains(pause)), "{lease:?}");
            assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
            assert!(told[0] <= limits::SHED_PAUSE.start + Duration::from_millis(10), "the first comes soon");
            assert!(told[990..].iter().all(|pause| *pause >= most / 2), "the last when those before it had their turn");
            // Later they have had it.
            assert!(queue.pause(now + most * 2) <= limits::SHED_PAUSE.start.min(most));
        }
    }
}
