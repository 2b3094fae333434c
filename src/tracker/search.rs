//! What a search text means. Pure.

use std::{iter::Peekable, str::Chars};

/// A search text: part of a path, or with `*` or `?` a pattern for the whole of it. Case does not
/// count; everything else does, also how an accent is encoded.
pub struct Pattern {
    /// Folded.
    text: String,
    is_glob: bool,
    /// The path under test, folded; kept so that a scan allocates once.
    path: String,
}

impl Pattern {
    /// The pattern that this text means.
    pub fn new(text: &str) -> Self {
        let mut folded = String::with_capacity(text.len());
        fold_into(&mut folded, text);
        Self { text: folded, is_glob: text.contains(['*', '?']), path: String::new() }
    }

    /// Whether a path is meant.
    pub fn matches(&mut self, path: &str) -> bool {
        self.path.clear();
        fold_into(&mut self.path, path);
        if self.is_glob { glob(&self.text, &self.path) } else { self.path.contains(&self.text) }
    }
}

/// Appends `text` with its capitals made small, one character for one, so that `?` stays one.
fn fold_into(folded: &mut String, text: &str) {
    if text.is_ascii() {
        let start = folded.len();
        folded.push_str(text);
        folded[start..].make_ascii_lowercase();
    } else {
        folded.extend(text.chars().map(fold));
    }
}

fn fold(c: char) -> char {
    match c {
        // Greek has two small sigmas for one capital.
        'ς' => 'σ',
        // Only `İ` becomes two characters, of which the first is the letter.
        c => c.to_lowercase().next().unwrap_or(c),
    }
}

/// Matches the whole path. Where a star turns out to have taken too little, only the last one is
/// tried again, one character longer: what earlier ones took was the shortest that works, and
/// longer never helps. So the time is at most pattern times path, never exponential.
fn glob(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.chars().peekable(), path.chars());
    let mut last_star: Option<(Peekable<Chars<'_>>, Chars<'_>)> = None;
    loop {
        if pattern.next_if_eq(&'*').is_some() {
            last_star = Some((pattern.clone(), path.clone()));
            continue;
        }
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(c)) if wanted == c => {}
            // The path has ended, and a longer star would leave it even less.
            (_, None) => return false,
            _ => {
                let Some((after_star, rest)) = &mut last_star else { return false };
                rest.next();
                (pattern, path) = (after_star.clone(), rest.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_finds_what_they_mean() {
        for (text, path, found) in [
            // Part of the path, whatever the case.
            ("notes", "d/Notes.txt", true),
            ("D/NO", "d/notes.txt", true),
            ("notes.txt.", "d/notes.txt", false),
            ("É", "caf\u{e9}.txt", true),
            ("é", "CAF\u{c9}.TXT", true),
            ("ΟΔΟΣ", "οδος", true),
            ("οδος", "ΟΔΟΣ/1", true),
            ("istanbul", "İstanbul.jpg", true),
            ("🐝", "a 🐝 b", true),
            ("e\u{301}", "é", false),
            ("[a-z]", "x", false),
            ("[a-z]", "x[A-Z].log", true),
            // Stars and question marks: the whole path.
            ("*", "a/b", true),
            ("*.txt", "d/e/notes.TXT", true),
            ("*.txt", "notes.txt.gz", false),
            ("notes*", "d/notes.txt", false),
            ("*notes*", "d/notes.txt", true),
            ("d/*/x", "d/e/f/x", true),
            ("?.txt", "a.txt", true),
            ("?.txt", "é.txt", true),
            ("?.txt", "🐝.txt", true),
            ("?stanbul", "İstanbul", true),
            ("?.txt", ".txt", false),
            ("?.txt", "ab.txt", false),
            ("??", "a", false),
            ("a*", "a", true),
            ("a**", "a", true),
            ("**a", "ba", true),
            ("*?", "a", true),
            ("?*?", "a", false),
            ("*a*b", "axbxb", true),
            ("*a*b", "axbxa", false),
            ("a*b*c", "a-b-b-c", true),
            ("É?", "éa", true),
        ] {
            assert_eq!(Pattern::new(text).matches(path), found, "{text:?} {path:?}");
        }
    }

    #[test]
    fn a_pattern_is_used_again_and_again() {
        let mut pattern = Pattern::new("b*");
        assert!(pattern.matches("bc") && !pattern.matches("ab") && pattern.matches("b"));
    }

    /// The obvious definition, exponential and all.
    fn naive(pattern: &[char], path: &[char]) -> bool {
        match pattern {
            [] => path.is_empty(),
            ['*', rest @ ..] => (0..=path.len()).any(|taken| naive(rest, &path[taken..])),
            [wanted, rest @ ..] => {
                path.first().is_some_and(|c| matches!(wanted, '?') || wanted == c) && naive(rest, &path[1..])
            }
        }
    }

    #[test]
    fn every_short_pattern_means_what_its_definition_says() {
        fn words(letters: &str, longest: usize) -> Vec<String> {
            let mut words = vec![String::new()];
            let mut start = 0;
            for _ in 0..longest {
                let end = words.len();
                for at in start..end {
                    words.extend(letters.chars().map(|letter| format!("{}{letter}", words[at])).collect::<Vec<_>>());
                }
                start = end;
            }
            words
        }
        let paths = words("ab", 5);
        for pattern in words("ab*?", 4) {
            let chars: Vec<char> = pattern.chars().collect();
            for path in &paths {
                let expected = naive(&chars, &path.chars().collect::<Vec<_>>());
                assert_eq!(glob(&pattern, path), expected, "{pattern:?} {path:?}");
            }
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let start = std::time::Instant::now();
        let path = "a".repeat(1000);
        for pattern in ["*a".repeat(500) + "b", format!("*{}b", "a".repeat(499)), "*".repeat(1000) + "b"] {
            assert!(!Pattern::new(&pattern).matches(&path));
        }
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}
