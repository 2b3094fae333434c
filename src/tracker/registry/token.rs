//! What proves that a call is by the holder of an entry. Any tracker that has the key can tell, and looks
//! nothing up for it.

use blake3::Hash;

use super::Identity;
use crate::name::PeerId;

/// What tokens are sealed under. Whoever has it can be any peer.
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes; a new one is made of random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The seal of a claim, in front of zeros: hashes are compared in constant time.
    fn seal(&self, claim: &[u8]) -> Hash {
        let hash = blake3::keyed_hash(&self.0, claim);
        let seal = hash.as_bytes().first_chunk().expect("a hash is longer than a seal");
        zeros_behind(seal)
    }
}

/// Half a hash: nobody tries 2^127 of them.
const SEAL_BYTES: usize = 16;

fn zeros_behind(seal: &[u8; SEAL_BYTES]) -> Hash {
    let mut bytes = [0; 32];
    bytes[..SEAL_BYTES].copy_from_slice(seal);
    Hash::from_bytes(bytes)
}

/// A claim to an entry, which was proved. It says who joined, and which of that id's joins it was.
///
/// On the wire: 16 bytes of seal, 8 of incarnation (high byte first), 8 of the identity's hash, the id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    pub(super) id: &'a str,
    pub(super) incarnation: u64,
    pub(super) mark: [u8; 8],
}

impl<'a> Token<'a> {
    /// The claim of whoever joined with this identity and was given this incarnation.
    pub fn new(id: &'a PeerId, identity: &Identity, incarnation: u64) -> Self {
        Self { id: id.as_str(), incarnation, mark: identity.mark() }
    }

    /// As it goes to its holder, at most [`limits::TOKEN_BYTES`](crate::limits::TOKEN_BYTES) long.
    pub fn sealed(&self, key: &Key) -> Vec<u8> {
        let claim = [&self.incarnation.to_be_bytes(), &self.mark, self.id.as_bytes()].concat();
        [&key.seal(&claim).as_bytes()[..SEAL_BYTES], &claim].concat()
    }

    /// What somebody sent, if it was sealed under this key. Allocates nothing.
    pub fn open(key: &Key, sealed: &'a [u8]) -> Option<Self> {
        let (seal, claim) = sealed.split_first_chunk()?;
        if key.seal(claim) != zeros_behind(seal) {
            return None;
        }
        let (incarnation, rest) = claim.split_first_chunk()?;
        let (mark, id) = rest.split_first_chunk()?;
        Some(Self { id: str::from_utf8(id).ok()?, incarnation: u64::from_be_bytes(*incarnation), mark: *mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn a_token_is_good_under_its_key_and_as_it_was_made() {
        let (key, other) = (Key::new([7; 32]), Key::new([8; 32]));
        for id in ["a", "peer_1", &"x".repeat(limits::LABEL_BYTES)] {
            let id = id.parse().unwrap();
            let token = Token::new(&id, &Identity::of(&[1; 32]), u64::MAX - 1);
            let sealed = token.sealed(&key);
            assert!(sealed.len() <= limits::TOKEN_BYTES);
            assert_eq!(Token::open(&key, &sealed), Some(token));
            assert_eq!(Token::open(&other, &sealed), None);
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Token::open(&key, &changed), None, "bit {bit}");
            }
            for end in 0..sealed.len() {
                assert_eq!(Token::open(&key, &sealed[..end]), None, "{end} bytes");
            }
            assert_eq!(Token::open(&key, &[&sealed[..], b"x"].concat()), None);
        }
    }

    #[test]
    fn what_is_sealed_and_no_token_is_none() {
        let key = Key::new([7; 32]);
        for claim in [&b""[..], &[0; 15], &[0xff; 17]] {
            let sealed = [&key.seal(claim).as_bytes()[..SEAL_BYTES], claim].concat();
            assert_eq!(Token::open(&key, &sealed), None);
        }
    }
}
