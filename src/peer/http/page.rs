//! The page at `/`: what this peer shares, and how to send it something. Pure.

use std::fmt::Write;

use super::Entry;
use crate::name::{SharePath, escape_html};

/// Rows end behind so many bytes: a name takes up to nine times its length here, and the page is to
/// stay below [`limits::SMALL_ANSWER_BYTES`](crate::limits::SMALL_ANSWER_BYTES).
const ROWS_BYTES: usize = 1 << 20;

/// The first files of a share as a page; `total` is how many there are.
pub(super) fn page(peer: &str, scheme: &str, files: &[(SharePath, Entry)], total: usize) -> String {
    let mut rows = String::new();
    let mut shown = 0;
    for (path, Entry { content, size }) in files {
        let (name, url) = (escape_html(path.as_str()), path.to_url());
        let _ = writeln!(rows, "<tr><td><a href=\"/files/{url}\">{name}</a><td>{size}<td><code>{content}</code>");
        shown += 1;
        if rows.len() > ROWS_BYTES {
            break;
        }
    }
    let more = match total.saturating_sub(shown) {
        0 => String::new(),
        more => format!("<p>And {more} more: <a href=\"/files\">/files</a> has them all.</p>\n"),
    };
    let peer = escape_html(peer);
    let files = if total == 1 { "file" } else { "files" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{peer}</title>\n\
         <style>body{{font:1em sans-serif;margin:2em;max-width:70em}}td,th{{padding:.2em 1em .2em 0;text-align:left}}\
         td:nth-child(2){{text-align:right}}code{{font-size:.8em}}</style>\n\
         <h1>{peer}</h1>\n<p>{total} {files}. To send one: <code>curl -T notes.txt {scheme}://HOST:PORT/files/</code></p>\n\
         <table>\n<tr><th>File<th>Bytes<th>Content id\n{rows}</table>\n{more}</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{content::ContentId, limits};

    #[test]
    fn the_longest_names_do_not_make_a_page_that_cannot_be_sent() {
        let entry = Entry { content: ContentId::of(b""), size: 0 };
        let part = "\"".repeat(limits::PATH_PART_BYTES);
        let path = |number| format!("{part}/{part}/{part}/{number:0>255}").parse().unwrap();
        let files: Vec<_> = (0..limits::LIST_PAGE).map(|number| (path(number), entry.clone())).collect();
        let page = page("p", "http", &files, files.len());
        assert!(page.len() < limits::SMALL_ANSWER_BYTES, "{}", page.len());
        let shown = page.matches("<code>").count() - 1;
        assert!(shown > 100 && page.contains(&format!("And {} more", limits::LIST_PAGE - shown)), "{shown}");
    }
}
