//! A link with a round trip of its own, between two loopback addresses.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Where a link's near end is.
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const BITS_PER_SECOND: f64 = 100e6;
/// What is carried at once, and how many of these are on their way at most: 2 MiB.
const BLOCK_BYTES: usize = 16 << 10;
const QUEUE: usize = 128;

/// Passes connections to [`NEAR`], on the port of `far`, on to there, as over one link of 100 Mbit/s for all of them.
pub(crate) fn slow_link(far: SocketAddr, round_trip: Duration) {
    let near = (NEAR, far.port());
    let listener = TcpListener::bind(near).expect("the port is free on another loopback address");
    let wire = || Arc::new(Wire { latency: round_trip / 2, free: Mutex::new(Instant::now()) });
    let (there, back) = (wire(), wire());
    // Ends with the process.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(far) else { continue };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { continue };
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            // What the client sends first comes a round trip after it has asked for the connection.
            thread::spawn(move || there.carry(client, server, round_trip));
            thread::spawn(move || back.carry(server_too, client_too, Duration::ZERO));
        }
    });
}

/// One direction of a link.
struct Wire {
    latency: Duration,
    /// When it is free again.
    free: Mutex<Instant>,
}

impl Wire {
    /// Carries what comes from one end to the other, late and not faster than the link is.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, mut more: Duration) {
        let (send, receive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(QUEUE);
        thread::spawn(move || {
            for (at, bytes) in receive {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    return;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut block = [0; BLOCK_BYTES];
        while let Ok(read @ 1..) = from.read(&mut block) {
            let arrival = self.sent(read) + self.latency + std::mem::take(&mut more);
            if send.send((arrival, block[..read].to_vec())).is_err() {
                return;
            }
        }
    }

    /// When so many bytes will have been sent.
    fn sent(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().expect("nobody panics with it");
        *free = free.max(Instant::now()) + Duration::from_secs_f64(bytes as f64 * 8.0 / BITS_PER_SECOND);
        *free
    }
}
