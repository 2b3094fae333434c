//! How times and tables look to a person. Pure.

use std::time::Duration;

use crate::paint;
pub(super) use crate::size::shown as size;

/// `34 MiB in 1.2 s (28 MiB/s)`.
pub(super) fn speed(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let rate = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
    format!("{} in {seconds:.1} s ({}/s)", size(bytes), size(rate as u64))
}

/// Rows under a head, each column as wide as it needs; the first is aligned to the right. Every row
/// has as many cells as the head.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut widths = vec![0; head.len()];
    for row in rows.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(cell));
        }
    }
    let mut text = String::new();
    for (number, row) in [&head].into_iter().chain(rows).enumerate() {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let room = " ".repeat(width - columns(cell));
            let cell = if column == 0 { format!("{room}{cell}") } else { format!("  {cell}{room}") };
            line.push_str(&cell);
        }
        let line = line.trim_end();
        text.push_str(&if number == 0 { paint::bold(line) } else { line.to_owned() });
        text.push('\n');
    }
    text
}

/// Columns that a text takes on a terminal: none for what is set above the letter before it, two for the
/// letters of East Asia and for emoji (Unicode Standard Annex 11, in its broad lines).
fn columns(text: &str) -> usize {
    let columns = |c: char| match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' => 2,
        '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' => 2,
        '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    };
    text.chars().map(columns).sum()
}

/// At most `width` characters of a name: its end, which tells most.
pub(super) fn shortened(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length + 1 - width).collect();
    format!("…{end}")
}

/// As much of a row as fits into `width` columns.
#[cfg(feature = "console")]
pub(super) fn cut(row: &str, width: usize) -> String {
    let mut left = width;
    let fits = |c: &char| {
        let wide = columns(c.encode_utf8(&mut [0; 4]));
        let fits = wide <= left;
        left -= wide.min(left);
        fits
    };
    row.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_told_of_any_time() {
        assert_eq!(speed(10 << 20, Duration::from_secs(2)), "10 MiB in 2.0 s (5.0 MiB/s)");
        assert_eq!(speed(0, Duration::ZERO), "0 bytes in 0.0 s (0 bytes/s)");
    }

    #[test]
    fn columns_stand_below_one_another() {
        let rows = [["1 byte", "é"], ["10 bytes", "bcd"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&["size", "path"], &rows), "    size  path\n  1 byte  é\n10 bytes  bcd\n");
        let rows = [["日本.txt", "x"], ["🐝e\u{301}", "x"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&["path", "id"], &rows), "    path  id\n日本.txt  x\n     🐝e\u{301}  x\n");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shortened("notes.txt", 9), "notes.txt");
        assert_eq!(shortened("é/notes.txt", 6), "…s.txt");
    }
}
