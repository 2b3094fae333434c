//! What `deploy/` holds for a fleet: units.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use support::*;

/// How exposed a unit may be, of 100, in the eyes of `systemd-analyze security`; below 20 it says OK.
const EXPOSURE: &str = "15";

/// A file of the project.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Whether a program is installed; that it is not is said in a line.
fn has(program: &str, package: &str) -> bool {
    let is_there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        println!("skipped: {program} is not installed (Debian: {package})");
    }
    is_there
}

/// Runs a program to its end, which has to be a good one.
#[track_caller]
fn succeeds(program: &str, arguments: &[&str], folder: &Path) -> Finished {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    let finished = run(command, "");
    assert_eq!(finished.code, Some(0), "{program} {arguments:?}: {finished:?}");
    finished
}

#[test]
fn systemd_takes_the_units_and_finds_little_that_is_exposed() {
    if !has("systemd-analyze", "systemd") {
        return;
    }
    let folder = Folder::new();
    for name in ["tracker", "peer"] {
        let unit = fs::read_to_string(file(&format!("deploy/enjambre-{name}.service"))).unwrap();
        let own = binary(name).display().to_string();
        let path = format!("/usr/local/bin/{name}");
        assert_eq!(unit.matches(&path).count(), 1);
        let unit_name = format!("enjambre-{name}.service");
        folder.write(&unit_name, unit.replace(&path, &own));
        let verified = succeeds("systemd-analyze", &["verify", &format!("./{unit_name}")], folder.path());
        assert_eq!(verified.err, "", "it has nothing to say");
        let threshold = format!("--threshold={EXPOSURE}");
        let arguments = ["security", "--no-pager", "--offline=true", &threshold, &format!("./{unit_name}")];
        succeeds("systemd-analyze", &arguments, folder.path());
    }
}
