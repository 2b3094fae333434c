//! A way to an address, over TCP, that can be made bad where the network itself cannot.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes that go on at once.
const BLOCK: usize = 1024;
/// Blocks that are on their way in one direction of a connection.
const BLOCKS: usize = 1024;
/// How often those who wait look whether they may go on.
const LOOK: Duration = Duration::from_millis(5);

/// Passes connections on, until the test's process ends.
pub struct Proxy {
    /// Where to connect to.
    pub address: SocketAddr,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    /// Microseconds that every byte takes.
    delay: AtomicU64,
    /// Bytes of answers that may still go.
    allowance: AtomicUsize,
    is_held: AtomicBool,
    ends: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A good way to `far`, from a free port of 127.0.0.1.
    #[track_caller]
    pub fn start(far: SocketAddr) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), far)
    }

    /// As [`Proxy::start`], from an address of the caller's choice.
    #[track_caller]
    pub fn start_at(near: SocketAddr, far: SocketAddr) -> Self {
        let listener = TcpListener::bind(near).expect("a free address");
        let address = listener.local_addr().expect("it is bound");
        let way = Arc::new(Way { allowance: AtomicUsize::new(usize::MAX / 2), ..Way::default() });
        let passed = Arc::clone(&way);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                passed.pass(near, far);
            }
        });
        Self { address, way }
    }

    /// From now on every byte takes so long.
    pub fn delay(&self, time: Duration) {
        self.way.delay.store(time.as_micros() as u64, Ordering::SeqCst);
    }

    /// From now on so many bytes of answers go, and no more. Where the far end closes a connection meanwhile, it ends.
    pub fn allow(&self, bytes: usize) {
        self.way.allowance.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes of answers may still go.
    pub fn allowance(&self) -> usize {
        self.way.allowance.load(Ordering::SeqCst)
    }

    /// From now on nothing goes either way, and nobody is told; or all goes again, and nothing was lost. New
    /// connections are taken and hang.
    pub fn hold(&self, is_held: bool) {
        self.way.is_held.store(is_held, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for end in self.way.ends.lock().expect("nobody panics with it").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Way {
    fn pass(self: &Arc<Self>, near: TcpStream, far: SocketAddr) {
        let Ok(far) = TcpStream::connect(far) else { return };
        for (from, to, is_answer) in [(&near, &far, false), (&far, &near, true)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let _ = to.set_nodelay(true);
            self.carry(from, to, is_answer);
        }
        self.ends.lock().expect("nobody panics with it").extend([near, far]);
    }

    fn carry(self: &Arc<Self>, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(BLOCKS);
        let is_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_ended);
        let way = Arc::clone(self);
        thread::spawn(move || {
            let mut block = [0; BLOCK];
            while let Ok(read @ 1..) = from.read(&mut block) {
                let due = Instant::now() + Duration::from_micros(way.delay.load(Ordering::SeqCst));
                if sender.send((due, block[..read].to_vec())).is_err() {
                    break;
                }
            }
            ended.store(true, Ordering::SeqCst);
        });
        let way = Arc::clone(self);
        thread::spawn(move || {
            for (due, bytes) in receiver {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if !way.lets(bytes.len(), is_answer, &is_ended) || to.write_all(&bytes).is_err() {
                    break;
                }
            }
            while way.is_held.load(Ordering::SeqCst) {
                thread::sleep(LOOK);
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    /// Waits until so many bytes may go; false when they will not.
    fn lets(&self, bytes: usize, is_answer: bool, is_ended: &AtomicBool) -> bool {
        loop {
            if !self.is_held.load(Ordering::SeqCst) {
                let less = |left: usize| left.checked_sub(bytes);
                if !is_answer || self.allowance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                    return true;
                }
                if is_ended.load(Ordering::SeqCst) {
                    return false;
                }
            }
            thread::sleep(LOOK);
        }
    }
}
