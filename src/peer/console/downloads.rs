//! `downloads` and `cancel`.

use std::io::{IsTerminal, stdout};

use super::{Console, text};
use crate::{name::SharePath, peer::swarm::jobs::Listed, say};

impl Console {
    pub(super) fn downloads(&mut self) {
        let downloads = self.asks.downloads();
        if !stdout().is_terminal() {
            return self.put(&downloads.iter().map(line).collect::<String>());
        }
        if downloads.is_empty() {
            return say("no downloads");
        }
        let row = |listed: &Listed| {
            let size = listed.size.map_or_else(|| "?".to_owned(), text::size);
            let path = listed.path.as_ref().map_or("", SharePath::as_str);
            let state = listed.standing.to_string();
            vec![text::size(listed.here), size, state, path.to_owned(), listed.content.to_string()]
        };
        let rows: Vec<_> = downloads.iter().map(row).collect();
        self.put(&text::table(&["here", "size", "state", "path", "content id"], &rows));
    }

    pub(super) fn cancel(&mut self, what: &str) {
        match self.asks.cancel(what) {
            Ok(()) => say(format_args!("cancelled {what}")),
            Err(error) => self.fail(error),
        }
    }
}

/// One row for a script: content id, size where it is known, bytes here, state, path where it is known.
fn line(listed: &Listed) -> String {
    let Listed { content, path, size, here, standing, .. } = listed;
    let size = size.map_or_else(String::new, |size| size.to_string());
    let path = path.as_ref().map_or("", SharePath::as_str);
    format!("{content}\t{size}\t{here}\t{standing}\t{path}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{content::ContentId, peer::swarm::jobs::Standing};

    #[test]
    fn a_row_has_five_columns_whatever_is_known() {
        let content = ContentId::of(b"");
        let running = Listed {
            number: Some(1),
            content,
            path: Some("a b/c".parse().unwrap()),
            size: Some(9),
            here: 7,
            rate: 0,
            standing: Standing::Running,
        };
        assert_eq!(line(&running), format!("{content}\t9\t7\trunning\ta b/c\n"));
        let left = Listed { number: None, path: None, size: None, standing: Standing::Left, ..running };
        assert_eq!(line(&left), format!("{content}\t\t7\tleft\t\n"));
    }
}
