//! The page at `/`: one answer with all it needs. What it shows it asks of the API, and puts into text nodes only.

use rustix::rand::{GetRandomFlags, getrandom};

use super::answer::Answer;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One module, in parts that see each other.
const SCRIPT: &str = concat!(
    include_str!("basics.js"),
    include_str!("files.js"),
    include_str!("transfers.js"),
    include_str!("swarm.js")
);

/// The page. Its one style and its one script are told from any other by a number of this answer's own, so nothing else
/// runs in it, whatever got into it; and it speaks to this peer alone.
pub(super) fn answer() -> Answer {
    let mut bytes = [0; 16];
    // It comes whole once the system has started (getrandom(2)); before that, nothing runs.
    let is_random = getrandom(&mut bytes, GetRandomFlags::empty()) == Ok(bytes.len());
    let nonce: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let allowed = if is_random { format!("'nonce-{nonce}'") } else { "'none'".to_owned() };
    let policy = format!(
        "default-src 'none'; script-src {allowed}; style-src {allowed}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let page = HTML.replace("NONCE", &nonce).replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
    Answer::of(200, "text/html; charset=utf-8", page)
        .with("Content-Security-Policy", policy)
        .with("Referrer-Policy", "no-referrer")
        .with("Cache-Control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_whole_and_has_nothing_from_elsewhere() {
        let page = String::from_utf8(answer().body).unwrap();
        // So it is below 40 KB however a proxy compresses it.
        assert!(page.len() < 40_000, "{}", page.len());
        for left in ["NONCE", "/*STYLE*/", "/*SCRIPT*/", "http:", "https:", "src=", "@import", ": url(", "innerHTML"] {
            assert!(!page.contains(left), "{left}");
        }
        assert_eq!((page.matches("<script nonce=").count(), page.matches("<style nonce=").count()), (1, 1));
    }

    #[test]
    fn no_two_answers_allow_the_same_script() {
        let policy = || {
            let headers = answer().headers;
            headers.into_iter().find(|(name, _)| *name == "Content-Security-Policy").map(|(_, policy)| policy)
        };
        assert!(policy().is_some_and(|policy| policy.contains("script-src 'nonce-")) && policy() != policy());
    }
}
