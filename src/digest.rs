//! All of a peer's files, in short: by it a tracker and whoever watches find out whether they know the same. `Publisher.known`
//! of the protocol says what it is of. Pure.

use crate::{content::ContentId, name::SharePath};

/// What some files come to; their order does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Takes in one more file.
    pub fn add(&mut self, path: &SharePath, content: &ContentId, size: u64) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(path.as_str().as_bytes()).update(&[0]).update(content.bytes());
        let hash = hasher.update(&size.to_le_bytes()).finalize();
        self.0.iter_mut().zip(hash.as_bytes()).for_each(|(byte, other)| *byte ^= other);
    }
}
