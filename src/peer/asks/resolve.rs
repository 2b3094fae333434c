//! What a person means by a path, a content id or a pattern.

use std::{collections::BTreeMap, fmt::Write as _};

use super::AskError;
use crate::{
    content::ContentId,
    name::{PeerId, SharePath},
    peer::link::{Found, Link, Page},
    size,
};

/// What a `get` is about.
pub enum Wanted {
    /// One content, and its path where there is one.
    Content(ContentId, Option<SharePath>),
    /// What a pattern matches: the first page of it.
    Matches(Page),
}

/// Finds out what `what` names: an id, else a path, else a pattern.
pub(super) fn resolve(link: &Link, what: &str, has_target: bool) -> Result<Wanted, AskError> {
    if let Ok(id) = what.parse::<ContentId>() {
        if has_target {
            return Ok(Wanted::Content(id, None));
        }
        let paths = link.locate(&id)?.paths;
        return match &paths[..] {
            [] => Err(AskError::Absent(format!("nobody offers {id} now: try again later, or search for its path"))),
            [path] => Ok(Wanted::Content(id, Some(path.clone()))),
            several => {
                let mut error = format!("{id} goes by several paths: say to which of these, or another, it is to go");
                for path in several {
                    let _ = write!(error, "\n  {path}");
                }
                Err(AskError::Several(error))
            }
        };
    }
    let path = what.parse::<SharePath>();
    if let Ok(path) = &path {
        let (rows, _) = link.search(what, true)?;
        let rows: Vec<_> = rows.into_iter().filter(|row| row.path == *path).collect();
        if !rows.is_empty() {
            return Ok(Wanted::Content(one_content(what, &rows)?, Some(path.clone())));
        }
    }
    if !what.contains(['*', '?']) {
        return Err(match path {
            Ok(_) => {
                AskError::Absent(format!("nobody offers {what} now: `search` finds files by a part of their path"))
            }
            Err(error) => AskError::Bad(format!("{}: {error}", named(what))),
        });
    }
    let page = link.page(what, None)?;
    match &page.found[..] {
        [] => {
            Err(AskError::Absent(format!("nothing matches {what} now: `search` finds files by a part of their path")))
        }
        [first, ..] if !page.has_more() && page.found.iter().all(|row| row.path == first.path) => {
            Ok(Wanted::Content(one_content(first.path.as_str(), &page.found)?, Some(first.path.clone())))
        }
        _ if has_target => Err(AskError::Several(format!(
            "{what} matches several files, which cannot all go to one place: name a folder (FOLDER/), or get them one by one"
        ))),
        _ => Ok(Wanted::Matches(page)),
    }
}

/// A path below a folder, where there is one.
pub(super) fn below(folder: Option<&SharePath>, path: SharePath) -> Result<SharePath, AskError> {
    let Some(folder) = folder else { return Ok(path) };
    format!("{folder}/{path}").parse().map_err(|error| AskError::Bad(format!("{folder}/{path}: {error}")))
}

/// A word that is no path, to be shown; one can be empty or hold what a terminal would obey.
pub(super) fn named(word: &str) -> String {
    if word.is_empty() || word.contains(char::is_control) { format!("{word:?}") } else { word.to_owned() }
}

/// The content that a path names, where it names one.
pub(super) fn one_content(path: &str, rows: &[Found]) -> Result<ContentId, AskError> {
    let mut contents = BTreeMap::new();
    for row in rows {
        contents.entry(row.content).or_insert(row);
    }
    if contents.len() == 1 {
        return Ok(rows[0].content);
    }
    let mut error = format!("{path} names {} contents: get one of these ids, to this path or another", contents.len());
    for (id, row) in contents {
        let ids: Vec<_> = row.source_ids.iter().map(PeerId::as_str).collect();
        let _ = write!(error, "\n  {id}  {}  {}", size::shown(row.size), ids.join(","));
    }
    Err(AskError::Several(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, content: &[u8], size: u64) -> Found {
        let source_ids = vec!["p1".parse().unwrap()];
        Found { path: path.parse().unwrap(), content: ContentId::of(content), size, sources: 1, source_ids }
    }

    #[test]
    fn a_path_with_several_contents_is_listed_and_one_with_several_sizes_is_not() {
        let a = ContentId::of(b"a");
        assert_eq!(one_content("x", &[found("x", b"a", 1), found("x", b"a", 2)]).unwrap(), a);
        let error = one_content("x", &[found("x", b"a", 1), found("x", b"b", 2)]).unwrap_err().to_string();
        assert!(error.starts_with("x names 2 contents") && error.contains(&format!("\n  {a}  1 byte  p1")), "{error}");
    }
}
