//! Splits a command line into words as a shell does. Pure.

/// The words of a line. Blanks separate them; `'…'` holds everything as it is, `"…"` everything but
/// `\"` and `\\`, and elsewhere a backslash makes the next character an ordinary one. A `#` is an
/// ordinary character, since file names hold it.
///
/// # Errors
/// When a quote is not closed, or a backslash stands at the end.
pub(super) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    const OPEN_END: &str = "the line ends with a backslash: write \\\\ for one";
    let mut words = Vec::new();
    // None between words: `''` is a word, though an empty one.
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\\' => word.push(rest.next().ok_or(OPEN_END)?),
            '\'' => loop {
                match rest.next().ok_or("a ' is not closed: close it, or write \\' for one")? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match rest.next().ok_or("a \" is not closed: close it, or write \\\" for one")? {
                    '"' => break,
                    '\\' => match rest.next().ok_or(OPEN_END)? {
                        c @ ('"' | '\\') => word.push(c),
                        c => word.extend(['\\', c]),
                    },
                    c => word.push(c),
                }
            },
            c => word.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Where the last word of an unfinished line begins, and what it is so far; at the end, and empty, behind a blank.
#[cfg(feature = "console")]
pub(super) fn last(line: &str) -> (usize, String) {
    let mut word = (line.len(), String::new());
    let mut is_inside = false;
    let mut rest = line.char_indices();
    let mut quote = None;
    while let Some((at, c)) = rest.next() {
        if quote.is_none() && c.is_ascii_whitespace() {
            (is_inside, word) = (false, (line.len(), String::new()));
            continue;
        }
        if !std::mem::replace(&mut is_inside, true) {
            word.0 = at;
        }
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.1.extend(rest.next().map(|(_, c)| c)),
            (c, _) => word.1.push(c),
        }
    }
    word
}

/// A word as it has to be written; one that ends with `/` is open for more.
#[cfg(feature = "console")]
pub(super) fn quoted(word: &str) -> String {
    if !word.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '\'' | '"' | '\\')) {
        return word.to_owned();
    }
    let quoted = format!("'{}'", word.replace('\'', r"'\''"));
    if word.ends_with('/') { quoted.trim_end_matches('\'').to_owned() } else { quoted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_a_shell_would_make_of_them() {
        for (line, words) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("get notes.txt", &["get", "notes.txt"]),
            ("  get\ta  b ", &["get", "a", "b"]),
            ("get 'a b' c", &["get", "a b", "c"]),
            ("get a' 'b", &["get", "a b"]),
            (r#"get "a \"b\" \\ \n" 'c\d'"#, &["get", r#"a "b" \ \n"#, r"c\d"]),
            (r"get a\ b \'c\\", &["get", "a b", r"'c\"]),
            ("get '' \"\"", &["get", "", ""]),
            ("get #1 a#b", &["get", "#1", "a#b"]),
            ("get é🐝", &["get", "é🐝"]),
            ("get \"it's\"", &["get", "it's"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        for bad in ["get 'a", "get \"a", "get a\\", "get \"a\\", "it's"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[cfg(feature = "console")]
    #[test]
    fn the_last_word_is_found_in_a_line_that_is_not_finished() {
        for (line, start, word) in [
            ("", 0, ""),
            ("get ", 4, ""),
            ("get no", 4, "no"),
            ("get a\\ b", 4, "a b"),
            ("get 'my no", 4, "my no"),
            ("get 'a b' \"c d", 10, "c d"),
            ("get x'y z", 4, "xy z"),
        ] {
            assert_eq!(last(line), (start, word.to_owned()), "{line}");
        }
        for name in ["a", "a b", "it's", "a\\b"] {
            assert_eq!(split(&quoted(name)).unwrap(), [name]);
        }
        assert_eq!((quoted("my dir/").as_str(), last("get 'my dir/x").1.as_str()), ("'my dir/", "my dir/x"));
    }

    #[test]
    fn a_quoted_name_is_one_word_whatever_it_holds() {
        for name in ["a", "a b", "'", "\"", "\\", "a\\'\"b", "", "  ", "é"] {
            let single = format!("'{}'", name.replace('\'', r"'\''"));
            let double = format!("\"{}\"", name.replace('\\', r"\\").replace('"', "\\\""));
            assert_eq!(split(&single).unwrap(), [name]);
            assert_eq!(split(&double).unwrap(), [name]);
        }
    }
}
