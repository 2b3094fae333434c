//! Numbers of bytes as a person writes and reads them, and how much of a disk is kept free. Pure.

use std::{fmt, str::FromStr};

use crate::limits;

/// Why a text is no number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBytes {
    /// It is none, or has another unit.
    NoNumber,
    /// It does not fit 64 bits.
    TooMany,
}

/// Reads `5M` and the like: K, M and G are 2^10, 2^20 and 2^30, in either case, and may be written
/// KiB, MiB and GiB. `KB` is refused, since some mean 1000 by it.
///
/// # Errors
/// When it is no such number.
pub fn bytes(text: &str) -> Result<u64, BadBytes> {
    let end = text.find(|other: char| !other.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(BadBytes::NoNumber),
    };
    if number.is_empty() {
        return Err(BadBytes::NoNumber);
    }
    number.parse().ok().and_then(|number: u64| number.checked_mul(unit)).ok_or(BadBytes::TooMany)
}

/// Bytes in binary units, three digits or so: `999 bytes`, `1.2 KiB`, `34 GiB`.
pub fn shown(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
    }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be printed as 1024 is 1.0 of the next unit.
    while value >= 1023.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", units[unit])
}

/// How much of a disk no upload and no download may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepFree {
    bytes: u64,
    percent: u64,
}

impl Default for KeepFree {
    fn default() -> Self {
        Self { bytes: limits::KEEP_FREE_BYTES, percent: limits::KEEP_FREE_PERCENT }
    }
}

impl KeepFree {
    /// Bytes of a disk that has so many in all.
    pub fn of(self, disk: u64) -> u64 {
        self.bytes.min((u128::from(disk) * u128::from(self.percent) / 100) as u64)
    }
}

/// Why a text does not say how much is to be kept free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeepFree;

impl fmt::Display for BadKeepFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what is kept free is a number of bytes, as 500M or 2G, or a part of the disk, from 0% to 99%")
    }
}

impl std::error::Error for BadKeepFree {}

impl FromStr for KeepFree {
    type Err = BadKeepFree;

    fn from_str(text: &str) -> Result<Self, BadKeepFree> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent < 100).ok_or(BadKeepFree)?;
                Ok(Self { bytes: u64::MAX, percent })
            }
            None => Ok(Self { bytes: bytes(text).map_err(|_| BadKeepFree)?, percent: 100 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_a_person_would_choose() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 << 10, "10 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(shown(bytes), text);
        }
    }

    #[test]
    fn what_is_kept_free_is_bytes_or_a_part_and_by_itself_the_lesser_of_both() {
        let kept = |text: &str, disk| text.parse::<KeepFree>().map(|keep| keep.of(disk));
        for (text, disk, bytes) in [
            ("0", 1 << 40, 0),
            ("500M", 1 << 40, 500 << 20),
            ("2G", 1 << 30, 1 << 30),
            ("0%", 1 << 40, 0),
            ("5%", 1000, 50),
            ("99%", u64::MAX, u64::MAX / 100 * 99 + 14),
        ] {
            assert_eq!(kept(text, disk), Ok(bytes), "{text} of {disk}");
        }
        for text in ["", "%", "100%", "-1%", "1.5%", "5 %", "5MB", "-1", "x", "99999999999G"] {
            assert_eq!(kept(text, 1), Err(BadKeepFree), "{text}");
        }
        assert_eq!(KeepFree::default().of(8 << 30), limits::KEEP_FREE_BYTES);
        assert_eq!(KeepFree::default().of(1 << 30), (1 << 30) / 100);
    }
}
