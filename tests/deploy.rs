//! What there is for a fleet: units, `make deploy` with ssh and scp that stay on this machine, user-data, a template.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
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

/// Machines that are folders, and what ssh, scp and all they run there make of them.
struct Machines {
    folder: Folder,
}

impl Machines {
    fn new() -> Self {
        let machines = Self { folder: Folder::new() };
        let at = machines.folder.path().display();
        // Options, the host, and the command; as sshd has it, a shell reads the command again.
        let begin =
            format!("#!/bin/sh\nwhile [ \"${{1#-}}\" != \"$1\" ]; do [ \"$1\" = -o ] && shift; shift; done\nat={at}\n");
        let enter = "export HOST=$1 DESTDIR=$at/$1/root HOME=$at/$1/home; shift\n";
        machines.program(
            "ssh",
            &format!("{begin}{enter}[ ! -e $at/$HOST/dead ] || exit 255\nmkdir -p $DESTDIR $HOME; cd $HOME; exec sh -c \"$*\"\n"),
        );
        let copy = "for last; do :; done\nto=$at/${last%%:*}/home/${last#*:}\n\
            while [ $# -gt 1 ]; do echo \"$1\" >>$at/copied; cp \"$1\" \"$to\"; shift; done\n";
        machines.program("scp", &format!("{begin}{copy}"));
        machines.program("sudo", "#!/bin/sh\n[ \"$1\" = -n ] && shift; exec \"$@\"\n");
        machines.program("uname", &format!("#!/bin/sh\ncat {at}/$HOST/machine\n"));
        let state = "state=$DESTDIR/services; mkdir -p $state; verb=$1; shift; [ \"$1\" = --quiet ] && shift\n\
            case $verb in\nis-*) [ -e $state/$1.${verb#is-} ] ;;\nenable) touch $state/$1.enabled ;;\n\
            start|restart) touch $state/$1.active; echo \"$verb $1\" >>$state/log ;;\nesac\n";
        machines.program("systemctl", &format!("#!/bin/sh\n{state}"));
        for (name, machine) in [("x86_64", "x86-64"), ("aarch64", "arm")] {
            for role in ["peer", "tracker"] {
                machines
                    .folder
                    .write(format!("dist/{name}-unknown-linux-musl/{role}"), format!("{role} for {machine}"));
            }
        }
        machines
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.write(format!("bin/{name}"), text);
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A machine of this kind.
    fn add(&self, name: &str, machine: &str) {
        self.folder.write(format!("{name}/machine"), format!("{machine}\n"));
    }

    /// A command in whose eyes these are the machines.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.folder.join("bin").display()));
        command
    }

    /// Deploys to `hosts`, with the tracker at `tracker`.
    fn deploy(&self, tracker: &str, hosts: &str, arguments: &[&str]) -> Finished {
        let mut command = self.command(&file("scripts/deploy.sh").display().to_string());
        command.args(arguments).env("TRACKER", tracker).env("HOSTS", hosts).env("DIST", self.folder.join("dist"));
        command.env_remove("TRACKER_ADDRESS");
        run(command, "")
    }

    /// A file of a machine, as text.
    fn read(&self, path: &str) -> Option<String> {
        self.folder.read(path).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// Everything on the machines, with the time it was changed.
    fn all(&self) -> BTreeSet<String> {
        let mut command = Command::new("find");
        command.arg(self.folder.path()).args(["-path", "*/root/*", "-type", "f", "-printf", "%p %T@ %m\n"]);
        run(command, "").out.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_fleet_is_brought_to_where_it_should_be_and_a_second_time_nothing_is_done() {
    let machines = Machines::new();
    machines.add("hub", "x86_64");
    machines.add("admin@a", "aarch64");
    machines.add("b", "x86_64");
    let hosts = "admin@a b hub";
    let dry = machines.deploy("hub", hosts, &["--dry-run"]);
    assert_eq!(
        (dry.code, dry.out.matches("would install").count(), dry.out.matches("would start").count()),
        (Some(0), 11, 4),
        "{dry:?}"
    );
    assert!(machines.all().is_empty() && machines.read("copied").is_none(), "{:?}", machines.all());

    let first = machines.deploy("hub", hosts, &[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    for (path, expected) in [
        ("hub/root/usr/local/bin/tracker", "tracker for x86-64"),
        ("hub/root/usr/local/bin/peer", "peer for x86-64"),
        ("admin@a/root/usr/local/bin/peer", "peer for arm"),
        ("b/root/usr/local/bin/peer", "peer for x86-64"),
        ("b/root/etc/enjambre/fleet.env", "ENJAMBRE_TRACKER=hub:50051\n"),
        ("b/root/services/log", "restart enjambre-peer\n"),
        ("hub/root/services/log", "restart enjambre-tracker\nrestart enjambre-peer\n"),
    ] {
        assert_eq!(machines.read(path).as_deref(), Some(expected), "{path}: {first:?}");
    }
    let unit = fs::read_to_string(file("deploy/enjambre-peer.service")).unwrap();
    assert_eq!(machines.read("b/root/etc/systemd/system/enjambre-peer.service"), Some(unit));
    assert_eq!(machines.read("b/root/usr/local/bin/tracker"), None, "it is none");
    assert!(machines.all().iter().any(|file| file.contains("b/root/usr/local/bin/peer ") && file.ends_with(" 755")));

    let (before, copied) = (machines.all(), machines.read("copied"));
    for arguments in [&[][..], &["--dry-run"]] {
        let second = machines.deploy("hub", hosts, arguments);
        assert_eq!(
            (second.code, second.out.as_str()),
            (Some(0), "hub: nothing to do\nadmin@a: nothing to do\nb: nothing to do\n")
        );
    }
    assert_eq!((machines.all(), machines.read("copied")), (before, copied), "nothing was touched");

    // A service that does not run is started, and what differs is all that is copied.
    fs::remove_file(machines.folder.join("b/root/services/enjambre-peer.active")).unwrap();
    machines.folder.write("dist/aarch64-unknown-linux-musl/peer", "a newer peer for arm");
    fs::remove_file(machines.folder.join("copied")).unwrap();
    let third = machines.deploy("hub", hosts, &[]);
    assert_eq!(third.code, Some(0), "{third:?}");
    let lines: Vec<_> = third.out.lines().collect();
    assert_eq!(
        lines,
        [
            "hub: nothing to do",
            "admin@a: installed /usr/local/bin/peer",
            "admin@a: restarted enjambre-peer",
            "b: started enjambre-peer",
        ]
    );
    let copied = machines.read("copied").unwrap();
    assert_eq!(copied.lines().filter(|file| !file.ends_with("install.sh")).count(), 1, "{copied}");
    assert_eq!(machines.read("admin@a/root/usr/local/bin/peer").as_deref(), Some("a newer peer for arm"));
    assert!(!machines.folder.join("b/home/.enjambre-deploy").exists(), "nothing is left of it");
}

#[test]
fn one_host_that_fails_holds_no_other_up_and_is_named() {
    let machines = Machines::new();
    machines.add("hub", "x86_64");
    machines.add("toaster", "mips");
    machines.add("dead", "x86_64");
    machines.folder.write("dead/dead", "");
    machines.add("b", "x86_64");
    let finished = machines.deploy("hub", "toaster dead b", &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("toaster: there is no binary for it (machine mips)"), "{finished:?}");
    assert!(finished.err.contains("failed at toaster dead:"), "{finished:?}");
    assert_eq!(machines.read("b/root/usr/local/bin/peer").as_deref(), Some("peer for x86-64"));
    fs::remove_file(machines.folder.join("dist/x86_64-unknown-linux-musl/peer")).unwrap();
    let finished = machines.deploy("hub", "b", &[]);
    assert!(finished.code == Some(1) && finished.err.contains("peer is missing: make release"), "{finished:?}");
    for (tracker, hosts, arguments) in [
        ("", "b", &[][..]),
        ("-oProxyCommand=x", "b", &[]),
        ("hub", "b;x", &[]),
        ("hub", "-b", &[]),
        ("hub", "b", &["--dryrun"]),
    ] {
        let finished = machines.deploy(tracker, hosts, arguments);
        assert!(finished.code == Some(2) && finished.err.starts_with("error: "), "{tracker} {hosts}: {finished:?}");
    }
}

#[test]
fn user_data_asks_for_the_zone_by_a_token_and_installs_what_its_role_needs() {
    let machines = Machines::new();
    machines.add("new", "aarch64");
    let at = machines.folder.path().display();
    // Metadata as instances have it that ask for a token; and a bucket.
    machines.program(
        "curl",
        "#!/bin/sh\nfor last; do :; done\ncase \"$*\" in\n\
         *'-X PUT'*'token-ttl-seconds'*/latest/api/token) echo TOKEN ;;\n\
         *'metadata-token: TOKEN'*/instance-id) echo i-0123 ;;\n\
         *'metadata-token: TOKEN'*/placement/availability-zone) echo eu-west-1b ;;\n\
         *) exit 22 ;;\nesac\n",
    );
    machines.program(
        "aws",
        &format!(
            "#!/bin/sh\nfrom=${{4#s3://bucket/x/}}\ncase $from in\n\
         deploy/*) cp {}/$from $5 ;;\ndist/*) cp {at}/$from $5 ;;\n*) exit 1 ;;\nesac\n",
            env!("CARGO_MANIFEST_DIR")
        ),
    );
    let start = |role: &str, host: &str, more: &[(&str, &str)]| {
        let mut command = machines.command("sh");
        command.arg(file("deploy/user-data.sh")).env("ROLE", role).env("HOST", host);
        command.env("DESTDIR", machines.folder.join(format!("{host}/root"))).envs(more.iter().copied());
        run(command, "")
    };
    let settings = [("TRACKER", "10.0.0.4:50051"), ("SOURCE", "s3://bucket/x")];
    let peer = start("peer", "new", &settings);
    assert_eq!(peer.code, Some(0), "{peer:?}");
    assert_eq!(
        machines.read("new/root/etc/enjambre/host.env").as_deref(),
        Some("PEER_ID=i-0123\nENJAMBRE_ZONE=eu-west-1b\n")
    );
    assert_eq!(machines.read("new/root/etc/enjambre/fleet.env").as_deref(), Some("ENJAMBRE_TRACKER=10.0.0.4:50051\n"));
    assert_eq!(machines.read("new/root/usr/local/bin/peer").as_deref(), Some("peer for arm"));
    assert_eq!(machines.read("new/root/services/log").as_deref(), Some("restart enjambre-peer\n"));
    machines.add("hub", "x86_64");
    let tracker = start("tracker", "hub", &settings[1..]);
    assert_eq!(tracker.code, Some(0), "{tracker:?}");
    assert_eq!(machines.read("hub/root/usr/local/bin/tracker").as_deref(), Some("tracker for x86-64"));
    assert_eq!(start("peer", "new", &settings[1..]).code, Some(2), "a peer without a tracker");
}

#[test]
fn the_template_refers_to_nothing_that_it_does_not_define() {
    let template = fs::read_to_string(file("deploy/cloudformation.yaml")).unwrap();
    let (mut section, mut defined) = ("", BTreeSet::new());
    for line in template.lines() {
        match line.strip_prefix("  ") {
            None if line.ends_with(':') => section = line,
            Some(name) if !name.starts_with(' ') && matches!(section, "Parameters:" | "Resources:") => {
                assert!(defined.insert(name.trim_end_matches(':')), "{name} comes twice");
            }
            _ => {}
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric();
    let mut used = BTreeSet::new();
    for (mark, offset) in [("!Ref ", 5), ("!GetAtt ", 8), ("${", 2)] {
        for (at, _) in template.match_indices(mark) {
            let name = &template[at + offset..];
            let name = &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())];
            // What CloudFormation itself defines.
            if name != "AWS" {
                used.insert(name);
            }
        }
    }
    assert!(used.len() > 10 && used.is_subset(&defined), "{:?}", used.difference(&defined));
    let parameters: Vec<_> = defined.difference(&used).copied().collect();
    assert_eq!(
        parameters,
        ["BytesAmongMembers", "CallsAmongMembers", "Fleet"],
        "nothing else is there for its own sake"
    );
    if has("cfn-lint", "none; pip install cfn-lint") {
        succeeds("cfn-lint", &["deploy/cloudformation.yaml"], &file(""));
    }
}

#[test]
fn the_images_hold_a_binary_and_run_as_nobody() {
    let text = fs::read_to_string(file("Dockerfile")).unwrap();
    for role in ["tracker", "peer"] {
        let stage = text.split("\nFROM ").find(|stage| stage.starts_with(&format!("scratch AS {role}\n"))).unwrap();
        assert!(stage.contains(&format!("\nCOPY --from=binaries /{role} /{role}\n")), "{stage}");
        assert!(
            stage.contains("\nUSER 65532:65532\n") && stage.contains(&format!("\nENTRYPOINT [\"/{role}\"]\n")),
            "{stage}"
        );
    }
    assert!(
        text.split("\nFROM ")
            .skip(1)
            .all(|stage| stage.starts_with("scratch AS ") || stage.starts_with("${TARGETARCH} AS "))
    );
    let release = fs::read_to_string(file("Makefile")).unwrap();
    let targets = release.lines().find_map(|line| line.strip_prefix("TARGETS = ")).unwrap();
    for target in targets.split(' ') {
        assert!(text.contains(&format!("COPY dist/{target}/ /")), "{target}");
    }
}
