//! A peer's side of the tracker's protocol, with trackers of the test's own that are slow, full, busy or forgetful.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use enjambre::proto::{
    AnnounceReply, AnnounceRequest, File, JoinReply, JoinRequest, LeaveReply, LeaveRequest, LocateReply, LocateRequest,
    PeersReply, PeersRequest, RenewReply, RenewRequest, SearchReply, SearchRequest, WatchRequest,
    tracker_server::{Tracker, TrackerServer},
};
use support::*;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

/// What the tracker does, and has heard in the present stay of its one peer.
struct Fake {
    lease: Duration,
    token: Vec<u8>,
    /// Milliseconds that an announce takes.
    delay: AtomicU64,
    /// Announces wait while this is set.
    is_held: AtomicBool,
    waiting: AtomicU64,
    is_full: AtomicBool,
    /// The next announce or renewal is answered as a restarted tracker does.
    forgets: AtomicBool,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What comes next of these calls is answered so, the last first.
    answers: Mutex<BTreeMap<&'static str, Vec<Answer>>>,
    heard: Mutex<Vec<Heard>>,
}

#[derive(Clone, Copy)]
enum Answer {
    /// Too much to do, come back in so many milliseconds.
    Busy(u64),
    /// A newer peer has the id.
    Aborted,
    /// None at all.
    Never,
}

/// A call that has come.
#[derive(Clone)]
struct Heard {
    call: &'static str,
    at: Instant,
    token: Vec<u8>,
    /// The paths it added.
    added: Vec<String>,
    /// It was not refused.
    is_taken: bool,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(1),
            token: vec![7; 16],
            delay: AtomicU64::default(),
            is_held: AtomicBool::default(),
            waiting: AtomicU64::default(),
            is_full: AtomicBool::default(),
            forgets: AtomicBool::default(),
            files: Mutex::default(),
            answers: Mutex::default(),
            heard: Mutex::default(),
        }
    }
}

impl Fake {
    /// Serves until the test's process ends.
    fn start() -> (Arc<Self>, SocketAddr) {
        let (fake, address, stop) = Self::default().serve();
        std::mem::forget(stop);
        (fake, address)
    }

    /// Serves until the last of these is dropped, and then is gone as by `kill -9`.
    fn serve(self) -> (Arc<Self>, SocketAddr, oneshot::Sender<()>) {
        let fake = Arc::new(self);
        let (address, serving) = serve(Ipv4Addr::LOCALHOST.into(), TrackerServer::from_arc(Arc::clone(&fake)));
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            })
        });
        (fake, address, stop)
    }

    fn knows(&self, path: &str) -> bool {
        self.files.lock().unwrap().contains_key(path)
    }

    fn forget(&self) -> Result<(), Status> {
        if self.forgets.swap(false, Ordering::SeqCst) { Err(Status::not_found("join again")) } else { Ok(()) }
    }

    /// The calls of one kind so far.
    fn heard(&self, call: &str) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| heard.call == call).cloned().collect()
    }

    fn answer_next(&self, call: &'static str, answers: &[Answer]) {
        self.answers.lock().unwrap().insert(call, answers.iter().rev().copied().collect());
    }

    /// Notes a call, and answers it as the test wants it answered.
    async fn hear(&self, call: &'static str, token: &[u8], added: &[File]) -> Result<(), Status> {
        let answer = self.answers.lock().unwrap().get_mut(call).and_then(Vec::pop);
        self.heard.lock().unwrap().push(Heard {
            call,
            at: Instant::now(),
            token: token.into(),
            added: added.iter().map(|file| file.path.clone()).collect(),
            is_taken: answer.is_none(),
        });
        match answer {
            None => Ok(()),
            Some(Answer::Busy(millis)) => {
                let mut status = Status::resource_exhausted("too much to do");
                status.metadata_mut().insert("retry-after-ms", millis.into());
                Err(status)
            }
            Some(Answer::Aborted) => Err(Status::aborted("a newer one has the id")),
            Some(Answer::Never) => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl Tracker for Fake {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        self.hear("join", &[], &[]).await?;
        self.files.lock().unwrap().clear();
        let address = SocketAddr::from(([127, 0, 0, 1], request.get_ref().port as u16)).to_string();
        let lease_millis = self.lease.as_millis() as u32;
        Ok(Response::new(JoinReply { token: self.token.clone(), lease_millis, address }))
    }

    async fn announce(&self, request: Request<AnnounceRequest>) -> Result<Response<AnnounceReply>, Status> {
        self.forget()?;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst))).await;
        while self.is_held.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let AnnounceRequest { token, added, removed, .. } = request.into_inner();
        self.hear("announce", &token, &added).await?;
        if !added.is_empty() && self.is_full.load(Ordering::SeqCst) {
            return Err(Status::resource_exhausted("full"));
        }
        let mut files = self.files.lock().unwrap();
        for path in removed {
            files.remove(&path);
        }
        files.extend(added.into_iter().map(|file| (file.path, file.content)));
        Ok(Response::new(AnnounceReply {}))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        self.hear("renew", &request.get_ref().token, &[]).await?;
        self.forget().map(|()| Response::new(RenewReply {}))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        Ok(Response::new(LeaveReply {}))
    }

    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<SearchReply>, Status> {
        self.hear("search", &[], &[]).await?;
        Ok(Response::new(SearchReply::default()))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        Ok(Response::new(LocateReply::default()))
    }

    async fn peers(&self, _: Request<PeersRequest>) -> Result<Response<PeersReply>, Status> {
        Ok(Response::new(PeersReply::default()))
    }

    type WatchStream = Telling;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Telling>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[test]
fn changes_without_end_do_not_keep_the_share_from_being_announced_again() {
    let (fake, address) = Fake::start();
    let folder = Folder::new();
    folder.write("still", "x");
    let _peer = peer("p", folder.path(), address, &[]);
    wait_for(PATIENCE, "the share is announced", || fake.knows("still"));
    fake.delay.store(300, Ordering::SeqCst);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                folder.write(format!("hot-{}", number % 10), number.to_le_bytes());
                thread::sleep(Duration::from_millis(20));
            }
        });
        wait_for(PATIENCE, "changes come in", || fake.knows("hot-1") && fake.knows("hot-9"));
        fake.forgets.store(true, Ordering::SeqCst);
        wait_for(PATIENCE, "it joins again", || fake.heard("join").len() == 2);
        let end = Instant::now() + Duration::from_secs(5);
        while !fake.knows("still") && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(Instant::now() < end, "only changes are announced");
    });
}

#[test]
fn a_full_tracker_is_not_left_with_what_is_no_longer_true() {
    let (fake, address) = Fake::start();
    let folder = Folder::new();
    folder.write("changes", "before");
    folder.write("goes", "x");
    let peer = peer("p", folder.path(), address, &[]);
    wait_for(PATIENCE, "the share is announced", || fake.knows("changes") && fake.knows("goes"));
    fake.is_full.store(true, Ordering::SeqCst);
    fake.is_held.store(true, Ordering::SeqCst);
    folder.write("new", "x");
    wait_for(PATIENCE, "an announce is under way", || fake.waiting.load(Ordering::SeqCst) == 1);
    // What happens meanwhile comes in one announce.
    std::fs::remove_file(folder.join("goes")).unwrap();
    folder.write("changes", "after");
    wait_for(PATIENCE, "the change is hashed", || get(peer.address, "/files/changes").body == b"after");
    wait_for(PATIENCE, "the removal is seen", || !get(peer.address, "/files").text().contains("goes"));
    fake.is_held.store(false, Ordering::SeqCst);
    wait_for(PATIENCE, "both are gone", || !fake.knows("changes") && !fake.knows("goes"));
    peer.wait_for_line(0, "it says so", |line| line.text.contains("does not take all of this share").then_some(()));
}

#[test]
fn what_a_busy_tracker_refuses_comes_again_when_it_said_and_all_else_once() {
    const HINT: Duration = Duration::from_millis(700);
    let (fake, address, _stop) = Fake { lease: Duration::from_secs(3), ..Fake::default() }.serve();
    let busy = Answer::Busy(HINT.as_millis() as u64);
    fake.answer_next("join", &[busy; 100]);
    let folder = Folder::new();
    // Two batches.
    for number in 0..1200 {
        folder.write(format!("{number:04}"), "x");
    }
    let peer = peer("p", folder.path(), address, &[]);
    let page = |after: &str| get(peer.address, &format!("/files{after}")).text().matches("\"content\"").count();
    wait_for(PATIENCE, "all is hashed", || page("") == 1000 && page("?after=0999") == 200);
    wait_for(PATIENCE, "joins are refused", || fake.heard("join").len() == 3);
    fake.answer_next("announce", &[busy, busy]);
    fake.answer_next("join", &[]);
    wait_for(PATIENCE, "the share is announced", || fake.files.lock().unwrap().len() == 1200);

    let mut refused = 0;
    for call in ["join", "announce"] {
        for pair in fake.heard(call).windows(2).filter(|pair| !pair[0].is_taken) {
            let pause = pair[1].at - pair[0].at;
            assert!(pause >= HINT, "{call} comes again after {pause:?}");
            assert_eq!(pair[0].added, pair[1].added, "what was refused comes next");
            refused += 1;
        }
    }
    assert!(refused >= 5);
    let mut added: Vec<_> =
        fake.heard("announce").into_iter().filter(|heard| heard.is_taken).flat_map(|heard| heard.added).collect();
    added.sort();
    assert!(added.windows(2).all(|pair| pair[0] != pair[1]), "nothing is announced twice");
}

#[test]
fn while_announces_are_put_off_the_lease_is_kept() {
    let lease = Duration::from_secs(2);
    let (fake, address, _stop) = Fake { lease, ..Fake::default() }.serve();
    let folder = Folder::new();
    folder.write("a", "a");
    // 400 ms and more each: three leases.
    fake.answer_next("announce", &[Answer::Busy(400); 15]);
    let _peer = peer("p", folder.path(), address, &[]);
    wait_for(PATIENCE, "the share is announced", || fake.knows("a"));
    let heard = fake.heard.lock().unwrap().clone();
    let kept: Vec<_> = heard.iter().filter(|heard| heard.is_taken && heard.call != "search").collect();
    assert!(kept.last().unwrap().at - kept[0].at > 2 * lease);
    for pair in kept.windows(2) {
        assert!(pair[1].at - pair[0].at < lease, "{} after {:?}", pair[1].call, pair[1].at - pair[0].at);
    }
    assert_eq!(fake.heard("join").len(), 1);
}

#[test]
fn a_search_that_is_put_off_is_made_again_and_one_that_is_refused_is_not() {
    let (fake, address) = Fake::start();
    let folder = Folder::new();
    let mut peer = peer("p", folder.path(), address, &[]);
    peer.joined();
    fake.answer_next("search", &[Answer::Busy(300), Answer::Busy(300)]);
    let begun = Instant::now();
    assert_eq!(peer.search("x"), []);
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert_eq!(fake.heard("search").len(), 3);
    // Longer than anybody waits.
    fake.answer_next("search", &[Answer::Busy(3_600_000)]);
    let begun = Instant::now();
    let answer = peer.ask("search x");
    assert_eq!(answer.error(), Some("the tracker refuses: too much to do"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_lease_token_is_tried_at_the_next_tracker_which_is_told_the_share_again() {
    let fake = || Fake { lease: Duration::from_secs(3), token: vec![9; 128], ..Fake::default() }.serve();
    let (one, two) = (fake(), fake());
    let folder = Folder::new();
    folder.write("a", "a");
    let peer = peer_of("p", folder.path(), &format!("{},{}", one.1, two.1), &[]);
    let ((used, _, stop), (other, address, _stop)) = match peer.wait_for_line(0, "it joins", |line| {
        line.text.starts_with("joined tracker").then(|| line.text.contains(&one.1.to_string()))
    }) {
        true => (one, two),
        false => (two, one),
    };
    wait_for(PATIENCE, "the share is announced", || used.knows("a"));
    drop(stop);
    wait_for(PATIENCE, "the next is told the share", || other.knows("a"));
    let heard = other.heard.lock().unwrap().clone();
    assert!(heard.iter().all(|heard| heard.token == [9; 128]), "and no join");
    let answers = format!("tracker {address} answers");
    peer.wait_for_line(0, "it says so", |line| (line.text == answers).then_some(()));
    assert_eq!(get(peer.address, "/readyz").status, 200);
}

#[test]
fn a_token_that_is_too_long_is_no_answer() {
    for token in [vec![], vec![9; 129]] {
        let (fake, address, _stop) = Fake { token, ..Fake::default() }.serve();
        let folder = Folder::new();
        let peer = peer("p", folder.path(), address, &[]);
        wait_for(PATIENCE, "it tries again", || fake.heard("join").len() == 3);
        let away = format!("tracker {address} is away (its answer to a join makes no sense): ");
        assert_eq!(peer.lines().iter().filter(|line| line.text.starts_with(&away)).count(), 1);
        assert!(!peer.lines().iter().any(|line| line.text.starts_with("joined")));
    }
}

#[test]
fn a_join_that_was_given_up_and_takes_the_id_over_later_is_not_anothers() {
    let (fake, address) = Fake::start();
    // Given up after a while; another join is answered. Then the tracker comes to the first one.
    fake.answer_next("join", &[Answer::Never]);
    fake.answer_next("renew", &[Answer::Aborted, Answer::Aborted]);
    let folder = Folder::new();
    let peer = peer("p", folder.path(), address, &[]);
    wait_for(PATIENCE, "it joins again", || fake.heard("join").len() == 3);
    peer.wait_for_line(0, "it makes way once it is another's", |line| {
        line.text.starts_with("another peer with this identity").then_some(())
    });
    assert_eq!(fake.heard("join").len(), 3);
}

#[test]
fn peers_that_have_come_together_do_not_renew_together() {
    let lease = Duration::from_secs(6);
    let (fake, address, _stop) = Fake { lease, ..Fake::default() }.serve();
    let folders: Vec<_> = (0..8).map(|_| Folder::new()).collect();
    let mut first = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        folder.write("a", "a");
        let _peer = peer(&format!("p{number}"), folder.path(), address, &[]);
        wait_for(PATIENCE, "it renews", || fake.heard("renew").len() == number + 1);
        first.push(fake.heard("renew")[number].at - fake.heard("join")[number].at);
    }
    // All within a tenth of each other is one of a billion.
    let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
    assert!(*most - *least > lease / 30, "{first:?}");
    assert!(*most < lease / 2, "{first:?}");
}
