//! `peer put`: a file of this machine to a peer.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{Visit, codes::Failed};
use crate::{
    content::{ContentId, PieceHasher},
    name::SharePath,
    peer::{
        asks::{Face, Got, How},
        link::TrackerAddress,
        swarm::{Destination, put},
    },
};

impl Visit {
    pub(super) fn put(&mut self, file: &OsStr, url: &str) -> Result<u8, Failed> {
        let (authority, path) =
            self.destination(file, url).map_err(|error| Failed::usage(format!("{url}: {error}")))?;
        let shown = file.display();
        let failed = |error: io::Error| {
            Failed::usage(format!("{shown}: cannot read it ({error}): name a file that can be read"))
        };
        let (input, size): (Box<dyn Read>, _) = match file.as_encoded_bytes() {
            b"-" => (Box::new(io::stdin()), None),
            _ => {
                let input = File::open(file).map_err(failed)?;
                let meta = input.metadata().map_err(failed)?;
                if !meta.is_file() {
                    return Err(Failed::usage(format!("{shown} is no file: send files one by one")));
                }
                (Box::new(input), Some(meta.len()))
            }
        };
        let mut body = Hashed { input, size, hasher: PieceHasher::default(), error: None };
        let to =
            Destination { authority: &authority, path: &path, secret: self.secret.as_ref(), tls: self.tls.clone() };
        let sent = put(&to, &mut body, size);
        if let Some(error) = body.error {
            return Err(failed(error));
        }
        let taken = sent.map_err(|error| Failed::put(&authority, &error))?;
        // What was there before may have been compared by the peer without a byte sent: it says which content it has.
        let (own, _) = body.hasher.finish();
        let is_sent = size.is_none_or(|size| size == taken.size);
        if own != taken.content || !is_sent {
            return Err(Failed::peers(format_args!("{authority} has something else as {path} than was sent")));
        }
        self.told(taken.content, taken.size, path, taken.was_there);
        Ok(self.code())
    }

    fn told(&mut self, content: ContentId, size: u64, path: SharePath, was_there: bool) {
        let how = if was_there { How::Here } else { How::Together };
        self.teller.got(&[Got { content, size, path, how }]);
    }

    /// Where an URL leads: the peer, and the path there, which is the file's own name where it names a folder.
    fn destination(&self, file: &OsStr, url: &str) -> Result<(String, SharePath), String> {
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        let Some(rest) = url.strip_prefix(scheme) else {
            return Err(match self.tls.is_some() {
                false if url.starts_with("https://") => {
                    "https takes --tls-cert, --tls-key and --tls-ca: give them, or write http://".into()
                }
                true if url.starts_with("http://") => "with the TLS flags it has to be https://".into(),
                _ => format!("write {scheme}HOST:PORT, and maybe a path"),
            });
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        authority.parse::<TrackerAddress>().map_err(|_| format!("write {scheme}HOST:PORT, and maybe a path"))?;
        let path = match path.is_empty() || path.ends_with('/') {
            true => {
                let name = Path::new(file).file_name().filter(|_| file != "-").and_then(OsStr::to_str);
                let name = name.ok_or("say under which name: the URL ends with a folder, and the file has none")?;
                let folder = if path.is_empty() { None } else { Some(SharePath::from_url(path.trim_end_matches('/'))) };
                match folder.transpose().map_err(|error| error.to_string())? {
                    Some(folder) => format!("{folder}/{name}").parse(),
                    None => name.parse(),
                }
            }
            false => SharePath::from_url(path),
        };
        Ok((authority.to_owned(), path.map_err(|error| error.to_string())?))
    }
}

/// What is sent, hashed on its way.
struct Hashed {
    input: Box<dyn Read>,
    /// Bytes that were announced.
    size: Option<u64>,
    hasher: PieceHasher,
    /// Why reading it has ended early.
    error: Option<io::Error>,
}

impl Read for Hashed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.size.map_or(u64::MAX, |size| size - self.hasher.size());
        let room = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match self.input.read(&mut bytes[..room]) {
            Ok(0) if room > 0 && self.size.is_some() => Err(io::Error::other("it became shorter while it was sent")),
            read => read,
        };
        match read {
            Ok(read) => {
                self.hasher.update(&bytes[..read]);
                Ok(read)
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.error = Some(error);
                Err(told)
            }
        }
    }
}
