//! Counters, and how Prometheus reads them: its text format, and what a process tells of itself.

use std::{
    fmt::{Display, Write as _},
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

/// The media type of the text format.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counts so many more.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What has been counted.
pub(crate) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The text format, as it grows. Label values here need no escapes.
pub(crate) struct Text(String);

impl Text {
    /// Begins with the version of this program.
    pub(crate) fn new() -> Self {
        let mut text = Self(String::new());
        text.family("enjambre_build_info", "gauge", "Which version this is; always 1.");
        text.line("enjambre_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        text
    }

    /// Begins a family, whose lines follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A line of the family begun last.
    pub(crate) fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one line without labels.
    pub(crate) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }

    /// A family of counters that differ in one label; `values` are in the order of `counts`.
    pub(crate) fn counters(&mut self, name: &str, help: &str, label: &str, values: &[&str], counts: &[AtomicU64]) {
        self.family(name, "counter", help);
        for (value, count) in values.iter().zip(counts) {
            self.line(name, &[(label, value)], load(count));
        }
    }

    /// Ends with what the system says of this process; what it does not say is left out.
    pub(crate) fn finish(mut self) -> String {
        // Linux 6.2 and later count open files; to count them here would mean to list them all.
        let open_files = fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|count| *count > 0);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of this process that is resident.", resident_bytes()),
            ("process_open_fds", "Open files and sockets of this process.", open_files),
        ] {
            if let Some(value) = value {
                self.single(name, "gauge", help, value);
            }
        }
        self.0
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix(" kB")?.trim().parse().ok());
    kib.map(|kib: u64| kib << 10)
}
