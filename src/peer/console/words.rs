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
                match rest.next().ok_or("a ' is not closed")? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match rest.next().ok_or("a \" is not closed")? {
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
