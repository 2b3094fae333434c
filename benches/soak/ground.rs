//! Where the swarm runs: a host for the tracker and one for each peer, or all of them on loopback, where there are no
//! faults of the network.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
};

use super::{
    PEERS,
    place::{self, Place},
    support::hosts::{self, Cut, Lan},
};

/// Of a million packets so many are lost on their way to a host.
const LOST: u32 = 3_000;

/// The hosts and their files.
pub(crate) struct Ground {
    lan: Option<Lan>,
    folder: PathBuf,
}

impl Ground {
    pub(crate) fn new(place: &Place) -> Self {
        let lan = matches!(place, Place::Namespaces).then(|| Lan::new(1 + PEERS));
        let ground = Self { lan, folder: place::folder(place) };
        fs::create_dir(ground.outside()).expect("a folder of ours");
        (0..PEERS).for_each(|slot| fs::create_dir(ground.share(slot)).expect("a folder of ours"));
        (0..PEERS).for_each(|slot| ground.cut(slot, &Cut::Nobody));
        ground
    }

    /// Whether the network can be disturbed.
    pub(crate) fn has_faults(&self) -> bool {
        self.lan.is_some()
    }

    /// A folder that no peer has anything to do with.
    pub(crate) fn outside(&self) -> PathBuf {
        self.folder.join("outside")
    }

    /// A peer's share.
    pub(crate) fn share(&self, slot: usize) -> PathBuf {
        self.folder.join(format!("share-{slot}"))
    }

    /// Where the tracker listens.
    pub(crate) fn tracker(&self) -> SocketAddr {
        self.address(0, 50_051)
    }

    /// Where a peer listens.
    pub(crate) fn peer(&self, slot: usize) -> SocketAddr {
        self.address(1 + slot, 50_052)
    }

    fn address(&self, host: usize, port: u16) -> SocketAddr {
        let loopback = || Ipv4Addr::new(127, 0, 7, host as u8 + 1);
        (self.lan.as_ref().map_or_else(loopback, |_| hosts::address(host)), port).into()
    }

    /// The command, to run on the tracker's host.
    pub(crate) fn on_trackers(&self, command: Command) -> Command {
        self.on(0, command)
    }

    /// The command, to run on a peer's host.
    pub(crate) fn on_peers(&self, slot: usize, mut command: Command) -> Command {
        if self.lan.is_none() {
            // On loopback every call comes from 127.0.0.1.
            command.args(["--advertise", &self.peer(slot).ip().to_string()]);
        }
        self.on(1 + slot, command)
    }

    fn on(&self, host: usize, command: Command) -> Command {
        match &self.lan {
            Some(lan) => lan.on(host, &command),
            None => command,
        }
    }

    /// Cuts a peer off from others, or heals that; it goes on losing packets.
    pub(crate) fn cut(&self, slot: usize, cut: &Cut) {
        if let Some(lan) = &self.lan {
            lan.disturb(1 + slot, LOST, cut);
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
