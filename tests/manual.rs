//! What is made of the table of arguments beside `--help`: man pages, and what shells complete.
#![cfg(all(feature = "tracker", feature = "peer"))]

mod support;

use std::{io::Write, process::Command, process::Stdio};

use support::*;

fn called(name: &str, args: &[&str]) -> Finished {
    let mut command = Command::new(binary(name));
    command.args(args);
    run(command, "")
}

fn printed(name: &str, args: &[&str]) -> String {
    let Finished { code, out, err } = called(name, args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
    out
}

/// Whether a program is here; says so where it is not.
fn is_here(program: &str, args: &[&str]) -> bool {
    let ran = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_here = ran.is_ok_and(|status| status.success());
    if !is_here {
        println!("skipped: there is no {program} here");
    }
    is_here
}

#[test]
fn a_man_page_has_no_fault_and_names_every_flag_and_code() {
    for name in ["peer", "tracker"] {
        let page = printed(name, &["--man"]);
        let help = printed(name, &["--help"]);
        for flag in help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
            let flag = flag.trim_matches(|c: char| !c.is_alphanumeric() && c != '-').replace('-', "\\-");
            assert!(page.contains(&flag), "{flag} is missing in:\n{page}");
        }
        if !is_here("groff", &["--version"]) {
            continue;
        }
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = groff.spawn().unwrap();
        child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What bash proposes for a line, at its end.
fn proposed(setup: &str, line: &[&str]) -> Vec<String> {
    let words: Vec<_> = line.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source <(\"$PEER\" --completions bash); {setup}\nCOMP_WORDS=({}); COMP_CWORD={}; compopt() {{ :; }}; _peer; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        line.len() - 1,
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &script])
        .env("PEER", binary("peer"))
        .output()
        .expect("bash is here");
    assert!(output.stderr.is_empty(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_flags_folders_files_and_what_the_swarm_knows() {
    if !is_here("bash", &["--version"]) {
        return;
    }
    let folder = Folder::new();
    folder.write("sub dir/notes.txt", "x");
    let at = |command: &str| format!("cd '{}'; {command}", folder.path().display());
    assert_eq!(proposed("", &["peer", "s"]), ["search", "status"]);
    assert_eq!(proposed("", &["peer", "get", "--o"]), ["--output"]);
    assert_eq!(proposed("", &["peer", "p1", "0", ".", "--mirror-"]), ["--mirror-keep", "--mirror-max"]);
    assert_eq!(proposed("", &["peer", "status", "--mirror-"]), [""; 0]);
    assert_eq!(proposed(&at(""), &["peer", "p1", "0", ""]), ["sub dir"]);
    assert_eq!(proposed(&at("cd 'sub dir'"), &["peer", "put", "no"]), ["notes.txt"]);
    assert_eq!(proposed(&at("cd 'sub dir'"), &["peer", "get", "x", "--secret-file", ""]), ["notes.txt"]);
    assert_eq!(proposed("", &["peer", "--completions", "f"]), ["fish"]);

    let tracker = tracker(&[]);
    let mut giver = peer("giver", folder.path(), tracker.address, &[]);
    giver.joined();
    wait_for(PATIENCE, "it is found", || giver.search("notes").len() == 1);
    let swarm = format!(
        "export ENJAMBRE_TRACKER={}; peer() {{ \"$PEER\" \"$@\"; }}; timeout() {{ shift; \"$@\"; }}",
        tracker.address
    );
    assert_eq!(proposed(&swarm, &["peer", "get", "sub"]), ["sub dir/notes.txt"]);
}

#[test]
fn every_shell_has_its_script_and_another_is_named() {
    for name in ["peer", "tracker"] {
        for (shell, first) in [("zsh", format!("#compdef {name}\n")), ("fish", format!("complete -c {name} -f\n"))] {
            let script = printed(name, &["--completions", shell]);
            assert!(script.starts_with(&first), "{script}");
            if is_here(shell, &["--version"]) {
                let folder = Folder::new();
                let file = folder.write("script", &script);
                assert!(is_here(shell, &["-n", file.to_str().unwrap()]), "{script}");
            }
        }
        let Finished { code, err, .. } = called(name, &["--completions", "tcsh"]);
        let sentence = "error: --completions takes the name of a shell: bash, zsh or fish\n";
        assert_eq!((code, err.as_str()), (Some(2), sentence));
    }
}
