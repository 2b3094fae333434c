//! Which addresses a peer may be sent to. Pure; the tracker asks before it gives an address, and
//! the peer again before it dials one, since nothing the tracker says needs to be believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a peer may dial this address, or the tracker give it to one.
///
/// Refused are the addresses at which something other than a peer answers to whoever is on the
/// machine itself: link-local ones (169.254.169.254 hands out an instance's credentials, and so
/// does fd00:ec2::254), multicast, broadcast and the unspecified address, which Linux takes for
/// loopback. Loopback itself is good only where the tracker is reached over loopback too
/// (`tracker_is_local`). An IPv4 address written as IPv6, or for a translator, counts as what it is.
pub fn is_dialable(ip: IpAddr, tracker_is_local: bool) -> bool {
    match ip.to_canonical() {
        ip if ip.is_loopback() => tracker_is_local,
        IpAddr::V4(ip) => is_dialable_v4(ip),
        IpAddr::V6(ip) => is_dialable_v6(ip),
    }
}

fn is_dialable_v4(ip: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 means "this host" (RFC 1122 section 3.2.1.3).
    let this_host = ip.octets()[0] == 0;
    !(this_host || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
}

fn is_dialable_v6(ip: Ipv6Addr) -> bool {
    // `::`, and the IPv4-compatible form that RFC 4291 section 2.5.5.1 gave up.
    let embeds_v4 = ip.segments()[..6] == [0; 6];
    // Amazon's services to an instance: metadata, DNS, time.
    let instance_service = ip.segments()[..2] == [0xfd00, 0x0ec2];
    let translated = translated(ip).is_some_and(|ip| !is_dialable(ip.into(), false));
    !(embeds_v4 || instance_service || translated || ip.is_unicast_link_local() || ip.is_multicast())
}

/// The IPv4 address that a translator (RFC 6052, RFC 8215) or a 6to4 relay (RFC 3056) on the way makes of an address.
fn translated(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// What counts as one address where the question is how many said something: whoever has one IPv6 address has
/// the 2^64 that share its first half. An IPv4 address written as IPv6 counts as what it is.
pub fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_an_address_where_no_peer_can_be() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::7",
            "::169.254.169.254",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "::ffff:255.255.255.255",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::0.0.0.0",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a:b:c:127.0.0.1",
            "2002:a9fe:a9fe::",
            "2002:7f00:1::1",
        ] {
            let ip = bad.parse().unwrap();
            assert!(!is_dialable(ip, false) && !is_dialable(ip, true), "{bad}");
        }
        for good in [
            "10.0.0.1",
            "172.31.255.254",
            "192.168.0.1",
            "8.8.8.8",
            "::ffff:10.0.0.1",
            "2001:db8::1",
            "fd12::1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
        ] {
            let ip = good.parse().unwrap();
            assert!(is_dialable(ip, false) && is_dialable(ip, true), "{good}");
        }
    }

    #[test]
    fn loopback_is_for_those_who_reach_the_tracker_there() {
        for loopback in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
            let ip = loopback.parse().unwrap();
            assert!(is_dialable(ip, true) && !is_dialable(ip, false), "{loopback}");
        }
    }

    #[test]
    fn one_network_of_ipv6_is_one_origin() {
        for (ip, from) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::"),
            ("2001:db8::ffff:1:2:3", "2001:db8::"),
            ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ] {
            assert_eq!(origin(ip.parse().unwrap()), from.parse::<IpAddr>().unwrap(), "{ip}");
        }
    }
}
