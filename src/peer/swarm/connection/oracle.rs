//! The fuzz target of what a source tells of itself: it is taken as a strict reading of its answer has it, or not
//! at all, and then the plan asks it for exactly what it told.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use super::*;
use crate::peer::swarm::{
    border::Whence,
    plan::{Ask, Plan},
};

/// Pieces of the content that is asked for.
const COUNT: usize = 100;
/// What is asked for with news beside it.
const RANGE: Range<u64> = 5..15;
const SIZE: u64 = 20;

/// Takes bytes as an answer: an even first one for [`Connection::have`], an odd one for [`Connection::content`].
pub(crate) fn check(data: &[u8]) {
    let Some((first, answer)) = data.split_first() else { return };
    // So much a socket takes at once, and no head is so long.
    if answer.len() > 15 << 10 {
        return;
    }
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.write_all(answer).expect("it fits");
    theirs.shutdown(Shutdown::Write).expect("it was open");
    // Where the connection is to be opened again, nobody is there.
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut connection = Connection::new(source, limits::SOURCE_STALL_TIME, None, None, None);
    (connection.stream, connection.is_ready) = (Some(TcpStream::from(OwnedFd::from(ours)).into()), true);

    let is_have = first % 2 == 0;
    let id = ContentId::of(b"");
    let news = if is_have {
        connection.have(&id, 0, When::News).map(Some)
    } else {
        let mut block = [0; (RANGE.end - RANGE.start) as usize];
        let answer = connection.content(&id, &RANGE, SIZE, 0);
        answer.and_then(|(mut body, news)| body.fill(&mut block).map(|()| news))
    };
    // What was read of a kept connection ends where the next answer would begin.
    assert!(!connection.is_ready || connection.buffer.is_empty());
    if let Some(model) = model(answer, is_have) {
        assert_eq!(news.as_ref().ok(), model.as_ref(), "{news:?}");
    }
    if let Ok(Some(news)) = news {
        plan(&news);
    }
}

/// Whoever has told this is asked for all of that, each piece once, and for nothing else.
fn plan(news: &News) {
    let now = Duration::from_secs(1);
    let mut plan = Plan::new(COUNT, limits::PIECE_BYTES, 1, 7);
    let source = plan.add_partial(Whence::default(), now);
    let told: BTreeSet<usize> = match news {
        News::Whole => {
            plan.is_whole(source, now);
            (0..COUNT).collect()
        }
        News::Gained(pieces, count) => {
            plan.news(source, pieces, *count, now);
            assert_eq!(plan.heard(source), *count);
            pieces.iter().copied().filter(|piece| *piece < COUNT).collect()
        }
    };
    let mut asked = BTreeSet::new();
    loop {
        let ask = plan.next(source, now);
        let Ask::Pieces(pieces) = &ask else {
            assert!(matches!(ask, Ask::News | Ask::Over), "{ask:?}");
            return assert_eq!(asked, told);
        };
        assert!(pieces.clone().all(|piece| told.contains(&piece) && asked.insert(piece) && plan.gained(piece)));
        plan.answered(source, &ask, 1000, now, now);
    }
}

/// What an answer tells: none where it breaks the grammar in a way that readers may or may not forgive.
fn model(mut answer: &[u8], is_have: bool) -> Option<Option<Option<News>>> {
    let (status, fields) = loop {
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            // An end amid a head: nothing was told, if no lone line feeds end it.
            let feeds = answer.iter().filter(|byte| **byte == b'\n').count();
            let pairs = answer.windows(2).filter(|two| *two == b"\r\n").count();
            return (feeds == pairs).then_some(None);
        };
        let head = str::from_utf8(&answer[..end]).ok().filter(|head| head.is_ascii())?;
        answer = &answer[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next()?;
        let (version, rest) = line.split_at_checked(9)?;
        let (status, reason) = rest.split_at_checked(3)?;
        let is_line = version == "HTTP/1.1 "
            && reason.starts_with(' ')
            && reason.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let status: u16 =
            Some(status).filter(|status| is_line && status.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !is_name || !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return None;
            }
            fields.push((name.to_ascii_lowercase(), value.trim_matches(' ')));
        }
        match status {
            // Of a length here, readers make this or that.
            100..200 if fields.iter().any(|(name, _)| ["content-length", "transfer-encoding"].contains(&&name[..])) => {
                return None;
            }
            100..200 if fields.len() < limits::HEAD_LINES => {}
            200..600 if fields.len() < limits::HEAD_LINES => break (status, fields),
            _ => return None,
        }
    };
    let values = |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| field.1).collect::<Vec<_>>();
    // Several of one name contradict each other, or are for the code to choose among.
    let names: BTreeSet<_> = fields.iter().map(|field| &field.0).collect();
    if names.len() < fields.len() || fields.iter().any(|(_, value)| value.contains('+')) {
        return None;
    }
    let field = |name: &str| values(name).first().copied();
    let length = match (field("content-length"), field("transfer-encoding")) {
        (Some(length), None) => length.parse::<usize>().ok(),
        _ => None,
    };
    let Some(body) = length.and_then(|length| answer.get(..length)) else { return Some(None) };
    let count = field("enjambre-have").and_then(|have| have.split_once('/')).map(|(count, _)| count.parse().ok());
    if is_have {
        let numbers = || body.chunks(2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1])).collect();
        let is_sound = status == 200 && body.len() <= 2 * limits::PIECES && body.len() % 2 == 0;
        let news = match (field("enjambre-have"), count.flatten()) {
            (Some("all"), _) if body.is_empty() => Some(News::Whole),
            (Some(_), Some(count)) => is_sound.then(|| News::Gained(numbers(), count)),
            _ => None,
        };
        return Some(news.filter(|_| is_sound).map(Some));
    }
    if status != 206 || body.len() != 10 || field("content-range") != Some("bytes 5-14/20") {
        return Some(None);
    }
    let news = field("enjambre-news").unwrap_or_default();
    let numbers: Option<Vec<usize>> =
        news.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok()).collect();
    Some(Some(match (field("enjambre-have"), count.flatten(), numbers) {
        (Some("all"), ..) => Some(News::Whole),
        (Some(_), Some(count), Some(numbers)) => Some(News::Gained(numbers, count)),
        _ => None,
    }))
}
