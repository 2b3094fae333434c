//! What a search text means. Pure.

use std::{iter::Peekable, str::Chars};

/// A search text: part of a path, or with `*` or `?` a pattern for the whole of it. Case does not
/// count; everything else does, also how an accent is encoded.
pub struct Pattern {
    /// Folded.
    text: String,
    is_glob: bool,
}

/// How well a path fits a text that is part of it, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    /// It is the text.
    Path,
    /// Its last part is.
    FileName,
    /// It begins with the text, or its last part does.
    Prefix,
    /// Any other.
    Part,
}

impl Rank {
    pub(super) const ALL: [Self; 4] = [Self::Path, Self::FileName, Self::Prefix, Self::Part];
}

/// What stands before and behind a whole path where [`Pattern::literals`] and [`Pattern::sign`] look for it.
/// No path holds a control character.
pub(super) const END: char = '\0';
/// What marks the beginning of a file's name, where that is looked for.
pub(super) const FILE: char = '\u{1}';

impl Pattern {
    /// The pattern that this text means.
    pub fn new(text: &str) -> Self {
        Self { text: folded(text), is_glob: text.contains(['*', '?']) }
    }

    /// One for the whole of a path, also where the text has neither `*` nor `?`.
    pub fn whole(text: &str) -> Self {
        Self { text: folded(text), is_glob: true }
    }

    /// Whether it is for the whole of a path.
    pub fn is_whole(&self) -> bool {
        self.is_glob
    }

    /// Whether it is so short that too much begins with it.
    pub(super) fn is_letter(&self) -> bool {
        self.text.chars().nth(1).is_none()
    }

    /// Whether a path is meant.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_folded(&folded(path))
    }

    /// Whether a path is meant, that is folded already.
    pub(super) fn matches_folded(&self, path: &str) -> bool {
        if self.is_glob { glob(&self.text, path) } else { path.contains(&self.text) }
    }

    /// Whether there can be a path that is meant: none holds a control character.
    pub(super) fn can_match(&self) -> bool {
        !self.text.contains(char::is_control)
    }

    /// How well a path fits, folded, that the text is part of.
    pub(super) fn rank(&self, path: &str) -> Rank {
        let file_name = path.rsplit('/').next().unwrap_or_default();
        if path == self.text {
            Rank::Path
        } else if file_name == self.text {
            Rank::FileName
        } else if path.starts_with(&self.text) || file_name.starts_with(&self.text) {
            Rank::Prefix
        } else {
            Rank::Part
        }
    }

    /// What every path of a rank holds, folded, with an [`END`] and a `/` before it and an [`END`] behind; none, if
    /// there can be no such path, or if it is too much to be looked for before the rest.
    pub(super) fn sign(&self, rank: Rank) -> Option<String> {
        let text = &self.text;
        match rank {
            Rank::Path => Some(format!("{END}/{text}{END}")),
            Rank::FileName => (!text.contains('/')).then(|| format!("/{text}{END}")),
            Rank::Prefix => (!self.is_letter()).then(|| format!("/{text}")),
            Rank::Part => Some(text.clone()),
        }
    }

    /// Of [`Rank::Prefix`], what a path holds one of in that form, if an [`FILE`] stands before its file's name.
    pub(super) fn beginnings(&self) -> [String; 2] {
        [format!("{END}/{}", self.text), format!("{FILE}{}", self.text)]
    }

    /// What every path holds that is meant, in that form.
    pub(super) fn literals(&self) -> Vec<String> {
        if self.is_glob {
            let whole = format!("{END}/{}{END}", self.text);
            whole.split(['*', '?']).map(str::to_owned).collect()
        } else {
            vec![self.text.clone()]
        }
    }
}

/// A text with its capitals made small.
pub(super) fn folded(text: &str) -> String {
    let mut folded = Vec::with_capacity(text.len());
    fold_into(&mut folded, text);
    String::from_utf8(folded).unwrap_or_default()
}

/// Appends `text` with its capitals made small, one character for one, so that `?` stays one.
pub(super) fn fold_into(folded: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let plain = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
        let start = folded.len();
        folded.extend_from_slice(&rest.as_bytes()[..plain]);
        folded[start..].make_ascii_lowercase();
        let mut chars = rest[plain..].chars();
        let Some(c) = chars.next() else { return };
        folded.extend_from_slice(fold(c).encode_utf8(&mut [0; 4]).as_bytes());
        rest = chars.as_str();
    }
}

fn fold(c: char) -> char {
    match c {
        // Greek has two small sigmas for one capital.
        'ς' => 'σ',
        // No script in here has capitals, and to look Chinese ones up takes time.
        '\u{2e80}'..='\u{a63f}' => c,
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
    fn every_letter_is_folded_as_unicode_says() {
        for c in (char::MIN..=char::MAX).filter(|c| *c != 'ς') {
            assert_eq!(Some(fold(c)), c.to_lowercase().next());
            assert_eq!(folded(&format!("A{c}B{c}")), format!("a{}b{}", fold(c), fold(c)));
        }
    }

    #[test]
    fn what_fits_best_comes_first() {
        for (path, rank) in [
            ("notes", Rank::Path),
            ("d/notes", Rank::FileName),
            ("notes.txt", Rank::Prefix),
            ("notes/d/x", Rank::Prefix),
            ("d/notes.txt", Rank::Prefix),
            ("d/notes/x", Rank::Part),
            ("d/my-notes", Rank::Part),
        ] {
            let pattern = Pattern::new("NOTES");
            assert_eq!(pattern.rank(path), rank, "{path}");
            assert!(format!("{END}/{path}{END}").contains(&pattern.sign(rank).unwrap()), "{path}");
        }
        assert!(Rank::ALL.is_sorted());
        assert_eq!(Pattern::new("d/x").sign(Rank::FileName), None);
    }

    #[test]
    fn what_is_meant_holds_all_literals() {
        assert_eq!(Pattern::new("Log").literals(), ["log"]);
        assert_eq!(Pattern::new("A/*b?C").literals(), ["\0/a/", "b", "c\0"]);
        assert_eq!(Pattern::new("*").literals(), ["\0/", "\0"]);
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
