//! The life of a link: join, announce, renew, and again whenever the tracker has forgotten.

use std::{collections::VecDeque, net::IpAddr, ops::Range, time::Duration};

use prost::bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Host, Joining, Shared,
    calls::{Call, Encoded, Whom},
    chance,
    downloads::Downloads,
    replies::{Joined, Refusal},
    retry::Retry,
};
use crate::{
    limits,
    name::SharePath,
    peer::share::{Entry, Share},
    proto::{self, AnnounceRequest, JoinRequest, LeaveRequest, RenewRequest},
    say,
};

/// Runs until [`super::Link::leave`].
pub(super) async fn run(shared: &Shared, joining: &Joining) {
    let mut session = Session {
        shared,
        joining,
        stay: None,
        renew_at: Instant::now(),
        trouble: None,
        ever_joined: false,
        has_stray_join: false,
    };
    tokio::select! {
        () = shared.leaving.notified() => {}
        () = session.live() => shared.leaving.notified().await,
    }
    if let Some(Stay { token, .. }) = session.stay {
        let _ = shared.caller.clone().ask(LeaveRequest { token }.encoded(), Whom::Any).await;
    }
}

struct Session<'a> {
    shared: &'a Shared,
    joining: &'a Joining,
    /// From a join until the tracker has forgotten it.
    stay: Option<Stay>,
    /// When the lease is renewed next, unless something else does it before.
    renew_at: Instant,
    /// What was last said to be wrong, so that it is said once.
    trouble: Option<Trouble>,
    ever_joined: bool,
    /// A join was given up that a tracker may still carry out, and let it take the place of a later one.
    has_stray_join: bool,
}

#[derive(Clone)]
struct Stay {
    token: Vec<u8>,
    lease: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Away,
    Refused,
    Partly,
}

/// A call that is made until it is answered.
enum Insisted {
    Call(Encoded),
    /// Tells of downloads.
    Tell(fn(&Downloads) -> Option<AnnounceRequest>),
}

impl Session<'_> {
    /// Joins and stays, over and over; ends when this peer should not come back.
    async fn live(&mut self) {
        let mut retry = Retry::default();
        let mut lease = None;
        loop {
            let end = match self.join().await {
                Ok(stay) => {
                    let began = Instant::now();
                    lease = Some(stay.lease);
                    self.stay = Some(stay.clone());
                    self.shared.downloads().stay(Some(stay.token.clone()));
                    self.shared.stays.notify_one();
                    let end = self.stay(&stay).await;
                    self.stay = None;
                    self.shared.downloads().stay(None);
                    self.shared.stand(|standing| (standing.joined, standing.announced) = (false, None));
                    // A tracker that forgets at once is not asked without a pause.
                    if began.elapsed() > stay.lease / 4 {
                        retry = Retry::default();
                    }
                    end
                }
                Err(refusal) => refusal,
            };
            match &end {
                Refusal::Superseded if !std::mem::take(&mut self.has_stray_join) => return self.give_up(),
                Refusal::Taken(text) | Refusal::Never(text) if !self.ever_joined => {
                    return (self.joining.on_refused)(format!("the tracker refuses this peer: {text}"));
                }
                Refusal::Away(_) | Refusal::Forgotten | Refusal::Superseded => {}
                Refusal::Nameless(text) => self.say_once(Trouble::Refused, || {
                    format!("cannot join yet, {text}: serving all the same, trying again")
                }),
                Refusal::Busy(_, text) => self.say_once(Trouble::Refused, || {
                    format!("the tracker is busy ({text}): serving all the same, trying again")
                }),
                Refusal::Taken(text) | Refusal::Never(text) | Refusal::Full(text) => self
                    .say_once(Trouble::Refused, || {
                        format!("the tracker refuses this peer ({text}): serving all the same, trying again")
                    }),
            }
            self.pause(&mut retry, &end, lease).await;
        }
    }

    /// Waits until something that was refused may be tried again.
    async fn pause(&mut self, retry: &mut Retry, refusal: &Refusal, lease: Option<Duration>) {
        let trackers = self.shared.caller.number();
        let pause = retry.pause(refusal, trackers, lease, chance());
        if retry.is_everyone_away(trackers) {
            self.shared.stand(|standing| standing.joined = false);
            // Of the only one that is said where it is found out.
            if trackers > 1 {
                self.say_once(Trouble::Away, || "no tracker answers: serving all the same, trying again".into());
            }
        }
        sleep(pause).await;
    }

    fn give_up(&self) {
        say(format_args!(
            "another peer with this identity has joined as {} and takes this one's place: serving on, but no longer found \
             (two copies of one folder cannot run: stop one, or begin anew in a copy without .enjambre)",
            self.shared.config.peer
        ));
    }

    async fn join(&mut self) -> Result<Stay, Refusal> {
        let (config, joining) = (&self.shared.config, self.joining);
        let advertise = match &joining.advertise {
            Some(host) => look_up(host).await?.to_string(),
            None => String::new(),
        };
        let request = JoinRequest {
            peer_id: config.peer.to_string(),
            identity: joining.share.identity().to_vec(),
            port: joining.port.into(),
            zone: config.zone.as_str().to_owned(),
            advertise,
        };
        let began = Instant::now();
        let answer = self.shared.caller.tell(&request.encoded()).await;
        self.has_stray_join |= matches!(answer, Err(Refusal::Away(_))) && began.elapsed() > limits::ASK_NEXT_TIME;
        let (at, reply) = answer?;
        let Some(Joined { token, lease, address }) = JoinRequest::reply(reply).ok().and_then(Joined::new) else {
            let reason = "its answer to a join makes no sense";
            self.shared.caller.leave(at, reason);
            return Err(Refusal::Away(reason.into()));
        };
        let _ = self.shared.caller.answered(at);
        say(format_args!(
            "joined tracker {} as {} ({address}), lease {} s",
            self.shared.caller.address(at),
            config.peer,
            lease.as_secs_f32()
        ));
        if joining.advertise.is_none() && !joining.bind.is_unspecified() && joining.bind != address.ip() {
            say(format_args!(
                "others are told {address}, where this peer does not listen: its --bind is {}; leave that out, or \
                 use --advertise",
                joining.bind
            ));
        }
        self.ever_joined = true;
        self.trouble = None;
        let stay = Stay { token, lease };
        self.shared.stand(|standing| standing.joined = true);
        self.confirmed(&stay);
        Ok(stay)
    }

    /// Announces and renews for as long as the tracker will have it; ends with why it will not.
    async fn stay(&mut self, stay: &Stay) -> Refusal {
        let (shared, share) = (self.shared, &self.joining.share);
        // All of the share is announced, with what has changed before.
        while !share.take_changes(limits::ANNOUNCE_FILES).is_empty() {}
        let mut work = Work::Share(None);
        let mut told = shared.caller.using();
        let (mut removed, mut again) = (Removed::default(), Vec::new());
        self.renew_within(stay, 0.1..1.0);
        loop {
            // A tracker that is gone may not have passed on all it was told; the one that has taken its place may not
            // even know the token.
            let using = shared.caller.using();
            if using != told {
                told = using;
                work = Work::Share(None);
                again = removed.lately(Instant::now());
                shared.downloads().doubt(&stay.token);
                self.renew_at = Instant::now();
            }
            // What has changed comes first: a person waits for it, a large share can take minutes. The
            // share fills what room is left, so that changes without end do not hold it up.
            let seen = shared.standing().news;
            if let Err(end) = self.tell(stay, Downloads::begun).await {
                return end;
            }
            let mut files: Vec<_> = share.take_changes(limits::ANNOUNCE_FILES - again.len());
            if files.is_empty() {
                // After the changes: a download that has become a file stays a source throughout.
                if let Err(end) = self.tell(stay, Downloads::ended).await {
                    return end;
                }
            }
            // Before the share: what is there again comes after it.
            files.splice(0..0, again.drain(..).map(|path| (path, None)));
            files.extend(work.next(share, limits::ANNOUNCE_FILES.saturating_sub(files.len())));
            if files.is_empty() {
                shared.stand(|standing| standing.announced = Some(seen));
                // News do not put a renewal off: most of them tell the tracker nothing.
                tokio::select! {
                    () = shared.news.notified() => continue,
                    () = shared.caller.moved() => continue,
                    () = sleep_until(self.renew_at) => {}
                }
                let renewal = RenewRequest { token: stay.token.clone() }.encoded();
                match self.insist(stay, Insisted::Call(renewal)).await {
                    Ok(_) => self.renew_within(stay, 0.9..1.1),
                    Err(end @ (Refusal::Forgotten | Refusal::Superseded)) => return end,
                    Err(_) => return Refusal::Forgotten,
                }
                continue;
            }
            let gone: Vec<_> =
                files.iter().filter(|(_, entry)| entry.is_none()).map(|(path, _)| path.clone()).collect();
            let mut request = announcement(&stay.token, files);
            match self.announce(stay, &request).await {
                Ok(()) => {
                    removed.note(Instant::now(), gone);
                    continue;
                }
                Err(end @ (Refusal::Forgotten | Refusal::Superseded)) => return end,
                Err(other) => {
                    let text = other.into_text();
                    self.say_once(Trouble::Partly, || {
                        format!("the tracker does not take all of this share ({text}): the rest is found all the same")
                    });
                }
            }
            // Nothing of it was taken. What the tracker knows of these paths from before is not true any more.
            request.removed.extend(request.added.drain(..).map(|file| file.path));
            if let Err(end @ (Refusal::Forgotten | Refusal::Superseded)) = self.announce(stay, &request).await {
                return end;
            }
        }
    }

    /// Tells the tracker of downloads; fails only when it will not have this peer any more.
    async fn tell(&mut self, stay: &Stay, news: fn(&Downloads) -> Option<AnnounceRequest>) -> Result<(), Refusal> {
        match self.insist(stay, Insisted::Tell(news)).await {
            Err(end @ (Refusal::Forgotten | Refusal::Superseded)) => Err(end),
            Err(other) => {
                let text = other.into_text();
                self.say_once(Trouble::Partly, || {
                    format!("the tracker does not take all downloads of this peer ({text}): they go on all the same")
                });
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    async fn announce(&mut self, stay: &Stay, request: &AnnounceRequest) -> Result<(), Refusal> {
        self.insist(stay, Insisted::Call(request.encoded())).await?;
        // All that a fleet announces at once it would else renew at once.
        self.renew_within(stay, 0.1..1.0);
        Ok(())
    }

    /// Makes a call that may be made twice until it is answered, at one tracker after the other. The token stays good
    /// meanwhile: a tracker that was away for less than a lease need not be told everything again, and one that shares
    /// what it knows with the one before neither. What a busy tracker puts off is not what keeps the lease.
    async fn insist(&mut self, stay: &Stay, call: Insisted) -> Result<Bytes, Refusal> {
        let shared = self.shared;
        let mut retry = Retry::default();
        loop {
            let answer = match &call {
                Insisted::Call(call) => shared.caller.tell(call).await.map(|(_, reply)| reply),
                Insisted::Tell(news) => shared.tell(*news).await.map(|()| Bytes::new()),
            };
            let is_busy = match answer {
                Err(refusal @ (Refusal::Away(_) | Refusal::Busy(..))) => {
                    self.pause(&mut retry, &refusal, Some(stay.lease)).await;
                    matches!(refusal, Refusal::Busy(..))
                }
                answer => {
                    if answer.is_ok() {
                        if matches!(call, Insisted::Call(_)) {
                            self.confirmed(stay);
                        }
                        self.trouble.take_if(|trouble| *trouble == Trouble::Away);
                        shared.stand(|standing| standing.joined = true);
                    }
                    return answer;
                }
            };
            let is_renewal = matches!(&call, Insisted::Call(call) if call.is::<RenewRequest>());
            if is_busy && !is_renewal && Instant::now() >= self.renew_at {
                let renewal = RenewRequest { token: stay.token.clone() }.encoded();
                match shared.caller.tell(&renewal).await {
                    Ok(_) => {
                        self.confirmed(stay);
                        self.renew_within(stay, 0.9..1.1);
                    }
                    Err(end @ (Refusal::Forgotten | Refusal::Superseded)) => return Err(end),
                    // The call itself is tried again.
                    Err(_) => {}
                }
            }
        }
    }

    /// Notes that a tracker has just answered what keeps the lease.
    fn confirmed(&self, stay: &Stay) {
        self.shared.standing().lease = Some((std::time::Instant::now(), stay.lease));
    }

    /// Puts the next renewal into a part of a third of the lease, where chance will have it.
    fn renew_within(&mut self, stay: &Stay, part: Range<f64>) {
        let part = part.start + (part.end - part.start) * chance();
        self.renew_at = Instant::now() + (stay.lease / 3).mul_f64(part);
    }

    fn say_once(&mut self, trouble: Trouble, line: impl FnOnce() -> String) {
        if self.trouble != Some(trouble) {
            self.trouble = Some(trouble);
            say(line());
        }
    }
}

/// What the tracker was told lately that it is gone: one that is gone itself may not have passed that on.
#[derive(Default)]
struct Removed(VecDeque<(Instant, SharePath)>);

impl Removed {
    fn note(&mut self, now: Instant, paths: Vec<SharePath>) {
        self.0.extend(paths.into_iter().map(|path| (now, path)));
        let many = self.0.len().saturating_sub(limits::REMOVED_AGAIN);
        self.0.drain(..many);
    }

    fn lately(&self, now: Instant) -> Vec<SharePath> {
        let is_late = |at: &Instant| now.duration_since(*at) < limits::REMOVED_AGAIN_TIME;
        self.0.iter().filter(|(at, _)| is_late(at)).map(|(_, path)| path.clone()).collect()
    }
}

/// What of the share is still to be announced.
enum Work {
    /// All that comes behind this path.
    Share(Option<SharePath>),
    Done,
}

impl Work {
    fn next(&mut self, share: &Share, room: usize) -> Vec<(SharePath, Option<Entry>)> {
        let Self::Share(after) = self else { return Vec::new() };
        if room == 0 {
            return Vec::new();
        }
        let files = share.list(after.as_ref(), room);
        *self = match files.last() {
            Some((path, _)) => Self::Share(Some(path.clone())),
            None => Self::Done,
        };
        files.into_iter().map(|(path, entry)| (path, Some(entry))).collect()
    }
}

fn announcement(token: &[u8], files: Vec<(SharePath, Option<Entry>)>) -> AnnounceRequest {
    let mut request = AnnounceRequest { token: token.to_vec(), ..AnnounceRequest::default() };
    for (path, entry) in files {
        let path = path.as_str().to_owned();
        match entry {
            Some(Entry { content, size }) => {
                request.added.push(proto::File { path, content: content.bytes().to_vec(), size });
            }
            None => request.removed.push(path),
        }
    }
    request
}

/// The address of the host that `--advertise` names.
async fn look_up(host: &Host) -> Result<IpAddr, Refusal> {
    let failed = |reason: String| Refusal::Nameless(format!("--advertise {host} has no address ({reason})"));
    if let Ok(address) = host.bare().parse() {
        return Ok(address);
    }
    let mut found = tokio::net::lookup_host((host.bare(), 0)).await.map_err(|error| failed(error.to_string()))?;
    found.next().map(|address| address.ip()).ok_or_else(|| failed("its name is known without one".into()))
}
