//! The content id.

use std::{fmt, str::FromStr};

/// The BLAKE3 hash of a file's bytes; written as 64 lower-case hex digits, as `b3sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// The id with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Its 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every request for a piece spells it: at once, and not digit by digit.
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentId {
    type Err = BadContentId;

    /// Takes exactly 64 lower-case hex digits, so that one id has one spelling.
    fn from_str(text: &str) -> Result<Self, BadContentId> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(BadContentId);
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(BadContentId),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for ContentId {
    type Error = BadContentId;

    fn try_from(bytes: &[u8]) -> Result<Self, BadContentId> {
        bytes.try_into().map(Self).map_err(|_| BadContentId)
    }
}

/// Not a content id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadContentId;

impl fmt::Display for BadContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content id is 64 lower-case hex digits")
    }
}

impl std::error::Error for BadContentId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = ContentId::of(b"");
        // What `b3sum /dev/null` prints.
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        for bad in [&text[1..], &text.to_uppercase(), &format!("{text}0"), &format!("+{}", &text[1..]), ""] {
            assert_eq!(bad.parse::<ContentId>(), Err(BadContentId), "{bad}");
        }
    }
}
