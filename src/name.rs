//! Names from outside: the only parser of them, and the encoders that put them into a URL, a page
//! or a header.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::limits::{LABEL_BYTES, PATH_BYTES, PATH_PART_BYTES};

/// The name of a file in a share: relative, `/`-separated, UTF-8, never hidden, never climbing.
///
/// Ordered by its bytes. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharePath(Arc<str>);

impl SharePath {
    /// The text, with `/` between parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts, outermost first; there is at least one.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.parts().next_back().unwrap_or_default()
    }

    /// Parses what follows `/files/` in a request target: percent-encoded (RFC 3986 section 2.1).
    ///
    /// # Errors
    /// When the decoded bytes are no name. `%2F` is refused, since it could hide a part.
    #[cfg(feature = "peer")]
    pub fn from_url(encoded: &str) -> Result<Self, BadName> {
        if encoded.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f")) {
            return Err(BadName("a file name cannot hold an encoded slash"));
        }
        percent_encoding::percent_decode_str(encoded)
            .decode_utf8()
            .map_err(|_| BadName("a file name is UTF-8"))?
            .parse()
    }

    /// The path as it stands in a URL after `/files/`.
    #[cfg(feature = "peer")]
    pub fn to_url(&self) -> String {
        use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
        /// Everything but the unreserved characters of RFC 3986 section 2.3, and `/`.
        const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
        utf8_percent_encode(&self.0, ENCODED).to_string()
    }

    /// The file name as parameters of `Content-Disposition` (RFC 6266 section 4.3): plain where it
    /// can be, and encoded (RFC 8187) where it cannot.
    #[cfg(feature = "peer")]
    pub fn to_header(&self) -> String {
        let name = self.file_name();
        if name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'%')) {
            format!("filename=\"{name}\"")
        } else {
            let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
            format!("filename*=UTF-8''{encoded}")
        }
    }
}

impl FromStr for SharePath {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName("a file name cannot be empty"));
        }
        if text.len() > PATH_BYTES {
            return Err(BadName("a path is at most 1024 bytes long"));
        }
        if text.chars().any(char::is_control) {
            return Err(BadName("a file name cannot hold control characters"));
        }
        for part in text.split('/') {
            if part.is_empty() {
                return Err(BadName("a path has no empty parts: no slash at its start or end, no two in a row"));
            }
            if part.starts_with('.') {
                return Err(BadName("names that begin with a dot are not shared"));
            }
            if part.len() > PATH_PART_BYTES {
                return Err(BadName("a file name is at most 255 bytes long"));
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SharePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SharePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A peer's id: `[A-Za-z0-9._-]{1,64}`, and none of the words kept for commands.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A map by peer id is asked with text that need not be made one for it.
impl Borrow<str> for PeerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.is_empty() || !is_label(text) {
            return Err(BadName("a peer id is 1 to 64 letters, digits, dots, dashes or underscores"));
        }
        if matches!(text, "get" | "put" | "search" | "status") {
            return Err(BadName("get, put, search and status are kept for commands and cannot be peer ids"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A zone's label: `[A-Za-z0-9._-]{0,64}`; empty where there are no zones.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Zone(String);

impl Zone {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName("a zone is up to 64 letters, digits, dots, dashes or underscores"))
        }
    }
}

fn is_label(text: &str) -> bool {
    text.len() <= LABEL_BYTES && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A value in the query of a target (WHATWG URL, `application/x-www-form-urlencoded`); none where it is not UTF-8.
#[cfg(feature = "peer")]
pub fn from_query(encoded: &str) -> Option<String> {
    let encoded = encoded.replace('+', " ");
    percent_encoding::percent_decode_str(&encoded).decode_utf8().ok().map(Into::into)
}

/// Text with what XML takes for markup escaped, good in element content and in quoted attributes.
pub fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML 1.0 has no way to write these two.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Why a name is refused; a sentence for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName(&'static str);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_and_hidden_paths_are_refused() {
        let long_part = "x".repeat(256);
        let long_path = "x/".repeat(512) + "x";
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            ".hidden",
            "a/.git/config",
            "a\0b",
            "a\nb",
            "a\rb",
            "tab\there",
            "a\u{7f}",
            "a\u{85}",
            &long_part,
            &long_path,
        ] {
            assert!(bad.parse::<SharePath>().is_err(), "{bad:?}");
        }
        for good in ["a", "a b", "logs/2026/a.txt", "100%", "#1", "\"q\" 'q'", "é e\u{301} 🐝", "a..b", "a\\b", "…"]
        {
            assert_eq!(good.parse::<SharePath>().map(|path| path.to_string()), Ok(good.to_owned()));
        }
    }

    #[cfg(feature = "peer")]
    #[test]
    fn a_path_survives_its_url_and_nothing_climbs_out_of_one() {
        for text in ["a", "a b/c", "100%", "#1?x=1&y", "\"q\" 'q'", "é e\u{301} 🐝", "a\\b", "%2f", "+"] {
            let path: SharePath = text.parse().unwrap();
            let url = path.to_url();
            assert!(url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'?'), "{url}");
            assert_eq!(SharePath::from_url(&url), Ok(path));
        }
        for bad in ["%2e%2e/a", "..%2fa", "a%2Fb", "%00", "%0d%0a", "%ff", "%c0%ae", "a%", "", "/a", "%2e"] {
            // A lone `%` stays as it is, and so names a file; everything else here names none.
            assert_eq!(SharePath::from_url(bad).is_ok(), bad == "a%", "{bad}");
        }
    }

    #[cfg(feature = "peer")]
    #[test]
    fn a_header_holds_no_quote_and_no_control_character() {
        for (name, header) in [
            ("d/notes.txt", "filename=\"notes.txt\""),
            ("a b", "filename=\"a b\""),
            ("a\"b", "filename*=UTF-8''a%22b"),
            ("é", "filename*=UTF-8''%C3%A9"),
        ] {
            assert_eq!(name.parse::<SharePath>().unwrap().to_header(), header);
        }
    }

    #[test]
    fn ids_and_zones() {
        for bad in ["", "a b", "a/b", "é", "get", "put", "search", "status", &"x".repeat(65)] {
            assert!(bad.parse::<PeerId>().is_err(), "{bad}");
        }
        for good in ["peer_1", "a.b-c", "GET", &"x".repeat(64)] {
            assert!(good.parse::<PeerId>().is_ok(), "{good}");
        }
        assert!("".parse::<Zone>().is_ok() && "us-east-1a".parse::<Zone>().is_ok());
        assert!("a b".parse::<Zone>().is_err());
    }

    #[cfg(feature = "peer")]
    #[test]
    fn a_value_of_a_query_is_what_was_typed() {
        for (encoded, value) in
            [("", Some("")), ("a+b%20c%2B", Some("a b c+")), ("%C3%A9*%3F", Some("é*?")), ("%ff", None)]
        {
            assert_eq!(from_query(encoded).as_deref(), value, "{encoded}");
        }
    }

    #[test]
    fn xml_has_no_way_out() {
        let escaped = "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}";
        assert_eq!(escape_xml("<a href=\"x\" id='y'>&\u{ffff}"), escaped);
    }
}
