//! Which part of a file a request asks for, and whether it asks for any: `Range`, `If-Range`,
//! `If-Match` and `If-None-Match` (RFC 9110 sections 13 and 14). Pure.

use std::ops::Range;

/// The conditions and the range of a GET or HEAD, as their headers came.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Asked<'a> {
    pub(super) range: Option<&'a str>,
    pub(super) if_range: Option<&'a str>,
    pub(super) if_match: Option<&'a str>,
    pub(super) if_none_match: Option<&'a str>,
}

/// What to answer with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// 200 with everything.
    Whole,
    /// 206 with these bytes; never empty.
    Range(Range<u64>),
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client wants.
    PreconditionFailed,
    /// 416: nothing of it is there.
    Unsatisfiable,
}

/// Decides for a representation of `size` bytes with the strong ETag `etag`, quotes included, in
/// the order of RFC 9110 section 13.2.2. Ranges count for GET only, and several ranges, other
/// units and what cannot be parsed are ignored, as section 14.2 allows.
pub(super) fn decide(asked: &Asked, is_get: bool, etag: &str, size: u64) -> Part {
    if asked.if_match.is_some_and(|list| !names(list, etag, false)) {
        return Part::PreconditionFailed;
    }
    if asked.if_none_match.is_some_and(|list| names(list, etag, true)) {
        return Part::NotModified;
    }
    // A date never fits: no Last-Modified is sent.
    let is_current = asked.if_range.is_none_or(|tag| tag == etag);
    match asked.range {
        Some(range) if is_get && is_current => parse(range, size),
        _ => Part::Whole,
    }
}

/// Whether a list of entity tags, or `*`, names `etag`; weak tags count where `weakly` says so.
fn names(list: &str, etag: &str, weakly: bool) -> bool {
    let mut tags = list.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag == etag || (weakly && tag.strip_prefix("W/") == Some(etag)))
}

fn parse(range: &str, size: u64) -> Part {
    let Some((unit, spec)) = range.split_once('=') else { return Part::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let (first, last) = match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => (first, last.unwrap_or(u64::MAX)),
        (Some(None), Some(Some(0))) => return Part::Unsatisfiable,
        // Nothing can be cut from an empty file, but all of its last bytes are here.
        (Some(None), Some(Some(_))) if size == 0 => return Part::Whole,
        (Some(None), Some(Some(suffix))) => (size.saturating_sub(suffix), u64::MAX),
        _ => return Part::Whole,
    };
    if last < first {
        return Part::Whole;
    }
    if first >= size {
        return Part::Unsatisfiable;
    }
    Part::Range(first..last.saturating_add(1).min(size))
}

/// A decimal number, the largest there is where it is larger; `Some(None)` for nothing.
fn number(text: &str) -> Option<Option<u64>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_what_is_there() {
        use Part::{Range, Unsatisfiable, Whole};
        for (range, size, part) in [
            ("bytes=0-0", 10, Range(0..1)),
            ("bytes=0-", 10, Range(0..10)),
            ("bytes=0-9", 10, Range(0..10)),
            ("bytes=0-10", 10, Range(0..10)),
            ("bytes=9-", 10, Range(9..10)),
            ("bytes=3-5", 10, Range(3..6)),
            ("Bytes=3-5", 10, Range(3..6)),
            ("bytes= 3-5 ", 10, Range(3..6)),
            ("bytes=-1", 10, Range(9..10)),
            ("bytes=-10", 10, Range(0..10)),
            ("bytes=-99", 10, Range(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=0-99999999999999999999999", 10, Range(0..10)),
            ("bytes=18446744073709551615-18446744073709551615", 10, Unsatisfiable),
            ("bytes=5-3", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=0-1, bytes=3-4", 10, Whole),
            ("lines=0-1", 10, Whole),
        ] {
            let asked = Asked { range: Some(range), ..Asked::default() };
            assert_eq!(decide(&asked, true, "\"e\"", size), part, "{range} of {size}");
            assert_eq!(decide(&asked, false, "\"e\"", size), Whole, "HEAD has no ranges");
        }
    }

    #[test]
    fn conditions_come_before_ranges_and_compare_as_they_should() {
        let range = Part::Range(0..2);
        for (if_match, if_none_match, if_range, part) in [
            (None, None, None, range.clone()),
            (Some("\"e\""), None, None, range.clone()),
            (Some("\"x\", \"e\""), None, None, range.clone()),
            (Some("*"), None, None, range.clone()),
            (Some("\"x\""), None, None, Part::PreconditionFailed),
            (Some("W/\"e\""), None, None, Part::PreconditionFailed),
            (Some("\"x\""), Some("\"e\""), None, Part::PreconditionFailed),
            (None, Some("\"e\""), None, Part::NotModified),
            (None, Some("W/\"e\""), None, Part::NotModified),
            (None, Some("*"), None, Part::NotModified),
            (None, Some("\"x\" , \"e\""), None, Part::NotModified),
            (None, Some("\"x\""), None, range.clone()),
            (None, Some("e"), None, range.clone()),
            (None, None, Some("\"e\""), range.clone()),
            (None, None, Some("\"x\""), Part::Whole),
            (None, None, Some("W/\"e\""), Part::Whole),
            (None, None, Some("Wed, 21 Oct 2015 07:28:00 GMT"), Part::Whole),
        ] {
            let asked = Asked { range: Some("bytes=0-1"), if_range, if_match, if_none_match };
            assert_eq!(decide(&asked, true, "\"e\"", 10), part, "{asked:?}");
        }
    }
}
