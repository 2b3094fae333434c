//! A watch: what peers that are followed have, and what becomes of it, as long as this peer runs.

use std::sync::Arc;

use tokio::time::{Instant, sleep};
use tonic::{Streaming, codegen::Bytes};

use super::{
    Link, Shared,
    calls::Call,
    chance,
    replies::{Refusal, Told},
    retry::Retry,
};
use crate::{
    digest::Digest,
    limits,
    name::PeerId,
    proto::{Publisher, WatchRequest},
    say,
};

/// Whoever follows other peers. Its calls must not block: the link waits for them.
pub trait Follower: Send + Sync {
    /// What it knows of each of those whom it follows, if it knows anything.
    fn known(&self) -> Vec<(PeerId, Option<Digest>)>;

    /// What a tracker tells.
    fn told(&self, told: Told);
}

impl Link {
    /// Has `follower` told of the files that match one of `patterns`, of all whom it follows, for ever: again from
    /// where it was after whatever breaks off.
    pub fn watch(&self, patterns: Vec<String>, follower: Arc<dyn Follower>) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move { shared.watch(&patterns, &*follower).await });
    }
}

impl Shared {
    async fn watch(&self, patterns: &[String], follower: &dyn Follower) {
        let mut retry = Retry::default();
        let mut is_said = false;
        loop {
            let Some(token) = self.downloads().token() else {
                self.stays.notified().await;
                continue;
            };
            let known = follower.known().into_iter();
            let publishers = known.map(|(peer, known)| Publisher {
                peer_id: peer.to_string(),
                known: known.map(|Digest(bytes)| bytes.to_vec()).unwrap_or_default(),
            });
            let request =
                WatchRequest { token: token.clone(), publishers: publishers.collect(), patterns: patterns.to_vec() };
            let began = Instant::now();
            let end = match self.caller.watch(&request.encoded()).await {
                Ok(mut replies) => {
                    (retry, is_said) = (Retry::default(), false);
                    follow(&mut replies, follower).await
                }
                Err(refusal) => refusal,
            };
            match &end {
                // The session finds out what becomes of this peer; a tracker says so to its next call.
                Refusal::Forgotten | Refusal::Superseded => {
                    self.downloads().doubt(&token);
                    self.news.notify_one();
                }
                Refusal::Full(text) | Refusal::Never(text) if !std::mem::replace(&mut is_said, true) => {
                    say(format_args!("the tracker does not tell of those who are followed ({text}): trying again"));
                }
                _ => {}
            }
            // A fleet whose watches end together does not come back together.
            let pause = retry.pause(&end, 1, None, chance());
            let least = limits::RETRY_TIME.mul_f64(chance());
            sleep(if began.elapsed() > limits::RETRY_TIME_MAX { least } else { pause.max(least) }).await;
        }
    }
}

/// Passes on what is told until that ends.
async fn follow(replies: &mut Streaming<Bytes>, follower: &dyn Follower) -> Refusal {
    loop {
        match replies.message().await {
            Ok(Some(reply)) => match WatchRequest::reply(reply) {
                Ok(reply) => {
                    if let Some(told) = Told::new(reply) {
                        follower.told(told);
                    }
                }
                Err(refusal) => return refusal,
            },
            Ok(None) => return Refusal::Away("it has ended the watch".into()),
            Err(status) => return status.into(),
        }
    }
}
