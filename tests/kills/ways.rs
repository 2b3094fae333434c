//! The ways on which files come into a share.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{Chance, support::*};

/// How files come into a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// None do: the peer starts.
    Start,
    /// One at a time, by `PUT`.
    Put,
    /// Up to three in a form.
    Form,
    /// By a `get` of a pattern, many small ones together.
    Pattern,
    /// Somebody puts them there, who is not the peer.
    Outside,
    /// By a `get`, in pieces.
    Get,
}

/// A file that was to get a name: its path, what it holds, and whether it is there for certain.
pub(crate) type Tried = (String, Vec<u8>, bool);

/// Files that are given to a peer from without, until it is dead.
pub(crate) struct Feed {
    pub(crate) to: SocketAddr,
    pub(crate) share: PathBuf,
    /// The number of the first; a thousand are free.
    pub(crate) first: u64,
    /// Bytes in the largest.
    pub(crate) most: u64,
    pub(crate) chance: Chance,
}

impl Feed {
    /// Gives one after the other on a way, until it is over or nobody answers. Nothing, where the peer fetches by itself.
    pub(crate) fn go(mut self, way: Way, is_over: &AtomicBool) -> Vec<Tried> {
        let mut tried = Vec::new();
        for number in (self.first..self.first + 1000).step_by(3) {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let answered = match way {
                Way::Put => self.put(number, &mut tried),
                Way::Form => self.form(number, &mut tried),
                Way::Outside => self.place(number, &mut tried),
                Way::Start | Way::Pattern | Way::Get => break,
            };
            if !answered {
                break;
            }
        }
        tried
    }

    fn bytes(&mut self, number: u64) -> Vec<u8> {
        noise(number * 7919 + self.first, self.chance.below(self.most) as usize)
    }

    fn put(&mut self, number: u64, tried: &mut Vec<Tried>) -> bool {
        let bytes = self.bytes(number);
        let path =
            if number.is_multiple_of(2) { format!("v/{}/u{number}", number % 7) } else { format!("v/u{number}") };
        let answer = try_request(self.to, "PUT", &format!("/files/{path}"), &[], &bytes);
        let is_there = is_acknowledged(&answer);
        tried.push((path, bytes, is_there));
        is_there
    }

    fn form(&mut self, number: u64, tried: &mut Vec<Tried>) -> bool {
        let files: Vec<_> =
            (number..number + 1 + self.chance.below(3)).map(|n| (format!("vf{n}"), self.bytes(n))).collect();
        let mut body = Vec::new();
        for (name, bytes) in &files {
            let head = format!("--BOUND\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
            body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
        }
        body.extend(b"--BOUND--\r\n");
        let lines = [("Content-Type", "multipart/form-data; boundary=BOUND")];
        let is_there = is_acknowledged(&try_request(self.to, "POST", "/upload", &lines, &body));
        tried.extend(files.into_iter().map(|(name, bytes)| (name, bytes, is_there)));
        is_there
    }

    /// Writes a file where it is to be, or moves it there.
    fn place(&mut self, number: u64, tried: &mut Vec<Tried>) -> bool {
        let bytes = self.bytes(number);
        let path = format!("v/{}/o{number}", number % 7);
        let target = self.share.join(&path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if number.is_multiple_of(2) {
            let (half, rest) = bytes.split_at(bytes.len() / 2);
            let mut file = File::create(target).unwrap();
            file.write_all(half).unwrap();
            file.write_all(rest).unwrap();
        } else {
            let folder = Folder::new();
            fs::rename(folder.write("new", &bytes), target).unwrap();
        }
        let target = format!("/files/{path}");
        tried.push((path, bytes, true));
        loop {
            match try_request(self.to, "GET", &target, &[], b"") {
                Ok(answer) if answer.status == 200 => return true,
                // Not hashed yet, or not even found.
                Ok(_) => thread::sleep(Duration::from_millis(5)),
                Err(_) => return false,
            }
        }
    }
}

fn is_acknowledged(answer: &std::io::Result<Response>) -> bool {
    answer.as_ref().is_ok_and(|answer| {
        assert_eq!(answer.status, 201, "{}", answer.text());
        true
    })
}
