//! plocate, asked for the same texts over the same paths.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::paths;

/// Texts that it is asked for: each starts a process.
pub(crate) const TEXTS: usize = 500;

/// How long it takes where there is nothing to find, in the middle of some runs, and for each text, told to
/// ignore case and print at most a hundred paths.
pub(crate) fn measure(count: usize, texts: &[String]) -> Result<(Duration, Vec<Duration>), String> {
    let folder = std::env::temp_dir().join(format!("enjambre-plocate-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let measured = (|| {
        let (list, database) = (folder.join("paths"), folder.join("db"));
        let mut file = BufWriter::new(File::create(&list)?);
        (0..count).try_for_each(|number| writeln!(file, "/{}", paths::path(number)))?;
        file.flush()?;
        let built = Command::new("plocate-build").arg("-p").args([&list, &database]).status()?;
        if !built.success() {
            return Err(std::io::Error::other("plocate-build failed"));
        }
        let ask = |text: &str| {
            let began = Instant::now();
            let mut plocate = Command::new("plocate");
            plocate.arg("-d").arg(&database).args(["-i", "-l", "100", "--", text]);
            plocate.stdout(Stdio::null()).status().map(|_| began.elapsed())
        };
        let mut starts = (0..51).map(|_| ask("\u{1}\u{2}\u{3}\u{4}")).collect::<Result<Vec<_>, _>>()?;
        starts.sort_unstable();
        Ok((starts[starts.len() / 2], texts.iter().map(|text| ask(text)).collect::<Result<Vec<_>, _>>()?))
    })();
    let _ = fs::remove_dir_all(&folder);
    measured.map_err(|error| format!("plocate: {error}"))
}
