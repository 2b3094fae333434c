//! The JSON API under `/api/`: what a person asks of a peer, for its page and for curl.
//!
//! What takes time, because the tracker is asked or a job ends, is left to the connection's own thread: the one that
//! answers for all waits for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    answer::Answer,
    door::Leave,
    routes::{Asking, NOTHING_RUNS, Outcome, Routes, plain},
};
use crate::{
    content::ContentId,
    limits,
    name::from_query,
    peer::{
        asks::{self, AskError, Asks, Begun, Got, How, Wanted, json},
        link::LinkError,
        swarm::{GetError, jobs::Handle, partial::Origins},
    },
};

impl Routes {
    /// Answers for `/api/<path>`.
    pub(super) fn api(&self, asking: &Asking, path: &str, query: &str) -> Outcome {
        let Some(asks) = self.status.asks.get() else {
            return plain(Answer::problem(503, "This peer is starting; try again soon.").with("Retry-After", "1"));
        };
        let asks = asks.clone();
        let is_read = matches!(asking.method, "GET" | "HEAD");
        match (path, path.strip_prefix("downloads/")) {
            ("status", _) if is_read => plain(told(200, &json::status(&asks.status()))),
            ("downloads", _) if is_read => plain(downloads(&asks)),
            ("search", _) if is_read => match parameters(query, ["text", "cursor"]) {
                Ok([text, cursor]) => self.call(move |_| search(&asks, &text, &cursor)),
                Err(answer) => plain(answer),
            },
            ("swarm", _) if is_read => match parameters(query, ["cursor"]) {
                Ok([cursor]) => self.call(move |_| swarm(&asks, &cursor)),
                Err(answer) => plain(answer),
            },
            ("get", _) if asking.method == "POST" => self.get(asking, asks),
            ("status" | "downloads" | "search" | "swarm", _) => self.not_allowed(asking.method, "GET, HEAD"),
            ("get", _) => self.not_allowed(asking.method, "POST"),
            (_, Some(which)) if is_read => plain(download(&asks, which)),
            (_, Some(which)) if asking.method == "DELETE" => {
                let which = which.to_owned();
                self.call(move |_| cancel(&asks, &which))
            }
            (_, Some(_)) => self.not_allowed(asking.method, "GET, HEAD, DELETE"),
            _ => plain(Answer::problem(404, "There is nothing here; docs/reference.md lists what is under /api/.")),
        }
    }

    /// Has the connection's own thread do what takes a while.
    pub(super) fn call(&self, work: impl FnOnce(&mut (dyn Read + Send)) -> Answer + Send + 'static) -> Outcome {
        if Arc::weak_count(&self.calls) >= limits::API_CALLS {
            return plain(Answer::problem(503, "Too much is asked at once; try again soon.").with("Retry-After", "1"));
        }
        let under_way = Arc::downgrade(&self.calls);
        let work = move |body: &mut (dyn Read + Send)| {
            let answer = work(body);
            drop(under_way);
            answer
        };
        (Answer::empty(200), Some(Leave::Work(Box::new(work))))
    }

    fn get(&self, asking: &Asking, asks: Asks) -> Outcome {
        let media_type = asking.header("Content-Type").and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json")) {
            // No form of another site can send this one, be the browser as old as it may.
            return plain(Answer::problem(415, "This takes JSON: send it with `Content-Type: application/json`."));
        }
        self.call(move |body| match wish(body) {
            Ok((what, target)) => get(&asks, &what, target.as_deref()),
            Err(answer) => answer,
        })
    }
}

fn told(status: u16, value: &Value) -> Answer {
    Answer::json(status, value).with("Content-Security-Policy", NOTHING_RUNS).with("Cache-Control", "no-store")
}

/// What a query gives for each of these names; nothing for one that it leaves out.
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[String; N], Answer> {
    let mut values = [const { String::new() }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (names.iter().position(|known| *known == name), from_query(value)) {
            (Some(at), Some(value)) => values[at] = value,
            (Some(_), None) => return Err(Answer::problem(400, &format!("{name} is text in UTF-8."))),
            (None, _) => return Err(Answer::problem(400, &format!("What is taken here is {}.", names.join(", ")))),
        }
    }
    Ok(values)
}

fn search(asks: &Asks, text: &str, cursor: &str) -> Answer {
    let Some(cursor) = from_hex(cursor) else {
        return Answer::problem(400, "cursor is the one of the answer before.");
    };
    match asks.search_from(text, cursor) {
        Ok((found, cursor)) => {
            let found: Vec<_> = found.iter().map(json::found).collect();
            told(200, &json!({ "found": found, "cursor": (!cursor.is_empty()).then(|| to_hex(&cursor)) }))
        }
        Err(error) => refusal(&error),
    }
}

fn swarm(asks: &Asks, cursor: &str) -> Answer {
    match asks.peers(cursor) {
        Ok(roll) => {
            let peers: Vec<_> = roll.peers.iter().map(json::member).collect();
            told(200, &json!({ "peers": peers, "cursor": Some(roll.cursor).filter(|cursor| !cursor.is_empty()) }))
        }
        Err(error) => refusal(&error),
    }
}

/// What a `POST /api/get` asks for, and where it is to go. Only strings are read, so nothing nests.
fn wish(body: &mut dyn Read) -> Result<(String, Option<String>), Answer> {
    let mut bytes = Vec::new();
    match body.take(limits::API_BODY_BYTES + 1).read_to_end(&mut bytes) {
        Ok(read) if read as u64 > limits::API_BODY_BYTES => {
            return Err(Answer::problem(413, "This takes at most 16 KiB."));
        }
        Ok(_) => {}
        Err(_) => return Err(Answer::problem(400, "The body broke off. Send it again.")),
    }
    let wish = serde_json::from_slice::<BTreeMap<String, String>>(&bytes).ok().and_then(|mut members| {
        let (what, target) = (members.remove("what")?, members.remove("to"));
        members.is_empty().then_some((what, target))
    });
    wish.ok_or_else(|| {
        let form = r#"This takes {"what": "PATH, CONTENT ID OR PATTERN"}, and maybe "to": "NEW PATH"."#;
        Answer::problem(400, form)
    })
}

fn get(asks: &Asks, what: &str, target: Option<&str>) -> Answer {
    match begin(asks, what, target) {
        Ok(begun) => begun.answer(asks),
        Err(error) => refusal(&error),
    }
}

/// What came of a get.
#[derive(Default)]
struct Began {
    /// Held until the answer is made, so that even what is over by then is in it.
    jobs: Vec<Handle>,
    here: Vec<Value>,
    refused: Vec<Value>,
}

fn begin(asks: &Asks, what: &str, target: Option<&str>) -> Result<Began, AskError> {
    let target = target.map(asks::target_path).transpose()?;
    let mut began = Began::default();
    match asks.resolve(what, target.is_some())? {
        Wanted::Content(content, path) => {
            let path = target.or(path).ok_or_else(|| asks::nameless(what))?;
            match asks.begin(&content, &path)? {
                Begun::Job(job) => began.jobs.push(job),
                Begun::Here(size) => began.here.push(json::got(&Got { content, size, path, how: How::Here })),
            }
        }
        Wanted::Matches(first) => {
            let went = asks.begin_matches(what, first, |path, begun| match begun {
                Ok((_, Begun::Job(job))) => began.jobs.push(job),
                Ok((content, Begun::Here(size))) => {
                    add(&mut began.here, || json::got(&Got { content, size, path, how: How::Here }));
                }
                Err(error) => add(&mut began.refused, || refused(path.as_str(), &error)),
            });
            match went {
                Err(error) if began.jobs.is_empty() => return Err(error),
                Err(error) => began.refused.push(refused(what, &error)),
                Ok(()) => {}
            }
        }
    }
    Ok(began)
}

/// Takes up a row of an answer, unless it is long enough: a pattern may match a million files.
fn add(rows: &mut Vec<Value>, row: impl FnOnce() -> Value) {
    if rows.len() < limits::LIST_PAGE {
        rows.push(row());
    }
}

fn refused(path: &str, error: &AskError) -> Value {
    json!({ "path": path, "detail": error.to_string() })
}

impl Began {
    fn answer(self, asks: &Asks) -> Answer {
        let numbers: BTreeSet<u64> = self.jobs.iter().map(Handle::number).collect();
        // Those that end in between are in both.
        let mut rows = BTreeMap::new();
        rows.extend(asks.downloads().iter().filter_map(|row| Some((row.number?, json::listed(row)))));
        rows.extend(asks.jobs.ended_lately().iter().map(|row| (row.number, json::ended(row))));
        rows.retain(|number, _| numbers.contains(number));
        let status = if numbers.is_empty() { 200 } else { 202 };
        let rows: Vec<_> = rows.into_values().collect();
        told(status, &json!({ "downloads": rows, "here": self.here, "refused": self.refused }))
    }
}

fn downloads(asks: &Asks) -> Answer {
    let listed: Vec<_> = asks.downloads().iter().map(json::listed).collect();
    let ended: Vec<_> = asks.jobs.ended_lately().iter().map(json::ended).collect();
    told(200, &json!({ "downloads": listed, "ended": ended }))
}

/// One download, with where its pieces came from while it runs.
fn download(asks: &Asks, which: &str) -> Answer {
    let Ok(number) = which.parse::<u64>() else {
        return Answer::problem(400, "A download goes by its number, as /api/downloads tells it.");
    };
    let listed = asks.downloads().into_iter().find(|row| row.number == Some(number));
    if let Some(listed) = listed {
        let mut row = json::listed(&listed);
        if let Some(download) = asks.jobs.getter().downloads.find(&listed.content) {
            let Origins { sources, pieces } = download.origins();
            row["piece"] = download.pieces().length().into();
            row["sources"] = sources.iter().map(|peer| peer.as_str()).collect();
            row["pieces"] = runs(&pieces).into_iter().map(|(count, from)| json!([count, from])).collect();
        }
        return told(200, &row);
    }
    match asks.jobs.ended_lately().iter().find(|row| row.number == number) {
        Some(ended) => told(200, &json::ended(ended)),
        None => Answer::problem(404, "There is no download of that number; /api/downloads lists them."),
    }
}

/// Equal numbers in a row: how many, and which.
fn runs(numbers: &[u16]) -> Vec<(usize, u16)> {
    numbers.chunk_by(PartialEq::eq).map(|run| (run.len(), run[0])).collect()
}

/// Ends a download by its number, or what is left of one by its content id.
fn cancel(asks: &Asks, which: &str) -> Answer {
    let is_gone = match (which.parse::<u64>(), which.parse::<ContentId>()) {
        (_, Ok(content)) => asks.cancel(&content.to_string()),
        (Ok(number), _) if asks.jobs.cancel(number) => Ok(()),
        (Ok(_), _) => Err(AskError::Absent("There is no such download any more; /api/downloads lists them.".into())),
        _ => {
            Err(AskError::Bad("A download goes by its number or its content id, as /api/downloads tells them.".into()))
        }
    };
    match is_gone {
        Ok(()) => Answer::empty(204).with("Cache-Control", "no-store"),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &AskError) -> Answer {
    let answer = |status| Answer::problem(status, &error.to_string());
    match error {
        AskError::Bad(_) => answer(400),
        AskError::Absent(_) => answer(404),
        AskError::Several(_) | AskError::Taken(_) => answer(409),
        AskError::Unhashed(_) => answer(503).with("Retry-After", "5"),
        AskError::Link(LinkError::Refused(_)) => answer(502),
        AskError::Link(_) => answer(503).with("Retry-After", "5"),
        AskError::Get(_, error) if matches!(**error, GetError::TooMany | GetError::Stopped) => {
            answer(503).with("Retry-After", "5")
        }
        AskError::Get(..) => answer(500),
    }
}

/// Bytes in lower-case hex digits.
fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes out of hex digits, no more than a cursor has.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (is_hex && text.len() <= 2 * limits::CURSOR_BYTES).then(|| (0..text.len()).step_by(2).map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_nothing_else_is_one() {
        for bytes in [&b""[..], b"\0\xff", &[0xa5; limits::CURSOR_BYTES]] {
            assert_eq!(from_hex(&to_hex(bytes)).as_deref(), Some(bytes));
        }
        for bad in ["0", "+1", "0g", "é", " 0", &"00".repeat(limits::CURSOR_BYTES + 1)] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wish_is_two_strings_and_nothing_nests() {
        let wish = |body: &str| wish(&mut body.as_bytes()).map_err(|answer| answer.status);
        assert_eq!(wish(r#"{"what":"a*"}"#), Ok(("a*".into(), None)));
        assert_eq!(wish(r#" {"to":"x","what":"é"} "#), Ok(("é".into(), Some("x".into()))));
        let deep = format!("{{\"what\":{}", "[".repeat(10_000));
        for bad in ["", "{}", "[]", r#"{"what":1}"#, r#"{"what":"a","more":"b"}"#, r#"{"what":{"what":"a"}}"#, &deep] {
            assert_eq!(wish(bad), Err(400), "{bad}");
        }
        assert_eq!(wish(&format!("{{\"what\":\"{}\"}}", "a".repeat(16 << 10))), Err(413));
    }

    #[test]
    fn pieces_are_told_in_runs() {
        assert_eq!(runs(&[0, 0, 2, 2, 2, 1, 0]), [(2, 0), (3, 2), (1, 1), (1, 0)]);
        assert_eq!(runs(&[]), []);
    }
}
