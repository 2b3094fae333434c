//! Uploads: a request's body becomes files of the share, whole or not at all.

use std::{
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use multer::{Constraints, Multipart, bytes::Bytes};
use serde_json::{Value, json};

use super::answer::Answer;
use crate::{
    limits,
    name::SharePath,
    peer::share::{Entry, NoRoom, PublishError, Published, Share, Staged},
};

/// Takes a raw body as the file `path`.
pub(super) fn put(share: &Share, path: &SharePath, body: &mut dyn Read) -> Answer {
    let staged = match stage(share, body) {
        Ok(staged) => staged,
        Err(error) => return failure(&error),
    };
    let entry = staged.entry().clone();
    let told = told(path, &entry);
    match share.publish(staged, path) {
        Ok(published) => Answer::json(status(published), &told).with("Location", format!("/files/{}", path.to_url())),
        Err(PublishError::Conflict) => conflict(&[path], json!({})),
        Err(PublishError::Io(error)) => failure(&error),
    }
}

/// Takes the files of a multipart form (RFC 7578), those in its field `file`. All are staged before
/// the first is published, so that a form that breaks off leaves nothing.
pub(super) fn form(share: &Share, boundary: String, body: &mut (dyn Read + Send)) -> Answer {
    let staged = match stage_form(share, boundary, body) {
        Ok(staged) => staged,
        Err(answer) => return answer,
    };
    let mut published = Vec::new();
    let mut refused = Vec::new();
    let mut best = 200;
    for (path, staged) in staged {
        let told = told(&path, staged.entry());
        match share.publish(staged, &path) {
            Ok(how) => {
                best = best.max(status(how));
                published.push(told);
            }
            Err(PublishError::Conflict) => refused.push(path),
            Err(PublishError::Io(error)) if published.is_empty() => return failure(&error),
            Err(PublishError::Io(error)) => {
                let detail = format!("{path} and what came behind it could not be kept: {error}. Send those again.");
                return Answer::problem_with(failure(&error).status, &detail, json!({ "files": published }));
            }
        }
    }
    if refused.is_empty() {
        Answer::json(best, &json!({ "files": published }))
    } else {
        conflict(&refused.iter().collect::<Vec<_>>(), json!({ "files": published }))
    }
}

/// The answer to a name that has another content already.
pub(super) fn conflict(paths: &[&SharePath], members: Value) -> Answer {
    let names: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
    let names = names.join(", ");
    let detail = format!("There is something else already at {names}; nothing is ever replaced. Use another name.");
    Answer::problem_with(409, &detail, members)
}

fn status(published: Published) -> u16 {
    match published {
        Published::New => 201,
        // An upload takes nobody's place.
        Published::Same | Published::Over => 200,
    }
}

fn told(path: &SharePath, entry: &Entry) -> Value {
    json!({ "name": path.as_str(), "size": entry.size, "content": entry.content.to_string() })
}

pub(super) fn failure(error: &io::Error) -> Answer {
    match error.kind() {
        ErrorKind::StorageFull if NoRoom::is_cause_of(error) => {
            Answer::problem(507, &format!("There is no room for this on this peer's disk: {error}; nothing was kept."))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Answer::problem(507, "There is no room left on this peer's disk; nothing was kept.")
        }
        ErrorKind::FileTooLarge => Answer::problem(413, "The upload is too large for this peer; nothing was kept."),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            Answer::problem(400, "The upload broke off or its framing is broken; nothing was kept. Send it again.")
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Answer::problem(408, "The upload made no progress for too long; nothing was kept. Send it again.")
        }
        ErrorKind::InvalidFilename => Answer::problem(400, &format!("The upload could not be kept: {error}.")),
        ErrorKind::NotADirectory | ErrorKind::CrossesDevices => {
            Answer::problem(409, &format!("The upload could not be kept: {error}. Nothing was kept."))
        }
        _ => Answer::problem(500, &format!("The upload could not be kept: {error}. Nothing was kept.")),
    }
}

fn stage(share: &Share, body: &mut dyn Read) -> io::Result<Staged> {
    let mut staging = share.stage()?;
    let mut block = vec![0; limits::BLOCK_BYTES];
    loop {
        match body.read(&mut block)? {
            0 => return staging.finish(),
            read => staging.write_all(&block[..read])?,
        }
    }
}

fn stage_form(
    share: &Share,
    boundary: String,
    body: &mut (dyn Read + Send),
) -> Result<Vec<(SharePath, Staged)>, Answer> {
    let refuse = |detail: &str| Answer::problem(400, detail);
    let waited_for = Arc::new(AtomicU64::new(0));
    let constraints = Constraints::new().allowed_fields(vec!["file"]);
    let blocks = Blocks { body, is_due: false, waited_for: Arc::clone(&waited_for) };
    let mut form = Multipart::with_constraints(blocks, boundary, constraints);
    let mut files: Vec<(SharePath, Staged)> = Vec::new();
    loop {
        let field = wait(&waited_for, |context| form.poll_next_field(context));
        let Some(mut field) = field? else {
            return if files.is_empty() {
                Err(refuse("The form has no field `file` with a file in it."))
            } else {
                Ok(files)
            };
        };
        if files.len() == limits::UPLOAD_FILES {
            return Err(refuse("A form holds at most 1,000 files; nothing was kept. Send it in parts."));
        }
        // Forms write a quote in a file name as %22, and leave `%` alone (WHATWG HTML, multipart/form-data).
        let name = field.file_name().map(|name| name.replace("%22", "\""));
        let Some(name) = name else {
            return Err(refuse("The field `file` has no file name: send it as `curl -F file=@notes.txt`."));
        };
        if name.contains('/') {
            return Err(refuse("A form's file name holds no folder; `curl -T` to /files/<path> does."));
        }
        let path: SharePath =
            name.parse().map_err(|error| refuse(&format!("The name {name:?} is refused: {error}.")))?;
        if files.iter().any(|(other, _)| *other == path) {
            return Err(refuse("Two files of the form have one name; nothing was kept."));
        }
        let mut staging = share.stage().map_err(|error| failure(&error))?;
        let mut next = |context: &mut Context| Pin::new(&mut field).poll_next(context).map(Option::transpose);
        while let Some(chunk) = wait(&waited_for, &mut next)? {
            staging.write_all(&chunk).map_err(|error| failure(&error))?;
        }
        files.push((path, staging.finish().map_err(|error| failure(&error))?));
    }
}

fn form_failure(error: multer::Error) -> Answer {
    match error {
        multer::Error::StreamReadFailed(error) => match error.downcast::<io::Error>() {
            Ok(error) => failure(&error),
            Err(error) => failure(&io::Error::other(error)),
        },
        multer::Error::UnknownField { .. } => {
            Answer::problem(400, "The form's only field is `file`: curl -F file=@notes.txt; nothing was kept.")
        }
        multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
            failure(&ErrorKind::UnexpectedEof.into())
        }
        error => Answer::problem(400, &format!("The form cannot be read: {error}. Nothing was kept.")),
    }
}

/// A body as the stream that multer wants.
struct Blocks<'a> {
    body: &'a mut (dyn Read + Send),
    /// A block was given and the stream has not said since that it has none: multer reads a stream
    /// until it has none, into memory, so it must say so after every block.
    is_due: bool,
    /// Bytes given since multer last came to something; the largest number at the body's end.
    waited_for: Arc<AtomicU64>,
}

impl Stream for Blocks<'_> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Self::Item>> {
        self.is_due = !self.is_due;
        if !self.is_due {
            return Poll::Pending;
        }
        let mut block = vec![0; limits::BLOCK_BYTES];
        Poll::Ready(match self.body.read(&mut block) {
            Ok(0) => {
                self.waited_for.store(u64::MAX, Ordering::Relaxed);
                None
            }
            Ok(read) => {
                self.waited_for.fetch_add(read as u64, Ordering::Relaxed);
                block.truncate(read);
                Some(Ok(block.into()))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

/// Polls until there is something: nothing here waits for anything but the blocking body. What
/// stands between the contents of two files must be short, since multer buffers it.
fn wait<T>(waited_for: &AtomicU64, mut poll: impl FnMut(&mut Context) -> Poll<multer::Result<T>>) -> Result<T, Answer> {
    waited_for.store(0, Ordering::Relaxed);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match poll(&mut context) {
            Poll::Ready(result) => return result.map_err(form_failure),
            Poll::Pending => match waited_for.load(Ordering::Relaxed) {
                u64::MAX => return Err(failure(&ErrorKind::UnexpectedEof.into())),
                bytes if bytes > limits::BLOCK_BYTES as u64 => {
                    return Err(Answer::problem(400, "A part of the form begins with too many bytes of headers."));
                }
                _ => {}
            },
        }
    }
}
