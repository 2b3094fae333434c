//! `/metrics` and `/healthz` by HTTP, for Prometheus and probes. One request a connection, of which there are
//! few, each with a deadline: nothing that somebody does here is felt by a call.

use std::{collections::VecDeque, io, sync::Arc};

use httparse::Status;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    callers::Callers,
    calls::Calls,
    health::Health,
    metrics::{Metrics, Now},
};
use crate::{limits, metrics::MEDIA_TYPE};

/// What the answers come from.
pub(super) struct Monitor {
    pub(super) metrics: Arc<Metrics>,
    pub(super) callers: Arc<Callers>,
    pub(super) calls: Arc<Calls>,
    pub(super) health: Health,
}

/// Makes a listener one of the runtime, within which this must be called.
pub(super) fn listen(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

impl Monitor {
    /// Answers for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(limits::ACCEPT_PAUSE).await;
                continue;
            };
            open.retain(|task| !task.is_finished());
            if open.len() == limits::MONITOR_CONNECTIONS {
                // An answer takes a round trip, so the oldest is the slowest.
                open.pop_front().inspect(AbortHandle::abort);
            }
            let monitor = Arc::clone(&self);
            let task = tokio::spawn(async move {
                let _ = timeout(limits::MONITOR_TIME, monitor.converse(stream)).await;
            });
            open.push_back(task.abort_handle());
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        let answer = loop {
            if let Some(answer) = self.answer(&head) {
                break answer;
            }
            let room = (limits::MONITOR_HEAD_BYTES - head.len()) as u64;
            if (&mut stream).take(room).read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    /// The answer to a request's head; none as long as that is not complete.
    fn answer(&self, head: &[u8]) -> Option<String> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(Status::Partial) if head.len() < limits::MONITOR_HEAD_BYTES => None,
            Ok(Status::Complete(_)) => Some(self.respond(request.method.unwrap_or(""), request.path.unwrap_or(""))),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Some(response(true, "431 Request Header Fields Too Large", "", "the head is too long\n"))
            }
            Err(_) => Some(response(true, "400 Bad Request", "", "this is no HTTP/1.1 request\n")),
        }
    }

    fn respond(&self, method: &str, target: &str) -> String {
        let has_body = method != "HEAD";
        if !matches!(method, "GET" | "HEAD") {
            return response(
                true,
                "405 Method Not Allowed",
                "Allow: GET, HEAD\r\n",
                "only GET and HEAD are known here\n",
            );
        }
        let state = self.health.state();
        match target.split('?').next() {
            Some("/metrics") => response(has_body, "200 OK", "", &self.metrics.render(&self.now())),
            Some("/healthz") if state.is_draining => response(has_body, "503 Service Unavailable", "", "draining\n"),
            Some("/healthz") if state.is_degraded => response(has_body, "200 OK", "", "degraded\n"),
            Some("/healthz") => response(has_body, "200 OK", "", "ok\n"),
            _ => response(has_body, "404 Not Found", "", "here are /metrics and /healthz\n"),
        }
    }

    fn now(&self) -> Now {
        Now {
            figures: self.calls.figures(),
            connections: self.callers.open(),
            is_degraded: self.health.state().is_degraded,
        }
    }
}

fn response(has_body: bool, status: &str, more: &str, body: &str) -> String {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n",
        body.len()
    );
    if has_body { head + body } else { head }
}
