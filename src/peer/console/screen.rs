//! What is written on a terminal while somebody edits a line there: above that line, by one thread, in its order. How
//! gets go stands in some rows just above the line, and is written over.

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use rustyline::ExternalPrinter;

/// A handle to the one who writes.
#[derive(Clone)]
pub(super) struct Screen {
    notes: Sender<Note>,
    is_editing: Arc<AtomicBool>,
}

enum Note {
    /// Lines that stay.
    Text(String),
    /// Rows that take the place of those before.
    Rows(Vec<String>),
    /// What stands above the line now stays there.
    Settle,
}

impl Screen {
    /// Starts the thread that writes by `printer`.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start(printer: impl ExternalPrinter + Send + 'static) -> io::Result<Self> {
        // Unbounded: whoever has something to say must not wait for a line to be edited.
        let (notes, said) = mpsc::channel();
        thread::Builder::new().name("screen".into()).spawn(move || write(printer, &said))?;
        Ok(Self { notes, is_editing: Arc::default() })
    }

    /// Writes lines.
    pub(super) fn print(&self, text: &str) {
        // Without the thread nobody reads it anyway.
        let _ = self.notes.send(Note::Text(text.to_owned()));
    }

    /// Shows how gets go, in place of what was shown before; while a command writes its results, not.
    pub(super) fn show(&self, rows: Vec<String>) {
        if self.is_editing.load(Ordering::Acquire) {
            let _ = self.notes.send(Note::Rows(rows));
        }
    }

    /// A line begins to be edited, or was taken.
    pub(super) fn editing(&self, is_editing: bool) {
        self.is_editing.store(is_editing, Ordering::Release);
        let _ = self.notes.send(Note::Settle);
    }
}

fn write(mut printer: impl ExternalPrinter, notes: &Receiver<Note>) {
    let mut rows_above = 0;
    for note in notes {
        let above = mem::take(&mut rows_above);
        let text = match note {
            Note::Settle => continue,
            Note::Text(text) => text,
            Note::Rows(rows) => {
                rows_above = rows.len();
                rows.iter().map(|row| format!("{row}\n")).collect()
            }
        };
        let clear = if above > 0 { format!("\x1b[{above}A\r\x1b[J") } else { String::new() };
        if above == 0 && text.is_empty() {
            continue;
        }
        // Without a line end the line that is edited would begin one row below.
        let _ = printer.print(if text.is_empty() { format!("{clear}\x1b[A\n") } else { clear + &text });
    }
}
