//! The life of a link: join, announce, renew, and again whenever the tracker has forgotten.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    ops::Range,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{Client, Host, Shared, downloads::Downloads, replies::Refusal};
use crate::{
    limits,
    name::SharePath,
    peer::share::Entry,
    proto::{self, AnnounceRequest, JoinRequest, LeaveRequest, RenewRequest},
    say,
};

/// Runs until [`super::Link::leave`].
pub(super) async fn run(shared: &Shared) {
    let mut session = Session { shared, stay: None, trouble: None, ever_joined: false };
    tokio::select! {
        () = shared.leaving.notified() => {}
        () = session.live() => shared.leaving.notified().await,
    }
    if let Some(Stay { token, .. }) = session.stay {
        let _ = shared.call(|mut client| async move { client.leave(LeaveRequest { token }).await }).await;
    }
}

struct Session<'a> {
    shared: &'a Shared,
    /// From a join until the tracker has forgotten it.
    stay: Option<Stay>,
    /// What was last said to be wrong, so that it is said once.
    trouble: Option<Trouble>,
    ever_joined: bool,
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

impl Session<'_> {
    /// Joins and stays, over and over; ends when this peer should not come back.
    async fn live(&mut self) {
        let mut retry = Retry::default();
        let mut lease = None;
        loop {
            match self.join().await {
                Ok(stay) => {
                    let began = Instant::now();
                    lease = Some(stay.lease);
                    self.stay = Some(stay.clone());
                    self.shared.downloads().stay(Some(stay.token.clone()));
                    let end = self.stay(&stay).await;
                    self.stay = None;
                    self.shared.downloads().stay(None);
                    self.shared.stand(|standing| (standing.joined, standing.announced) = (false, None));
                    if end == Refusal::Superseded {
                        return self.give_up();
                    }
                    // A tracker that forgets at once is not asked without a pause.
                    if began.elapsed() > stay.lease / 4 {
                        retry = Retry::default();
                    }
                }
                Err(Refusal::Superseded) => return self.give_up(),
                Err(Refusal::Taken(text) | Refusal::Never(text)) if !self.ever_joined => {
                    return (self.shared.config.on_refused)(format!("the tracker refuses this peer: {text}"));
                }
                Err(Refusal::Away(reason)) => self.say_away(&reason),
                Err(Refusal::Nameless(text)) => self.say_once(Trouble::Refused, || {
                    format!("cannot join yet, {text}: serving all the same, trying again")
                }),
                Err(other) => {
                    let text = other.into_text();
                    self.say_once(Trouble::Refused, || {
                        format!("the tracker refuses this peer ({text}): serving all the same, trying again")
                    });
                }
            }
            sleep(retry.pause(lease)).await;
        }
    }

    fn give_up(&self) {
        say(format_args!(
            "another peer with this identity has joined as {} and takes this one's place: serving on, but no longer found \
             (two copies of one folder cannot run: stop one, or begin anew in a copy without .enjambre)",
            self.shared.config.peer
        ));
    }

    async fn join(&mut self) -> Result<Stay, Refusal> {
        let config = &self.shared.config;
        let advertise = match &config.advertise {
            Some(host) => look_up(host).await?.to_string(),
            None => String::new(),
        };
        let request = JoinRequest {
            peer_id: config.peer.to_string(),
            identity: config.share.identity().to_vec(),
            port: config.port.into(),
            zone: config.zone.as_str().to_owned(),
            advertise,
        };
        let reply = self.shared.call(|mut client| async move { client.join(request).await }).await?;
        let proto::JoinReply { token, lease_millis, address } = reply;
        let lease = Duration::from_millis(lease_millis.into());
        let address = address.parse::<std::net::SocketAddr>();
        let is_sound =
            limits::LEASE_SECONDS.contains(&lease.as_secs()) && (1..=limits::TOKEN_BYTES).contains(&token.len());
        let (true, Ok(address)) = (is_sound, address) else {
            return Err(Refusal::Away("its answer to a join makes no sense".into()));
        };
        say(format_args!(
            "joined tracker {} as {} ({address}), lease {} s",
            config.tracker,
            config.peer,
            lease.as_secs_f32()
        ));
        if config.advertise.is_none() && !config.bind.is_unspecified() && config.bind != address.ip() {
            say(format_args!(
                "others are told {address}, where this peer does not listen: its --bind is {}; leave that out, or \
                 use --advertise",
                config.bind
            ));
        }
        self.ever_joined = true;
        self.trouble = None;
        self.shared.stand(|standing| standing.joined = true);
        Ok(Stay { token, lease })
    }

    /// Announces and renews for as long as the tracker will have it; ends with why it will not.
    async fn stay(&mut self, stay: &Stay) -> Refusal {
        let shared = self.shared;
        let Shared { config, news, .. } = shared;
        let mut work = Work::Share(None);
        let next = || Instant::now() + (stay.lease / 3).mul_f64(jitter(0.9..1.1));
        // News do not put a renewal off: most of them tell the tracker nothing.
        let mut renew_at = next();
        loop {
            // What has changed comes first: a person waits for it, a large share can take minutes. The
            // share fills what room is left, so that changes without end do not hold it up.
            let seen = self.shared.standing().news;
            if let Err(end) = self.tell(stay, Downloads::begun).await {
                return end;
            }
            let mut files: Vec<_> = config.share.take_changes(limits::ANNOUNCE_FILES);
            if files.is_empty() {
                // After the changes: a download that has become a file stays a source throughout.
                if let Err(end) = self.tell(stay, Downloads::ended).await {
                    return end;
                }
            }
            files.extend(work.next(config, limits::ANNOUNCE_FILES - files.len()));
            if files.is_empty() {
                self.shared.stand(|standing| standing.announced = Some(seen));
                tokio::select! {
                    () = news.notified() => continue,
                    () = sleep_until(renew_at) => {}
                }
                let request = RenewRequest { token: stay.token.clone() };
                let call = |mut client: Client| {
                    let request = request.clone();
                    async move { client.renew(request).await }
                };
                match self.insist(stay, || shared.call(call)).await {
                    Ok(_) => renew_at = next(),
                    Err(end @ (Refusal::Forgotten | Refusal::Superseded)) => return end,
                    Err(_) => return Refusal::Forgotten,
                }
                continue;
            }
            let mut request = announcement(&stay.token, files);
            match self.announce(stay, &request).await {
                Ok(()) => {
                    renew_at = next();
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
        let shared = self.shared;
        match self.insist(stay, || shared.tell(news)).await {
            Err(end @ (Refusal::Forgotten | Refusal::Superseded)) => Err(end),
            Err(other) => {
                let text = other.into_text();
                self.say_once(Trouble::Partly, || {
                    format!("the tracker does not take all downloads of this peer ({text}): they go on all the same")
                });
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn announce(&mut self, stay: &Stay, request: &AnnounceRequest) -> Result<(), Refusal> {
        let shared = self.shared;
        let call = |mut client: Client| {
            let request = request.clone();
            async move { client.announce(request).await }
        };
        self.insist(stay, || shared.call(call)).await.map(drop)
    }

    /// Makes a call that may be made twice until it is answered. The token stays good meanwhile: a
    /// tracker that was away for less than a lease need not be told everything again.
    async fn insist<T, F>(&mut self, stay: &Stay, call: impl Fn() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let mut retry = Retry::default();
        loop {
            let reason = match call().await {
                Err(Refusal::Away(reason)) => reason,
                answer => {
                    if self.trouble == Some(Trouble::Away) && answer.is_ok() {
                        self.trouble = None;
                        say(format_args!("tracker {} is back", self.shared.config.tracker));
                    }
                    if answer.is_ok() {
                        self.shared.stand(|standing| standing.joined = true);
                    }
                    return answer;
                }
            };
            // One failure may be the old connection's alone.
            if retry.tries > 0 {
                self.shared.stand(|standing| standing.joined = false);
                self.say_away(&reason);
            }
            sleep(retry.pause(Some(stay.lease))).await;
        }
    }

    fn say_away(&mut self, reason: &str) {
        let tracker = &self.shared.config.tracker;
        let line = format!("tracker {tracker} is away ({reason}): serving all the same, trying again");
        self.say_once(Trouble::Away, || line);
    }

    fn say_once(&mut self, trouble: Trouble, line: impl FnOnce() -> String) {
        if self.trouble != Some(trouble) {
            self.trouble = Some(trouble);
            say(line());
        }
    }
}

/// What of the share is still to be announced.
enum Work {
    /// All that comes behind this path.
    Share(Option<SharePath>),
    Done,
}

impl Work {
    fn next(&mut self, config: &super::LinkConfig, room: usize) -> Vec<(SharePath, Option<Entry>)> {
        let Self::Share(after) = self else { return Vec::new() };
        if room == 0 {
            return Vec::new();
        }
        let files = config.share.list(after.as_ref(), room);
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

/// Pauses between tries: doubling, jittered, so that a fleet does not come back in step.
#[derive(Default)]
struct Retry {
    tries: u32,
}

impl Retry {
    fn pause(&mut self, lease: Option<Duration>) -> Duration {
        let longest = lease.map_or(limits::RETRY_TIME_MAX, |lease| lease / 3);
        let pause = limits::RETRY_TIME.saturating_mul(1 << self.tries.min(20)).min(longest);
        self.tries += 1;
        pause.mul_f64(jitter(0.5..1.0))
    }
}

/// A number from `range`. Each `RandomState` has keys of its own, which is chance enough here.
fn jitter(range: Range<f64>) -> f64 {
    let chance = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    range.start + (range.end - range.start) * chance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_never_pass_a_third_of_the_lease() {
        for lease in [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(15))] {
            let longest = lease.map_or(limits::RETRY_TIME_MAX, |lease| lease / 3);
            let mut retry = Retry::default();
            let pauses: Vec<_> = (0..100).map(|_| retry.pause(lease)).collect();
            assert!(pauses[0] >= limits::RETRY_TIME / 2 && pauses[0] <= limits::RETRY_TIME);
            assert!(pauses.iter().all(|pause| *pause <= longest));
            assert!(pauses[99] >= longest / 2);
            assert!(pauses.iter().any(|pause| *pause != pauses[99]), "jitter");
        }
    }
}
