//! Where the store is: `etcd://host1:2379,host2:2379/prefix`, as `--store` takes it. Pure.

use std::{fmt, str::FromStr};

use crate::limits;

/// The members of one etcd, and below which key the trackers keep what they share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreAddress {
    hosts: Vec<String>,
    prefix: String,
}

impl StoreAddress {
    /// `HOST:PORT` of each member; there is at least one.
    pub(super) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// What all keys begin with, without a slash at its end.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("etcd://").ok_or("a store is etcd://HOST:PORT,HOST:PORT/PREFIX")?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, limits::STORE_PREFIX));
        let hosts: Vec<_> = hosts.split(',').map(str::to_owned).collect();
        if hosts.len() > limits::STORE_HOSTS {
            return Err(format!("a store has at most {} hosts", limits::STORE_HOSTS));
        }
        if let Some(bad) = hosts.iter().find(|host| !is_authority(host)) {
            return Err(format!("`{bad}` is no host of a store: it is HOST:PORT, as 10.0.0.7:2379"));
        }
        let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if prefix.len() > limits::PATH_BYTES || prefix.split('/').any(|part| part.is_empty() || !is_part(part)) {
            return Err("the prefix of a store is letters, digits, dots, dashes and underscores, with single slashes \
                        between"
                .to_owned());
        }
        Ok(Self { hosts, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}/{}", self.hosts.join(","), self.prefix)
    }
}

/// Whether this is a name or an address (IPv6 in brackets), a colon and a port.
fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = in_brackets.map_or_else(|| is_name(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok());
    is_host && port.parse().is_ok_and(|port: u16| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_prefix_are_told_apart_and_nonsense_is_refused() {
        for (text, hosts, prefix) in [
            ("etcd://a:2379", &["a:2379"][..], "enjambre"),
            (
                "etcd://10.0.0.1:1,[::1]:2,b.example-x:65535/fleet/eu-1",
                &["10.0.0.1:1", "[::1]:2", "b.example-x:65535"],
                "fleet/eu-1",
            ),
        ] {
            let address: StoreAddress = text.parse().unwrap();
            assert_eq!(
                (address.hosts(), address.prefix()),
                (hosts.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice(), prefix),
                "{text}"
            );
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        let many = format!("etcd://{}", vec!["a:1"; limits::STORE_HOSTS + 1].join(","));
        for bad in [
            "",
            "a:2379",
            "http://a:2379",
            "etcd://",
            "etcd://a",
            "etcd://a:0",
            "etcd://a:65536",
            "etcd://a:1,",
            "etcd://:1",
            "etcd://a b:1",
            "etcd://::1:1",
            "etcd://[a]:1",
            "etcd://a:1/",
            "etcd://a:1//x",
            "etcd://a:1/x/",
            "etcd://a:1/é",
            "etcd://u@a:1",
            &many,
        ] {
            assert!(bad.parse::<StoreAddress>().is_err(), "{bad}");
        }
    }
}
