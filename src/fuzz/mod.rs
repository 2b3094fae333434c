//! The fuzz targets: each takes any bytes and panics where an oracle is contradicted. They stand beside what
//! they try, are here by name, and run in two ways: with cargo-fuzz (`make fuzz`), and here as ordinary
//! tests, over the seeds in `fuzz/seeds` and what is made of them.

mod names;
mod pieces;

use std::ops::RangeInclusive;

#[cfg(feature = "peer")]
use crate::peer::{http, share, swarm};
#[cfg(feature = "tracker")]
use crate::tracker;

/// Runs a target, by its name, on some bytes.
pub fn check(target: &str, data: &[u8]) {
    match target {
        "names" => names::check(data),
        "pieces" => pieces::check(data),
        #[cfg(feature = "peer")]
        "requests" => http::oracle::requests(data),
        #[cfg(feature = "peer")]
        "ranges" => http::oracle::ranges(data),
        #[cfg(feature = "peer")]
        "news" => swarm::oracle::check(data),
        #[cfg(feature = "peer")]
        "index" => share::oracle::check(data),
        #[cfg(feature = "tracker")]
        "registry" => tracker::oracle::check(data),
        _ => panic!("there is no target {target}"),
    }
}

/// Fuzzed bytes, taken as values; there is no end of zeros behind them.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(crate) fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// A number below `end`, out of no more bytes than that takes.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let bytes = 1 + (end - 1).checked_ilog2().unwrap_or_default() / 8;
        (0..bytes).fold(0, |number, _| number << 8 | usize::from(self.byte())) % end
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// Some of the next bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = self.below(most + 1).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        time::{Duration, Instant},
    };

    use super::*;

    /// How long each target is tried here.
    const TIME: Duration = Duration::from_secs(2);

    /// SplitMix64.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((word ^ (word >> 31)) % end as u64) as usize
        }

        fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
            let start = self.below(bytes.len() + 1);
            let length = self.below(bytes.len() - start + 1);
            &bytes[start..start + length.min(1 << self.below(16))]
        }

        /// Changes bytes in one of the ways that fuzzers have.
        fn mutate(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
            let at = self.below(bytes.len() + 1);
            let other = &seeds[self.below(seeds.len())];
            let insert = match self.below(6) {
                0 if at < bytes.len() => return bytes[at] ^= 1 << self.below(8),
                1 => {
                    let cut = self.part(bytes).len();
                    return drop(bytes.drain(at..bytes.len().min(at + cut)));
                }
                2 => vec![self.below(256) as u8],
                3 => vec![b"\0\r\n %/.-,09\x7f\xff"[self.below(13)]],
                4 => self.part(bytes).to_vec(),
                _ => self.part(other).to_vec(),
            };
            drop(bytes.splice(at..at, insert));
        }
    }

    /// Tries a target on its seeds, and on what is made of them: the same from run to run, as far as it gets.
    fn run(target: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(seeds.len() >= 3, "{} has seeds", folder.display());
        for (file, seed) in files.iter().zip(&seeds) {
            // Shown when it fails, as below.
            println!("{}", file.display());
            check(target, seed);
        }
        let (began, mut chance) = (Instant::now(), Chance(1));
        while began.elapsed() < TIME {
            let mut bytes = seeds[chance.below(seeds.len())].clone();
            for _ in 0..=chance.below(6) {
                chance.mutate(&mut bytes, &seeds);
            }
            let result = std::panic::catch_unwind(|| check(target, &bytes));
            assert!(result.is_ok(), "{target} of \"{}\"", bytes.escape_ascii());
        }
    }

    #[test]
    fn names() {
        run("names");
    }

    #[test]
    fn pieces() {
        run("pieces");
    }

    #[cfg(feature = "peer")]
    #[test]
    fn requests() {
        run("requests");
    }

    #[cfg(feature = "peer")]
    #[test]
    fn ranges() {
        run("ranges");
    }

    #[cfg(feature = "peer")]
    #[test]
    fn news() {
        run("news");
    }

    #[cfg(feature = "peer")]
    #[test]
    fn index() {
        run("index");
    }

    #[cfg(feature = "tracker")]
    #[test]
    fn registry() {
        run("registry");
    }
}
