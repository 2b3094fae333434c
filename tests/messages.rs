//! Every error that a person can cause says what happened, why, and what to do next. One table: each row runs the real
//! binary, and names a part of its sentence for each of the three.
#![cfg(all(feature = "tracker", feature = "peer"))]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use support::*;

/// What is run, and the three parts of what it says; `""` where what happened says why, too.
struct Row {
    binary: &'static str,
    args: Vec<String>,
    stdin: String,
    parts: [&'static str; 3],
}

fn row(binary: &'static str, args: &[&str], parts: [&'static str; 3]) -> Row {
    Row { binary, args: args.iter().map(|&arg| arg.to_owned()).collect(), stdin: String::new(), parts }
}

/// A command of a peer that has joined.
fn typed(command: &str, parts: [&'static str; 3]) -> Row {
    Row { stdin: format!("{command}\nleave\n"), ..row("peer", &["me", "0", "here", "--bind", "127.0.0.1"], parts) }
}

fn id_of(bytes: &[u8]) -> String {
    enjambre::content::ContentId::of(bytes).to_string()
}

#[test]
fn every_error_says_what_happened_why_and_what_to_do_next() {
    let tracker = tracker(&[]);
    let shared = Folder::new();
    for (path, bytes) in [("a", "a"), ("b", "a"), ("logs/1", "one"), ("logs/2", "two"), ("taken", "theirs")] {
        shared.write(path, bytes);
    }
    let giver = peer("giver", shared.path(), tracker.address, &[]);
    giver.joined();
    let other = Folder::new();
    other.write("a", "other");
    let mut second = peer("second", other.path(), tracker.address, &[]);
    second.joined();
    wait_for(PATIENCE, "all is found", || second.search("*").len() == 6);

    let folder = Folder::new();
    for (path, bytes) in [("file", "x"), ("here/taken", "mine"), ("short", "short"), ("no-key", "x"), ("used/x", "x")] {
        folder.write(path, bytes);
    }
    fs::set_permissions(folder.join("short"), fs::Permissions::from_mode(0o600)).unwrap();
    let _user = peer("user", &folder.join("used"), tracker.address, &[]);
    let (port, url) = (giver.address.port().to_string(), format!("http://{}", giver.address));
    let (port, taken) = (port.as_str(), format!("{url}/taken"));
    let (shared_id, none) = (id_of(b"a"), id_of(b"none"));
    let away = "127.0.0.1:1";
    let several = format!("get {shared_id}");
    let nobody = format!("get {none}");
    let clash = format!("get {} taken", id_of(b"one"));

    let rows = [
        // ---- command lines
        row("peer", &[], ["<id> is missing", "", "the command is `peer <id> <port> <folder> [flags]`"]),
        row("peer", &["p", "0"], ["<folder> is missing", "", "the command is `peer <id> <port> <folder> [flags]`"]),
        row(
            "peer",
            &["p", "0", "here", "x"],
            ["unexpected `x`", "", "the command is `peer <id> <port> <folder> [flags]`"],
        ),
        row("peer", &["p", "0", "here", "--wat"], ["unknown flag --wat", "", "`peer --help` lists the flags"]),
        row("peer", &["p", "0", "here", "--zone"], ["--zone needs a value", "", "--zone ZONE"]),
        row("peer", &["p", "0", "here", "--zone=a", "--zone=b"], ["--zone is given twice", "", "give it once"]),
        row(
            "peer",
            &["p", "0", "here", "--public-read=1"],
            ["--public-read takes no value", "", "write --public-read alone"],
        ),
        row(
            "peer",
            &["p q", "0", "here"],
            ["peer id `p q`", "", "1 to 64 letters, digits, dots, dashes or underscores"],
        ),
        row("peer", &["p", "x", "here"], ["port `x`", "", "a number from 0 to 65535"]),
        row("peer", &["p", "0", "gone"], ["folder gone", "does not exist", "make it, or name another"]),
        row("peer", &["p", "0", "file"], ["file", "is not a folder", "name one"]),
        row(
            "peer",
            &["p", "0", "used"],
            ["folder used", "is in use by user", "stop that peer first, or share another folder"],
        ),
        row(
            "peer",
            &["p", port, "here", "--bind", "127.0.0.1"],
            ["port ", "is in use", "choose another, or 0 for any that is free"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--bind", "192.0.2.9"],
            ["192.0.2.9", "is no address of this machine", "change --bind"],
        ),
        row("peer", &["p", "0", "here", "--bind", "name"], ["--bind name", "", "write an address of this machine"]),
        row("peer", &["p", "0", "here", "--tracker", "x"], ["--tracker x", "", "write HOST:PORT"]),
        row("peer", &["p", "0", "here", "--tracker", "h:1,h:1"], ["h:1 is named twice", "", "name each tracker once"]),
        row(
            "peer",
            &["p", "0", "here", "--advertise", "h:1"],
            ["--advertise h:1", "", "write a host's name or address, and no port"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--zone", "a b"],
            ["--zone a b", "", "up to 64 letters, digits, dots, dashes or underscores"],
        ),
        row("peer", &["p", "0", "here", "--upload-limit", "x"], ["--upload-limit x", "", "as 5M, 500K, 1G or 700000"]),
        row(
            "peer",
            &["p", "0", "here", "--download-limit", "1K"],
            ["--download-limit 1K", "take this peer for one that hangs", "at least 32K"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--keep-free", "x"],
            ["--keep-free x", "", "as 500M or 2G, or a part of the disk"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--connections", "0"],
            ["--connections 0", "", "1 to 256 connections, name a number of these"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--public-read"],
            ["--public-read", "takes a secret", "give --secret-file FILE too"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--allow-host", "h:1"],
            ["--allow-host h:1", "", "write a host's name or address, and no port"],
        ),
        row("peer", &["p", "0", "here", "--mirror", "x"], ["--mirror", "follows named peers only", "give --from PEER"]),
        row("peer", &["p", "0", "here", "--from", "x"], ["--from", "", "go with --mirror PATTERN"]),
        row(
            "peer",
            &["p", "0", "here", "--mirror", "x", "--from", "p"],
            ["--from p", "that is this peer itself", "name another"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--mirror=x", "--from=q", "--mirror-max=x"],
            ["--mirror-max x", "", "write a number of bytes, as 20G"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--mirror=x", "--from=q", "--mirror-keep=x"],
            ["--mirror-keep x", "", "write a number of files"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--secret-file", "gone"],
            ["--secret-file gone", "No such file", "`openssl rand -hex 32 >FILE` makes a secret"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--secret-file", "short"],
            ["--secret-file short", "16 to 128 letters", "`openssl rand -hex 32` makes one"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--tls-cert", "x"],
            ["here is no --tls-key and --tls-ca", "TLS takes", "`scripts/certificates.sh HOST` makes all three"],
        ),
        row(
            "peer",
            &["p", "0", "here", "--tls-cert=x", "--tls-key=x", "--tls-ca=x"],
            ["--tls-ca x", "No such file", "makes all three"],
        ),
        row(
            "peer",
            &["giver", "0", "here"],
            [
                "the tracker refuses this peer",
                "another live peer has the id giver",
                "take another id, or stop that peer first",
            ],
        ),
        row("peer", &["--completions", "tcsh"], ["--completions", "", "bash, zsh or fish"]),
        row("tracker", &["x"], ["unexpected `x`", "", "the command is `tracker [flags]`"]),
        row("tracker", &["--lease", "0"], ["--lease 0", "", "1 to 3600 seconds long"]),
        row("tracker", &["--listen", "x"], ["--listen x", "", "write ADDR:PORT, as 0.0.0.0:50051"]),
        row("tracker", &["--metrics-listen", "x"], ["--metrics-listen x", "", "write ADDR:PORT"]),
        row(
            "tracker",
            &["--listen", "192.0.2.9:1"],
            ["cannot listen on 192.0.2.9:1", "no interface has this address", "--listen 0.0.0.0:PORT takes them all"],
        ),
        row("tracker", &["--listen", &tracker.address.to_string()], ["cannot listen on", "in use", "another"]),
        row("tracker", &["--store", "x"], ["--store x", "", "etcd://HOST:PORT"]),
        // ---- one-shot use
        row("peer", &["get"], ["is missing", "", "the command is `peer get <path, id or pattern> [flags]`"]),
        row("peer", &["get", "../a"], ["../a: ", "a dot are not shared", "names that begin with"]),
        row("peer", &["get", "gone"], ["nobody offers gone now", "", "`search` finds files"]),
        row("peer", &["get", "gone*"], ["nothing matches gone* now", "", "`search` finds files"]),
        row("peer", &["get", &none], ["nobody offers", "", "try again later"]),
        row("peer", &["get", "a"], ["a names 2 contents", "", "get one of these ids"]),
        row("peer", &["get", "logs/*", "-o", "-"], ["several files", "cannot all go to one place", "one by one"]),
        row("peer", &["get", "logs/1", "-o", "gone/x"], ["folder gone", "does not exist", "make it, or name another"]),
        row("peer", &["get", "taken", "-o", "here/"], ["taken is here", "with other content", "give a new path"]),
        row(
            "peer",
            &["get", "logs/1", "--keep-free", "99%"],
            ["logs/1: ", "are needed, and the disk has", "--keep-free"],
        ),
        row(
            "peer",
            &["get", "logs/1", "--tracker", away],
            ["tracker 127.0.0.1:1 is away", "Connection refused", "try again when it is back"],
        ),
        row("peer", &["search", " "], ["search needs a text", "", "search notes"]),
        row("peer", &["search", "no-such-thing"], ["no file matches no-such-thing now", "", "try a shorter part"]),
        row(
            "peer",
            &["status", "--tracker", "127.0.0.1:1,127.0.0.2:1"],
            ["no tracker of ", "refused", "try again when one does"],
        ),
        row("peer", &["put", "gone", &url], ["gone: cannot read it", "No such file", "name a file that can be read"]),
        row("peer", &["put", "here", &url], ["here", "is no file", "send files one by one"]),
        row("peer", &["put", "file", "ftp://h:1"], ["ftp://h:1", "", "write http://HOST:PORT, and maybe a path"]),
        row(
            "peer",
            &["put", "file", "https://h:1"],
            ["https://h:1", "https takes --tls-cert", "give them, or write http://"],
        ),
        row("peer", &["put", "-", &url], ["the file has none", "", "say under which name"]),
        row(
            "peer",
            &["put", "file", "http://127.0.0.1:1"],
            ["127.0.0.1:1 cannot be reached", "refused", "is a peer there"],
        ),
        row(
            "peer",
            &["put", "file", &taken],
            ["refuses it (status 409)", "something else already at taken", "Use another name"],
        ),
        // ---- commands
        typed("nonsense", ["unknown command `nonsense`", "", "the commands are search, get, list"]),
        typed("search", ["search needs a text", "", "search notes"]),
        typed("get", ["get takes a path", "", "get 'my notes.txt'"]),
        typed("get 'a", ["a ' is not closed", "", "close it"]),
        typed("get a\\", ["the line ends with a backslash", "", "write \\\\ for one"]),
        typed("get ../a", ["../a: ", "a dot are not shared", "names that begin with"]),
        typed("get gone", ["nobody offers gone now", "", "`search` finds files"]),
        typed("get 'gone*'", ["nothing matches gone* now", "", "`search` finds files"]),
        typed(&nobody, ["nobody offers", "", "try again later"]),
        typed("get a", ["a names 2 contents", "", "get one of these ids"]),
        typed(&several, ["goes by several paths", "", "say to which of these"]),
        typed("get 'logs/*' new", ["several files", "cannot all go to one place", "name a folder (FOLDER/)"]),
        typed(&clash, ["taken is here", "with other content", "give a new path"]),
        typed("cancel", ["cancel takes a number, a path or a content id", "", "`downloads` lists them"]),
        typed("cancel nothing", ["no download of nothing", "", "`downloads` lists them"]),
        typed("leave now", ["leave", "stands alone on its line", ""]),
    ];
    let mut faults = String::new();
    for Row { binary: name, args, stdin, parts } in rows {
        let mut command = Command::new(binary(name));
        command.args(&args).current_dir(folder.path()).env("ENJAMBRE_TRACKER", tracker.address.to_string());
        let Finished { code, err, .. } = run(command, &stdin);
        let error = err.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>().join("\n");
        let missing: Vec<_> = parts.iter().filter(|part| !error.contains(*part)).collect();
        if matches!(code, None | Some(0)) || error.is_empty() || !missing.is_empty() {
            faults += &format!("{name} {args:?} {stdin:?}, code {code:?}: {missing:?} missing in\n  {err}\n");
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
