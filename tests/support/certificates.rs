//! A swarm's own certificates, made as its owner makes them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Folder, run};

/// An authority, and what it has certified.
pub struct Certificates(Folder);

impl Certificates {
    /// A new authority, and certificates for these hosts; the first name of each names its files.
    #[track_caller]
    pub fn new(hosts: &[&str]) -> Self {
        let certificates = Self(Folder::new());
        certificates.make(hosts, 30);
        certificates
    }

    /// Certificates for so many days, from now on; new ones where there are some.
    #[track_caller]
    pub fn make(&self, hosts: &[&str], days: i32) {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/certificates.sh"));
        script.args(hosts).env("FOLDER", self.0.path()).env("DAYS", days.to_string());
        let made = run(script, "");
        assert_eq!(made.code, Some(0), "{made:?}");
        assert_eq!(made.out.lines().count(), hosts.len(), "{made:?}");
    }

    /// One of the files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The flags by which a host speaks TLS.
    pub fn flags(&self, host: &str) -> Vec<String> {
        let path = |file: &str| self.path(file).display().to_string();
        let [cert, key, ca] = [format!("{host}.crt"), format!("{host}.key"), "ca.crt".into()].map(|file| path(&file));
        ["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca].map(str::to_owned).into()
    }
}
