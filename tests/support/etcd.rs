//! An etcd of the test's own: the real server, on free ports, with its data in a folder that goes away.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use super::{Folder, PATIENCE, Signal, free_address, request, wait_for};
use rustix::process::{Pid, kill_process};

/// A single member. It is killed when this is dropped.
pub struct Etcd {
    /// Where trackers find it.
    pub address: SocketAddr,
    peer_address: SocketAddr,
    folder: Folder,
    child: Child,
}

impl Etcd {
    /// Starts one, and waits until it answers; none where etcd is not installed, which is said in a line.
    #[track_caller]
    pub fn start() -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("skipped: etcd is not installed (Debian: etcd-server)");
            return None;
        }
        let (address, peer_address, folder) = (free_address(), free_address(), Folder::new());
        let child = spawn(&folder, address, peer_address);
        let etcd = Self { address, peer_address, folder, child };
        etcd.answers();
        Some(etcd)
    }

    /// What `--store` takes.
    pub fn store(&self) -> String {
        format!("etcd://{}", self.address)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`Etcd::kill`], with its data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, self.address, self.peer_address);
        self.answers();
    }

    /// Sends it a signal: STOP and CONT make it hang for a while.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    #[track_caller]
    fn answers(&self) {
        wait_for(PATIENCE, "etcd answers", || TcpStream::connect(self.address).is_ok());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Folder, address: SocketAddr, peer_address: SocketAddr) -> Child {
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.join("data")).args(["--logger", "zap", "--log-outputs", "/dev/null"]);
    for flag in ["--listen-client-urls", "--advertise-client-urls"] {
        command.args([flag, &format!("http://{address}")]);
    }
    for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
        command.args([flag, &format!("http://{peer_address}")]);
    }
    command.args(["--initial-cluster", &format!("default=http://{peer_address}")]);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("etcd starts")
}

/// By etcd's own HTTP and JSON, in which keys and values are base64.
impl Etcd {
    /// Puts a key.
    #[track_caller]
    pub fn put(&self, key: &str, value: &[u8]) {
        self.ask("put", &format!(r#"{{"key":"{}","value":"{}"}}"#, base64(key.as_bytes()), base64(value)));
    }

    /// Which revision etcd is at, and how often a key was put since it was there; none if it is not.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<(u64, u64)> {
        let answer = self.ask("range", &format!(r#"{{"key":"{}"}}"#, base64(key.as_bytes())));
        let number = |name: &str| {
            let (_, rest) = answer.split_once(&format!("\"{name}\":\""))?;
            rest.split('"').next()?.parse().ok()
        };
        Some((number("revision")?, number("version")?))
    }

    /// Has it forget all but the latest.
    #[track_caller]
    pub fn compact(&self) {
        self.put("compact", b"");
        let (revision, _) = self.get("compact").expect("it was put just now");
        self.ask("compaction", &format!(r#"{{"revision":"{revision}"}}"#));
    }

    #[track_caller]
    fn ask(&self, call: &str, body: &str) -> String {
        let json = [("Content-Type", "application/json")];
        let answer = request(self.address, "POST", &format!("/v3/kv/{call}"), &json, body.as_bytes());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "etcd: {text}");
        text
    }
}

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|three| {
        let word = (0..3).fold(0, |word, at| word << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        (0..4).map(move |at| if at <= three.len() { DIGITS[word >> (18 - 6 * at) & 63] } else { b'=' })
    });
    digits.map(char::from).collect()
}
