//! Which files are open for writing, as `/proc` tells. Safe code has no better way to ask the kernel (a
//! lease would be one), and this one tells only of processes of the peer's own user; to root, of all.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::Stat;

/// So long an answer is good: looking takes some milliseconds, and there may be many files to ask of.
const GOOD_FOR: Duration = Duration::from_millis(200);

/// What was open for writing when it was looked at last.
#[derive(Default)]
pub(super) struct Writers {
    /// Device and inode of each file.
    files: HashSet<(u64, u64)>,
    looked: Option<Instant>,
}

impl Writers {
    /// Whether somebody can be seen to have a file of the folder `share` open for writing.
    pub(super) fn have(&mut self, share: &Path, stat: &Stat) -> bool {
        if self.looked.is_none_or(|looked| looked.elapsed() > GOOD_FOR) {
            self.files = fs::canonicalize(share).map_or_else(|_| HashSet::new(), |share| look(&share));
            self.looked = Some(Instant::now());
        }
        self.files.contains(&(stat.st_dev, stat.st_ino))
    }
}

fn look(share: &Path) -> HashSet<(u64, u64)> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let processes =
        entries(Path::new("/proc")).filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    let descriptors = processes.flat_map(|process| entries(&process.path().join("fd")));
    descriptors.filter_map(|descriptor| written(share, &descriptor.path())).collect()
}

/// The file of a descriptor, `/proc/<process>/fd/<number>`, if it is one of the share that may be written to.
fn written(share: &Path, descriptor: &Path) -> Option<(u64, u64)> {
    // Others are not even looked at: their disk may not answer.
    if !fs::read_link(descriptor).ok()?.starts_with(share) {
        return None;
    }
    let info = descriptor.parent()?.with_file_name("fdinfo").join(descriptor.file_name()?);
    let info = fs::read_to_string(info).ok()?;
    // As open(2) has them, in octal (proc(5)): the last two bits say for what it is open, 0 is reading.
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    if u32::from_str_radix(flags.trim(), 8).ok()? & 3 == 0 {
        return None;
    }
    let file = fs::metadata(descriptor).ok()?;
    file.is_file().then(|| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_file_open_for_writing_is_seen_and_who_reads_it_is_not() {
        let folder = std::env::temp_dir().join(format!("enjambre-writers-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        let have = || Writers::default().have(&folder, &rustix::fs::stat(&path).unwrap());
        let writer = fs::File::create(&path).unwrap();
        assert!(have());
        drop(writer);
        let reader = fs::File::open(&path).unwrap();
        assert!(!have());
        drop(reader);
        fs::remove_dir_all(&folder).unwrap();
    }
}
