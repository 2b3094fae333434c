//! Where trackers are, as a person writes it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use tonic::transport::Endpoint;

use crate::{content::ContentId, limits, name::PeerId};

/// A host: its name, or its address, IPv6 with or without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the system's resolver wants it.
    pub(super) fn bare(&self) -> &str {
        self.0.trim_matches(['[', ']'])
    }
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = Self(text.to_owned());
        let is_name =
            !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
        let is_address = host.bare().parse::<IpAddr>().is_ok();
        if is_name || is_address { Ok(host) } else { Err("write a host's name or address, and no port") }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a tracker is: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerAddress {
    host: Host,
    port: u16,
}

impl TrackerAddress {
    /// Its name, or its address without brackets.
    pub(super) fn host(&self) -> &str {
        self.host.bare()
    }

    /// Whether the tracker runs on this machine, as far as its name says.
    pub(super) fn is_local(&self) -> bool {
        let mut addresses = self.resolve().into_iter().flatten().peekable();
        addresses.peek().is_some() && addresses.all(|address| address.ip().is_loopback())
    }

    /// Its addresses as the system knows them now.
    ///
    /// # Errors
    /// The resolver's.
    pub fn resolve(&self) -> io::Result<impl Iterator<Item = SocketAddr> + use<>> {
        (self.host.bare(), self.port).to_socket_addrs()
    }

    pub(super) fn endpoint(&self, is_secured: bool) -> Result<Endpoint, tonic::transport::Error> {
        Endpoint::from_shared(format!("{}://{self}", if is_secured { "https" } else { "http" }))
    }
}

impl FromStr for TrackerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write HOST:PORT, as 10.0.0.1:50051 or [fd00::1]:50051";
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(wrong)?;
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !is_v6 {
            return Err(wrong);
        }
        let address = Self { host: host.parse().map_err(|_| wrong)?, port };
        address.endpoint(false).map_err(|_| wrong)?;
        Ok(address)
    }
}

impl fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where the trackers are that stand in for each other: one at least, [`limits::TRACKERS`] at most, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trackers(Vec<TrackerAddress>);

impl Trackers {
    /// As they were given.
    pub fn iter(&self) -> impl Iterator<Item = &TrackerAddress> {
        self.0.iter()
    }

    /// In the order in which this peer turns to them: one of its own for each, so that a fleet spreads over all,
    /// and the peers of one that dies over all the others.
    pub(super) fn ordered_for(mut self, peer: &PeerId) -> Vec<TrackerAddress> {
        self.0.sort_by_cached_key(|tracker| *ContentId::of(format!("{peer}{tracker}").as_bytes()).bytes());
        self.0
    }
}

impl FromStr for Trackers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut trackers = Vec::new();
        for part in text.split(',').map(str::trim) {
            let tracker = part.parse().map_err(|error| match text.contains(',') {
                true => format!("`{part}` is no tracker: {error}"),
                false => String::from(error),
            })?;
            if trackers.contains(&tracker) {
                return Err(format!("{tracker} is named twice: name each tracker once"));
            }
            if trackers.len() == limits::TRACKERS {
                return Err(format!("name {} trackers at most", limits::TRACKERS));
            }
            trackers.push(tracker);
        }
        Ok(Self(trackers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_a_host_and_a_port_and_nothing_else() {
        for good in ["127.0.0.1:50051", "tracker.internal:1", "[::1]:50051"] {
            assert_eq!(good.parse::<TrackerAddress>().map(|address| address.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "host", ":1", "host:", "host:0", "host:65536", "http://host:1", "::1:50051", "a b:1", "u@h:1"] {
            assert!(bad.parse::<TrackerAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn trackers_are_a_list_that_is_never_empty_and_names_each_once() {
        let many = |number: usize| (1..=number).map(|port| format!("h:{port}")).collect::<Vec<_>>().join(",");
        for (text, number) in [("a:1", 1), ("a:1,b:1", 2), ("a:1, [::1]:2 ,b:3", 3), (&many(limits::TRACKERS), 16)] {
            assert_eq!(text.parse::<Trackers>().unwrap().iter().count(), number, "{text}");
        }
        for (text, part) in [
            ("", "write HOST:PORT"),
            ("a:1,", "`` is no tracker"),
            (",", "`` is no tracker"),
            ("a:1,b", "`b` is no tracker: write HOST:PORT"),
            ("a:1;b:1", "write HOST:PORT"),
            ("a:1,b:2,a:1", "a:1 is named twice"),
            (&many(limits::TRACKERS + 1), "16 trackers at most"),
        ] {
            let error = text.parse::<Trackers>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_fleet_spreads_over_its_trackers_and_that_of_a_dead_one_over_the_others() {
        let trackers: Trackers = "a:1,b:1,c:1".parse().unwrap();
        let mut orders = std::collections::BTreeMap::<_, u32>::new();
        for number in 0..600 {
            let peer = format!("peer_{number}").parse().unwrap();
            let order: Vec<_> = trackers.clone().ordered_for(&peer).iter().map(TrackerAddress::to_string).collect();
            *orders.entry(order).or_default() += 1;
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|peers| (60..=140).contains(peers)), "{orders:?}");
    }

    #[test]
    fn a_host_has_no_port() {
        for good in ["10.0.0.1", "fd00::1", "[fd00::1]", "host", "ec2-1-2-3-4.compute.amazonaws.com"] {
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.1:5000", "[fd00::1]:5000", "a b", "http://x", "u@h", "host:1", "[]"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_tracker_on_this_machine_is_local() {
        for (tracker, local) in [("127.0.0.1:1", true), ("[::1]:1", true), ("localhost:1", true), ("10.0.0.1:1", false)]
        {
            assert_eq!(tracker.parse::<TrackerAddress>().unwrap().is_local(), local, "{tracker}");
        }
    }
}
