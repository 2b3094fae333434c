//! Names: what is taken for one, by a naive reading of the rules; and that no way into a URL or a header
//! changes one, or lets it out of its place.

use std::path::{Component, Path};

use crate::name::{PeerId, SharePath, Zone};

/// Takes a text as a path, a URL's end, an id and a zone.
pub(super) fn check(data: &[u8]) {
    #[cfg(feature = "peer")]
    urls::check(data);
    let Ok(text) = str::from_utf8(data) else { return };
    let is_label = data.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    let is_short = data.len() <= 64;
    assert_eq!(text.parse::<Zone>().is_ok(), is_label && is_short);
    let is_word = ["get", "put", "search", "status"].contains(&text);
    assert_eq!(text.parse::<PeerId>().is_ok(), is_label && is_short && !data.is_empty() && !is_word);

    let path: Result<SharePath, _> = text.parse();
    assert_eq!(path.is_ok(), is_path(data));
    if let Ok(path) = path {
        assert_eq!(path.as_str(), text);
        let inside = Path::new("/share").join(path.as_str());
        let parts = inside.strip_prefix("/share").expect("it is inside").components();
        let parts = parts.map(|part| if let Component::Normal(part) = part { part.to_str() } else { None });
        assert!(parts.eq(path.parts().map(Some)), "the system sees other parts");
    }
}

/// Whether bytes are a path: the rules, one after the other.
fn is_path(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    // C0, DEL and C1.
    let is_control = |c: char| matches!(u32::from(c), 0..0x20 | 0x7f..0xa0);
    let is_part = |part: &[u8]| !part.is_empty() && part[0] != b'.' && part.len() <= 255;
    bytes.len() <= 1024 && !text.chars().any(is_control) && bytes.split(|byte| *byte == b'/').all(is_part)
}

#[cfg(feature = "peer")]
mod urls {
    use super::*;

    /// Takes ASCII as what follows `/files/` in a target, and any path into a URL and a header and back.
    pub(super) fn check(data: &[u8]) {
        if let Some(encoded) = str::from_utf8(data).ok().filter(|text| text.is_ascii()) {
            let decoded = decode(data);
            let hides_a_slash = decoded.iter().filter(|byte| **byte == b'/').count() > encoded.matches('/').count();
            let path = SharePath::from_url(encoded);
            assert_eq!(path.is_ok(), is_path(&decoded) && !hides_a_slash);
            assert!(path.is_err() || path.is_ok_and(|path| path.as_str().as_bytes() == decoded));
        }
        let Some(path) = str::from_utf8(data).ok().and_then(|text| text.parse::<SharePath>().ok()) else { return };
        let url = path.to_url();
        let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~');
        assert!(url.bytes().all(|byte| is_plain(byte) || matches!(byte, b'/' | b'%')));
        assert_eq!(SharePath::from_url(&url).as_ref(), Ok(&path));
        let header = path.to_header();
        let name = match header.strip_prefix("filename*=UTF-8''") {
            Some(encoded) => {
                assert!(encoded.bytes().all(|byte| is_plain(byte) || byte == b'%'));
                decode(encoded.as_bytes())
            }
            None => {
                let quoted = header.strip_prefix("filename=\"").and_then(|rest| rest.strip_suffix('"'));
                let quoted = quoted.expect("one of two forms");
                assert!(quoted.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\%".contains(&byte)));
                quoted.into()
            }
        };
        assert_eq!(name, path.file_name().as_bytes());
    }

    /// What percent-encoding stands for; a `%` without two hex digits stays as it is.
    fn decode(mut encoded: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        while let [first, rest @ ..] = encoded {
            encoded = rest;
            decoded.push(*first);
            if let (b'%', [high, low, rest @ ..]) = (first, rest)
                && let (Some(high), Some(low)) = (digit(*high), digit(*low))
            {
                decoded.pop();
                decoded.push(high << 4 | low);
                encoded = rest;
            }
        }
        decoded
    }
}
