//! Good and hostile values, at random.

use std::net::IpAddr;

use crate::limits;

/// A source of values. Every call has a fault with about the same chance.
pub(super) struct Values<'a> {
    /// Gives a number below another.
    pub(super) chance: Box<dyn FnMut(usize) -> usize + 'a>,
    /// One in so many values is bad.
    pub(super) rarity: usize,
}

impl Values<'_> {
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.chance)(end)
    }

    pub(super) fn one_of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())].clone()
    }

    pub(super) fn value<T: Clone>(&mut self, good: &[T], bad: &[T]) -> T {
        let some = if self.below(self.rarity) == 0 { bad } else { good };
        self.one_of(some)
    }

    pub(super) fn text(&mut self, good: &[&str], bad: &[&str]) -> String {
        self.value(good, bad).to_owned()
    }

    pub(super) fn id(&mut self) -> String {
        let (long, longer) = ("x".repeat(64), "x".repeat(65));
        let good = ["a", "b", "c", "d", "e", "f.1-_", &long];
        let bad = ["", &longer, "a b", "a/b", "..", "é", "get", "status", "\0", "a\nexpire peer=b", &longer.repeat(99)];
        // Two dots are as good as any: an id is no path.
        self.text(&good, &bad.map(|bad| if bad == ".." { "/" } else { bad }))
    }

    pub(super) fn zone(&mut self) -> String {
        self.text(&["", "z1", "z2"], &["a b", "\u{202e}", &"x".repeat(65), "z\0"])
    }

    pub(super) fn path(&mut self) -> String {
        let (part, path) = ("x".repeat(256), "x/".repeat(512) + "x");
        let good = ["x", "X", "d/x", "d/É.txt", "z z", "a..b", "🐝\\%2f", "*"];
        let bad = [
            "",
            "/",
            "/x",
            "x/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "../../etc/passwd",
            "d/.git",
            "a\0b",
            "a\nb",
            "\u{9b}2J",
        ];
        if self.below(8) == 0 { self.text(&good, &[&part, &path]) } else { self.text(&good, &bad) }
    }

    pub(super) fn content(&mut self) -> Vec<u8> {
        let good = [1, 2, 3, 255].map(|byte| vec![byte; 32]);
        let bad = [vec![], vec![1; 31], vec![1; 33], vec![0; 10_000]];
        self.value(&good, &bad)
    }

    pub(super) fn size(&mut self) -> u64 {
        // Of most contents everybody knows the size.
        if self.below(8) > 0 {
            return 7;
        }
        self.value(&[0, 1, limits::CONTENT_BYTES], &[limits::CONTENT_BYTES + 1, u64::MAX, u64::MAX - 1, 1 << 63])
    }

    pub(super) fn list<T>(&mut self, most: usize, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| value(self)).collect()
    }

    /// Where a call comes from.
    pub(super) fn from(&mut self) -> IpAddr {
        let good = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "127.0.0.1"];
        self.text(&good, &["0.0.0.0", "169.254.169.254", "224.0.0.1", "fe80::1"]).parse().expect("all are addresses")
    }
}
