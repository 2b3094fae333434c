//! The page at `/`: what this peer shares, and how to send it something. Pure.

use super::Entry;
use crate::name::{SharePath, escape_html};

/// The first files of a share as a page; `total` is how many there are.
pub(super) fn page(peer: &str, files: &[(SharePath, Entry)], total: usize) -> String {
    let rows: String = files
        .iter()
        .map(|(path, entry)| {
            let name = escape_html(path.as_str());
            let url = path.to_url();
            let id = entry.content;
            format!("<tr><td><a href=\"/files/{url}\">{name}</a><td>{}<td><code>{id}</code>\n", entry.size)
        })
        .collect();
    let more = match total.saturating_sub(files.len()) {
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
         <h1>{peer}</h1>\n<p>{total} {files}. To send one: <code>curl -T notes.txt http://HOST:PORT/files/</code></p>\n\
         <table>\n<tr><th>File<th>Bytes<th>Content id\n{rows}</table>\n{more}</html>\n"
    )
}
