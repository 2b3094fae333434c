//! The swarm's secret: nobody gets in without it, whoever has it is not in the way of those who guess.
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod peer;
#[path = "../support/mod.rs"]
mod support;
mod swarm;
mod tracker;

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use enjambre::proto::JoinRequest;
use support::*;
use tonic::transport::{Channel, Endpoint};

const SECRET: &str = "0123456789abcdef-0123456789ABCDEF:/+";
const HALF: &str = "0123456789abcdef-0";
const WRONG: &str = "0123456789abcdef-0123456789ABCDEF:/-";

/// Nobody listens there; a peer serves all the same.
const NO_TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A file that holds the swarm's secret, and a folder to share.
struct Home {
    share: Folder,
    secret: Folder,
}

impl Home {
    fn new() -> Self {
        let home = Self { share: Folder::new(), secret: Folder::new() };
        home.share.write("a.txt", "hello");
        home.keep(SECRET);
        home
    }

    /// Puts a text into the file, which only its owner may read.
    fn keep(&self, text: &str) -> PathBuf {
        let path = self.secret.write("secret", text);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The flag that names the file, and others.
    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<String> {
        let path = self.secret.join("secret").display().to_string();
        ["--secret-file", &path].iter().chain(more).map(|flag| (*flag).to_owned()).collect()
    }

    fn tracker(&self, more: &[&str]) -> Process {
        let flags = self.flags(more);
        tracker(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn peer(&self, id: &str, tracker: SocketAddr, more: &[&str]) -> Process {
        let flags = self.flags(more);
        peer(id, self.share.path(), tracker, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

/// As `curl -u USER:SECRET` has it.
fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{secret}").as_bytes()))
}

fn authorized(to: SocketAddr, method: &str, target: &str, authorization: &str, body: &[u8]) -> Response {
    request(to, method, target, &[("Authorization", authorization)], body)
}

/// Sends requests over a connection each, from an address each, all at once; and gives their answers.
fn at_once(to: SocketAddr, requests: &[String]) -> Vec<Response> {
    let from = |number: usize| Ipv4Addr::from_bits(0x7f02_0001 + number as u32);
    let sent: Vec<_> = (requests.iter().enumerate())
        .map(|(number, request)| {
            let mut connection = Connection::open_from(from(number), to).unwrap();
            connection.send(request).unwrap();
            connection
        })
        .collect();
    let is_head = |number: usize| requests[number].starts_with("HEAD");
    let answer = |(number, mut connection): (usize, Connection)| match is_head(number) {
        true => connection.head().unwrap(),
        false => connection.answer().unwrap(),
    };
    sent.into_iter().enumerate().map(answer).collect()
}

/// No process has said the secret, nor what was tried.
#[track_caller]
fn nothing_is_said_of_it(processes: &[&Process]) {
    for process in processes {
        let lines = process.lines();
        assert!(!lines.is_empty());
        let told =
            lines.iter().find(|line| [HALF, "MDEyMzQ1Njc4OWFiY2RlZi0w"].iter().any(|part| line.text.contains(part)));
        assert!(told.is_none(), "{told:?}");
    }
}

async fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).unwrap().timeout(PATIENCE).connect().await.unwrap()
}

fn joining(peer_id: &str, port: u16, advertise: &str) -> JoinRequest {
    let identity = blake3::hash(peer_id.as_bytes()).as_bytes().to_vec();
    JoinRequest {
        peer_id: peer_id.into(),
        identity,
        port: port.into(),
        advertise: advertise.into(),
        ..JoinRequest::default()
    }
}
