//! What keeps those out who do not have the swarm's secret: every call, health and reflection too.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::{sync::Semaphore, time::sleep};
use tonic::{Status, codegen::http};

use super::gate::{Answer, at_once};
use crate::{
    limits,
    secret::{Secret, Tries},
};

/// Open to everybody where there is no secret.
pub(super) struct Lock {
    secret: Option<Secret>,
    tries: Mutex<Tries>,
    waiting: Arc<Semaphore>,
}

impl Lock {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self { secret, tries: Mutex::default(), waiting: Arc::new(Semaphore::new(limits::TRIES)) }
    }

    /// Lets a call through whose metadata prove the secret.
    ///
    /// # Errors
    /// What its caller is told, and that answer: a wrong secret has to wait for it, as far as [`Tries`] say.
    pub(super) fn open(&self, metadata: &http::HeaderMap, from: IpAddr, now: Instant) -> Result<(), (Status, Answer)> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let mut given = metadata.get_all(http::header::AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            let status = Status::unauthenticated(
                "this swarm has a secret and the call has none: give --secret-file FILE or ENJAMBRE_SECRET to a peer, \
                 and the metadata `authorization: Bearer SECRET` to others",
            );
            return Err((status.clone(), at_once(status)));
        };
        if given.next().is_none() && value.to_str().is_ok_and(|value| secret.is_in(value)) {
            return Ok(());
        }
        let status = Status::unauthenticated("this swarm has another secret: give the one that the tracker was given");
        let pause = self.tries.lock().unwrap_or_else(PoisonError::into_inner).failed(from, now);
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err((status.clone(), at_once(status)));
        };
        let told = status.clone();
        let answer = Box::pin(async move {
            sleep(pause).await;
            drop(place);
            Ok(told.into_http())
        });
        Err((status, answer))
    }
}
