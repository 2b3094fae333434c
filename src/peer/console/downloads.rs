//! `downloads` and `cancel`.

use std::io::{IsTerminal, stdout};

use super::{Console, get::named, text};
use crate::{content::ContentId, name::SharePath, peer::swarm::jobs::Listed, say};

impl Console {
    pub(super) fn downloads(&mut self) {
        let downloads = self.jobs.list();
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
        let (id, path) = (what.parse::<ContentId>().ok(), what.parse::<SharePath>().ok());
        let mut matches = self.jobs.list();
        matches.retain(|listed| match id {
            Some(id) => listed.content == id,
            None => path.is_some() && listed.path == path,
        });
        match &matches[..] {
            [] => self.fail(format_args!("no download of {}: `downloads` lists them", named(what))),
            [listed] => {
                let is_gone = match listed.number {
                    Some(number) => self.jobs.cancel(number),
                    None => self.jobs.discard(&listed.content),
                };
                match is_gone {
                    true => say(format_args!("cancelled {what}")),
                    false => self.fail(format_args!("{what} has ended meanwhile, or begun again: see `downloads`")),
                }
            }
            several => {
                let other = |listed: &Listed| match (&listed.path, id) {
                    (Some(path), Some(_)) => path.to_string(),
                    _ => listed.content.to_string(),
                };
                let kind = if id.is_some() { "path" } else { "content id" };
                let others: String = several.iter().map(|listed| format!("\n  {}", other(listed))).collect();
                self.fail(format_args!("several downloads of {what}: cancel one by its {kind}{others}"));
            }
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
    use crate::peer::swarm::jobs::Standing;

    #[test]
    fn a_row_has_five_columns_whatever_is_known() {
        let content = ContentId::of(b"");
        let running = Listed {
            number: Some(1),
            content,
            path: Some("a b/c".parse().unwrap()),
            size: Some(9),
            here: 7,
            standing: Standing::Running,
        };
        assert_eq!(line(&running), format!("{content}\t9\t7\trunning\ta b/c\n"));
        let left = Listed { number: None, path: None, size: None, standing: Standing::Left, ..running };
        assert_eq!(line(&left), format!("{content}\t\t7\tleft\t\n"));
    }
}
