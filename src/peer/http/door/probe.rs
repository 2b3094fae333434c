//! Whether the door still accepts: it asks itself.

use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use crate::tls::is_timeout;

/// Whether a connection that sends nothing is taken up and closed within a time: under TLS as without, and when there is
/// no place for it as well.
pub(super) fn is_accepting(listener: &TcpListener, patience: Duration) -> io::Result<bool> {
    let mut own = listener.local_addr()?;
    match own.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => own.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => own.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let mut stream = TcpStream::connect_timeout(&own, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.shutdown(Shutdown::Write)?;
    // The system itself sends nothing on a connection that nobody has accepted.
    Ok(!stream.read(&mut [0]).is_err_and(|error| is_timeout(&error)))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_does_not_accept_is_found_out_at_any_address() {
        let patience = Duration::from_millis(200);
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(at) else { continue };
            assert!(!is_accepting(&listener, patience).unwrap(), "{at}: nobody has accepted yet");
            let accepting = listener.try_clone().unwrap();
            let door = thread::spawn(move || accepting.incoming().take(2).for_each(drop));
            assert!(is_accepting(&listener, Duration::from_secs(20)).unwrap(), "{at}");
            door.join().unwrap();
        }
    }
}
