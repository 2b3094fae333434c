//! Fuzz targets of the HTTP side: requests, and ranges against a strict reading of RFC 9110.

pub(crate) use super::door::oracle::check as requests;
use super::range::{Asked, Part, decide};

const ETAG: &str = "\"e\"";
/// All larger numbers are taken for this one; no file is so large.
const LARGEST: u128 = u64::MAX as u128;

/// Takes lines as a size, and the values of `Range`, `If-Range`, `If-Match` and `If-None-Match`; an empty one is
/// none.
pub(crate) fn ranges(data: &[u8]) {
    // Nothing else passes the door.
    let Some(text) =
        str::from_utf8(data).ok().filter(|text| text.bytes().all(|b| matches!(b, b'\n' | b'\t' | b' '..=b'~')))
    else {
        return;
    };
    let mut lines = text.split('\n');
    let size = lines.next().and_then(|size| size.parse().ok()).unwrap_or(10);
    let mut header = || lines.next().map(|value| value.trim_matches([' ', '\t'])).filter(|value| !value.is_empty());
    let (range, if_range, if_match, if_none_match) = (header(), header(), header(), header());
    let asked = Asked { range, if_range, if_match, if_none_match };
    for is_get in [true, false] {
        let part = decide(&asked, is_get, ETAG, size);
        let cut = range
            .filter(|_| is_get && if_range.is_none_or(|tag| tag == ETAG))
            .map_or(Part::Whole, |range| cut(range, size));
        // What is no list may be taken for one, but only where it holds the tag.
        let fails = if_match.map(|list| !names(list, false).unwrap_or(part != Part::PreconditionFailed));
        let is_known = if_none_match.map(|list| names(list, true).unwrap_or(part == Part::NotModified));
        let expected = match (fails, is_known) {
            (Some(true), _) => Part::PreconditionFailed,
            (_, Some(true)) => Part::NotModified,
            _ => cut,
        };
        assert_eq!(part, expected, "{asked:?} of {size}");
        for (list, is_taken) in [(if_match, fails == Some(false)), (if_none_match, is_known == Some(true))] {
            assert!(!is_taken || list.is_some_and(|list| list.contains(ETAG) || list.contains('*')), "{asked:?}");
        }
    }
}

/// Whether a list names the tag; none where it is no list as RFC 9110 section 13.1.1 has it.
fn names(list: &str, weakly: bool) -> Option<bool> {
    if list == "*" {
        return Some(true);
    }
    let (mut rest, mut is_named) = (list, false);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(is_named);
        }
        let (is_weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
        let (inside, after) = tag.strip_prefix('"')?.split_once('"')?;
        // A comma in a tag: nobody here has such a tag, but it must not break the list.
        if inside.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b',')) {
            return None;
        }
        is_named |= inside == "e" && (weakly || !is_weak);
        rest = after.trim_start_matches([' ', '\t']);
        if !(rest.is_empty() || rest.starts_with(',')) {
            return None;
        }
    }
}

/// What one range comes to, in arithmetic that has no end; the whole where it is not one.
fn cut(range: &str, size: u64) -> Part {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| {
        let text = text.trim_start_matches('0');
        if text.is_empty() { 0 } else { text.parse().map_or(LARGEST, |number: u128| number.min(LARGEST)) }
    };
    let Some((unit, spec)) = range.split_once('=') else { return Part::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || !(digits(first) || first.is_empty()) {
        return Part::Whole;
    }
    let size = u128::from(size);
    let (first, end) = match (digits(first), digits(last), last.is_empty()) {
        (true, true, _) if number(last) < number(first) => return Part::Whole,
        (true, true, _) => (number(first), size.min(number(last) + 1)),
        (true, _, true) => (number(first), size),
        (false, true, _) if number(last) == 0 => return Part::Unsatisfiable,
        (false, true, _) if size == 0 => return Part::Whole,
        (false, true, _) => (size - size.min(number(last)), size),
        _ => return Part::Whole,
    };
    if first >= size { Part::Unsatisfiable } else { Part::Range(first as u64..end as u64) }
}
