//! The routes: the only tiny_http code. It sees requests without bodies, from the door alone.

use std::{
    fs::File,
    io,
    os::unix::net::UnixListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use serde_json::json;
use tiny_http::{Header, Request, Response, Server, StatusCode};

use super::{
    Status,
    answer::Answer,
    door::{About, Desk, EXCHANGE, Leave, Promised},
    page,
    queue::Queue,
    range::{Asked, Part, decide},
    upload,
};
use crate::{
    limits,
    metrics::MEDIA_TYPE,
    name::SharePath,
    peer::{
        link::Link,
        metrics::{Now, Transfer},
        share::{Entry, Lookup, Share, SharedFile},
        swarm::{fresh::Fresh, partial::Downloads},
    },
};

/// The content security policy of what is told as JSON: nothing is fetched, sent or run, and no page of another site
/// shows it in a frame. The last three do not follow from the first.
pub(super) const NOTHING_RUNS: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the routes answer from.
pub(super) struct Routes {
    pub(super) share: Share,
    pub(super) downloads: Downloads,
    pub(super) fresh: Arc<Mutex<Fresh>>,
    pub(super) queue: Arc<Queue>,
    /// What times are told from.
    pub(super) began: Instant,
    pub(super) status: Arc<Status>,
    desk: Arc<Desk>,
    /// One for each question to the tracker, or for a job, under way.
    pub(super) calls: Arc<()>,
}

/// Starts tiny_http on the socket, and a thread that answers.
pub(super) fn start(socket: UnixListener, routes: Arc<Routes>) -> io::Result<()> {
    let server = Server::from_listener(socket, None).map_err(io::Error::other)?;
    let answer = move || {
        while let Ok(request) = server.recv() {
            routes.respond(request);
        }
    };
    thread::Builder::new().name("routes".into()).stack_size(limits::CONNECTION_STACK).spawn(answer).map(drop)
}

/// A request as the routes see it, whichever way it came.
pub(super) struct Asking<'a> {
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) about: About,
}

impl Asking<'_> {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |(field, _): &&(&str, &str)| field.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|(_, value)| *value)
    }

    pub(super) fn is_get(&self) -> bool {
        self.method == "GET"
    }
}

/// What is to be answered, and what the door is to do beside it.
pub(super) type Outcome = (Answer, Option<Leave>);

impl Routes {
    pub(super) fn new(share: Share, downloads: Downloads, status: Status, desk: Arc<Desk>) -> Self {
        let (fresh, queue, began, calls) = (Arc::default(), Arc::default(), Instant::now(), Arc::default());
        Self { share, downloads, fresh, queue, began, status: Arc::new(status), desk, calls }
    }

    /// Answers a request that goes without tiny_http: what peers ask of each other, by content id, for
    /// every piece and its news. The way through tiny_http, three threads long, cost more than the rest.
    pub(super) fn direct(&self, asking: &Asking) -> Option<Outcome> {
        asking.target.starts_with("/content/").then(|| self.answer(asking))
    }

    fn respond(&self, request: Request) {
        let headers = || request.headers().iter().map(|header| (header.field.as_str().as_str(), header.value.as_str()));
        let number = headers().find(|(name, _)| name.eq_ignore_ascii_case(EXCHANGE));
        let number = number.and_then(|(_, number)| number.parse().ok());
        // The door's first request on a connection belongs to no exchange.
        let about = number.and_then(|number| self.desk.about(number));
        let asking = Asking {
            method: request.method().as_str(),
            target: request.url(),
            headers: headers().collect(),
            about: about.unwrap_or(About { connection: 0, length: Some(0), was_parked: false }),
        };
        let (answer, leave) = self.answer(&asking);
        if let Some(leave) = leave {
            self.desk.leave(number.unwrap_or_default(), leave);
        }
        let headers = answer.headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, value.as_str()).ok());
        let response = headers.fold(
            Response::from_data(answer.body)
                .with_status_code(StatusCode(answer.status))
                .with_chunked_threshold(usize::MAX),
            Response::with_header,
        );
        let _ = request.respond(response);
    }

    /// What the routes make of a request; a panic there, which would end a thread, is an answer too.
    fn answer(&self, asking: &Asking) -> Outcome {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.route(asking)));
        outcome.unwrap_or_else(|_| plain(Answer::problem(500, "The request could not be handled.")))
    }

    fn route(&self, asking: &Asking) -> Outcome {
        let (path, query) = asking.target.split_once('?').unwrap_or((asking.target, ""));
        let method = asking.method;
        let is_read = matches!(method, "GET" | "HEAD");
        if let Some(name) = path.strip_prefix("/files/").filter(|name| !(name.is_empty() && is_read)) {
            return match method {
                "GET" | "HEAD" => self.file(asking, name),
                "PUT" => self.put(asking, name),
                _ => self.not_allowed(method, "GET, HEAD, PUT"),
            };
        }
        if let Some(rest) = path.strip_prefix("/content/") {
            return if is_read { self.content(asking, rest, query) } else { self.not_allowed(method, "GET, HEAD") };
        }
        if let Some(rest) = path.strip_prefix("/api/") {
            return self.api(asking, rest, query);
        }
        if path == "/upload" {
            return if method == "POST" { self.upload(asking) } else { self.not_allowed(method, "POST") };
        }
        let answer = match path {
            "/" => page::answer(),
            "/files" | "/files/" => self.files(query),
            "/healthz" => Answer::of(200, "text/plain", "ok\n"),
            "/metrics" => self.metrics(),
            "/readyz" if self.status.asks.get().is_some_and(|asks| asks.link.is_joined()) => {
                Answer::of(200, "text/plain", "joined\n")
            }
            "/readyz" => Answer::problem(503, "This peer serves, but the tracker does not know it yet."),
            _ => {
                let detail = format!("There is nothing here; / shows what there is.{}", self.way_to_send(method));
                return plain(Answer::problem(404, &detail));
            }
        };
        if is_read { plain(answer) } else { self.not_allowed(method, "GET, HEAD") }
    }

    fn metrics(&self) -> Answer {
        let link = self.status.asks.get().map(|asks| &asks.link);
        let now = Now {
            share: self.share.totals(),
            is_joined: link.is_some_and(Link::is_joined),
            lease: link.and_then(Link::lease),
        };
        Answer::of(200, MEDIA_TYPE, self.status.metrics.render(&now)).with("Cache-Control", "no-store")
    }

    /// One page of the share. `next` is there when there may be more, to be asked with `?after=`.
    fn files(&self, query: &str) -> Answer {
        let mut after = None;
        let mut limit = limits::LIST_PAGE;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("after", path)) => match SharePath::from_url(&path.replace("%2F", "/").replace("%2f", "/")) {
                    Ok(path) => after = Some(path),
                    Err(error) => return Answer::problem(400, &format!("after={path}: {error}.")),
                },
                Some(("limit", number)) => match number.parse() {
                    Ok(number @ 1..=limits::LIST_PAGE) => limit = number,
                    _ => return Answer::problem(400, "limit is a number from 1 to 1000."),
                },
                _ => return Answer::problem(400, "The parameters of /files are after=PATH and limit=NUMBER."),
            }
        }
        let files = self.share.list(after.as_ref(), limit);
        let next = files.get(limit - 1).map(|(path, _)| path.as_str());
        let told: Vec<_> = files
            .iter()
            .map(|(path, entry)| {
                json!({ "path": path.as_str(), "size": entry.size, "content": entry.content.to_string() })
            })
            .collect();
        Answer::json(200, &json!({ "files": told, "next": next }))
            .with("Content-Security-Policy", NOTHING_RUNS)
            .with("Cache-Control", "no-cache")
    }

    fn file(&self, asking: &Asking, name: &str) -> Outcome {
        let path = match SharePath::from_url(name) {
            Ok(path) => path,
            Err(error) => return plain(Answer::problem(400, &format!("No file can have this name: {error}."))),
        };
        let Some(file) = self.share.read(&path) else {
            return plain(match self.share.look_up(&path) {
                Lookup::Absent => Answer::problem(404, "This peer shares no file of that name."),
                Lookup::Known(_) => {
                    Answer::problem(503, "This file cannot be opened now; try again soon.").with("Retry-After", "1")
                }
                _ => Answer::problem(503, "This file is being hashed; try again soon.").with("Retry-After", "1"),
            });
        };
        let (media_type, disposition) = media_type(path.file_name());
        let entry = file.entry.clone();
        send(asking, file, &entry, |answer| {
            answer
                .with("Content-Type", media_type)
                .with("Content-Disposition", format!("{disposition}; {}", path.to_header()))
                .with("Content-Security-Policy", "default-src 'none'; sandbox")
                .with("Cross-Origin-Resource-Policy", "same-origin")
                .with("Cache-Control", "no-cache")
        })
    }

    fn put(&self, asking: &Asking, name: &str) -> Outcome {
        let path = match SharePath::from_url(name) {
            Ok(path) => path,
            Err(error) => return plain(Answer::problem(400, &format!("The name is refused: {error}."))),
        };
        if asking.header("Content-Range").is_some() {
            // RFC 9110 section 14.5: a part must not be taken for the whole.
            return plain(Answer::problem(400, "An upload is a whole file; Content-Range is not taken."));
        }
        let other_size = |entry: &Entry| asking.about.length.is_some_and(|size| size != entry.size);
        if let Lookup::Known(entry) = self.share.look_up(&path)
            && other_size(&entry)
        {
            // Of another size it is another content: that is known before a byte is sent.
            return plain(upload::conflict(&[&path], json!({})));
        }
        self.work(asking, move |share, body| upload::put(share, &path, body))
    }

    fn upload(&self, asking: &Asking) -> Outcome {
        match asking.header("Content-Type").map(multer::parse_boundary) {
            // Whatever the delimiter might be is held back until that is clear (RFC 2046 section 5.1.1).
            Some(Ok(boundary)) if !(1..=limits::BOUNDARY_BYTES).contains(&boundary.len()) => {
                plain(Answer::problem(400, "The boundary of a form is 1 to 70 characters long."))
            }
            Some(Ok(boundary)) => self.work(asking, move |share, body| upload::form(share, boundary, body)),
            _ => plain(Answer::problem(415, "POST takes multipart/form-data, as `curl -F file=@notes.txt` sends it.")),
        }
    }

    /// Has the connection's own thread read the body.
    fn work(
        &self,
        asking: &Asking,
        upload: impl FnOnce(&Share, &mut (dyn io::Read + Send)) -> Answer + Send + 'static,
    ) -> Outcome {
        // A body of unknown length is cut short by the write that would be too much.
        if let Err(error) = self.share.need(asking.about.length.unwrap_or(0)) {
            return plain(upload::failure(&error));
        }
        let share = self.share.clone();
        let metrics = self.status.metrics.clone();
        let work = move |body: &mut (dyn io::Read + Send)| {
            let counted = metrics.begin(Transfer::Upload);
            let answer = upload(&share, body);
            counted.done(answer.status < 300);
            answer
        };
        (Answer::empty(200), Some(Leave::Work(Box::new(work))))
    }

    pub(super) fn not_allowed(&self, method: &str, allowed: &str) -> Outcome {
        let detail = format!("The methods here are {allowed}.{}", self.way_to_send(method));
        plain(Answer::problem(405, &detail).with("Allow", allowed))
    }

    /// For who has sent a file to a wrong place, where the right one is: a slash or a path is soon forgotten.
    fn way_to_send(&self, method: &str) -> String {
        let scheme = self.status.scheme;
        match method {
            "PUT" => format!(" A file is sent by `curl -T notes.txt {scheme}://HOST:PORT/files/`."),
            "POST" => format!(" A form is sent by `curl -F file=@notes.txt {scheme}://HOST:PORT/upload`."),
            _ => String::new(),
        }
    }
}

pub(super) fn plain(answer: Answer) -> Outcome {
    (answer, None)
}

/// Answers with a file, whole or in part, as the request's conditions have it.
pub(super) fn send(
    asking: &Asking,
    file: impl Promised + Send + 'static,
    entry: &Entry,
    describe: impl FnOnce(Answer) -> Answer,
) -> Outcome {
    let size = entry.size;
    let etag = format!("\"{}\"", entry.content);
    let asked = Asked {
        range: asking.header("Range"),
        if_range: asking.header("If-Range"),
        if_match: asking.header("If-Match"),
        if_none_match: asking.header("If-None-Match"),
    };
    let (status, range) = match decide(&asked, asking.is_get(), &etag, size) {
        Part::Whole => (200, 0..size),
        Part::Range(range) => (206, range),
        Part::NotModified => (304, 0..0),
        Part::PreconditionFailed => return plain(Answer::problem(412, "The file is not the one you asked for.")),
        Part::Unsatisfiable => {
            return plain(
                Answer::problem(416, &format!("The file has {size} bytes; the range lies behind them."))
                    .with("Content-Range", format!("bytes */{size}")),
            );
        }
    };
    let mut answer = describe(Answer::empty(status))
        .with("ETag", etag)
        .with("Accept-Ranges", "bytes")
        .with("X-Content-Type-Options", "nosniff");
    if status == 206 {
        answer = answer.with("Content-Range", format!("bytes {}-{}/{size}", range.start, range.end - 1));
    }
    if status == 304 {
        return plain(answer);
    }
    (answer, Some(Leave::File(Box::new(file), range)))
}

impl Promised for SharedFile {
    fn file(&self) -> &File {
        &self.file
    }

    fn is_unchanged(&self) -> bool {
        self.is_unchanged()
    }
}

/// The media type for a file name, and whether a browser may show it: text and plain images only,
/// since nothing that runs may run here.
fn media_type(name: &str) -> (&'static str, &'static str) {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("txt" | "log" | "md" | "csv" | "json" | "toml" | "yaml" | "yml") => {
            ("text/plain; charset=utf-8", "inline")
        }
        Some("png") => ("image/png", "inline"),
        Some("jpg" | "jpeg") => ("image/jpeg", "inline"),
        Some("gif") => ("image/gif", "inline"),
        Some("webp") => ("image/webp", "inline"),
        _ => ("application/octet-stream", "attachment"),
    }
}
