//! The commands on a terminal: lines that are edited, completed and remembered, gets that run meanwhile, and what Ctrl-C
//! and colours do. The peer has a real pseudo-terminal.
#![cfg(all(feature = "tracker", feature = "console"))]

mod support;

use std::{
    fs::File,
    io::{Read, Write},
    net::SocketAddr,
    os::fd::OwnedFd,
    process::Child,
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};
use support::*;

/// A peer on a terminal.
struct Terminal {
    child: Child,
    master: File,
    /// All that came, as it came.
    said: Arc<Mutex<String>>,
    folder: Folder,
}

impl Terminal {
    fn new(tracker: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let terminal = Self::on(Folder::new(), tracker, variables, &[]);
        terminal.wait("joined tracker");
        terminal
    }

    fn on(folder: Folder, tracker: SocketAddr, variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a terminal").into_string().expect("its name");
        let end = || OwnedFd::from(File::options().read(true).write(true).open(&name).expect("a terminal"));
        let mut command = peer_command(["me", "0"]);
        command.arg(folder.path()).args(["--bind", "127.0.0.1", "--tracker", &tracker.to_string()]).args(flags);
        command.env("TERM", "xterm").env_remove("NO_COLOR").envs(variables.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the peer starts");
        let master = File::from(master);
        let (mut reader, said) = (master.try_clone().expect("a descriptor"), Arc::<Mutex<String>>::default());
        let collected = said.clone();
        thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut block) {
                collected.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&block[..read]));
            }
        });
        Self { child, master, said, folder }
    }

    fn said(&self) -> String {
        self.said.lock().expect("nobody panics").clone()
    }

    fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Waits until this has been said.
    #[track_caller]
    fn wait(&self, text: &str) {
        self.wait_after(0, text);
    }

    /// Waits until this has been said behind so many bytes.
    #[track_caller]
    fn wait_after(&self, from: usize, text: &str) {
        wait_for(PATIENCE, text, || self.said()[from..].contains(text));
    }

    /// Sends keys, and waits until this is said after them.
    #[track_caller]
    fn ask(&mut self, keys: &str, text: &str) {
        let from = self.said().len();
        self.send(keys);
        self.wait_after(from, text);
    }

    #[track_caller]
    fn exited(&mut self) -> Option<i32> {
        wait_for_some(PATIENCE, "the peer leaves", || self.child.try_wait().expect("it is our child")).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- the terminal showed:\n{:?}\n----", self.said());
        }
    }
}

fn swarm(files: &[(&str, &[u8])], flags: &[&str]) -> (Process, Folder, Process) {
    let tracker = tracker(&[]);
    let folder = Folder::new();
    files.iter().for_each(|(path, bytes)| drop(folder.write(path, bytes)));
    let mut giver = peer("giver", folder.path(), tracker.address, flags);
    giver.joined();
    wait_for(PATIENCE, "the files are found", || giver.search("*").len() == files.len());
    (tracker, folder, giver)
}

const UP: &str = "\x1b[A";

#[test]
fn commands_and_paths_of_the_swarm_are_completed_and_lines_are_remembered() {
    let (tracker, ..) = &swarm(&[("notes.txt", b"hello"), ("my dir/a b.txt", b"x"), ("my dir/other", b"y")], &[]);
    let mut terminal = Terminal::new(tracker.address, &[]);
    terminal.ask("stat\t\r", "joined  yes");
    terminal.ask("get no\t\r", "fetched notes.txt from giver");
    assert_eq!(terminal.folder.read("notes.txt").unwrap(), b"hello");
    // Folder by folder, in quotes where it has to be.
    terminal.ask("get my\t", "'my dir/");
    terminal.ask("a\t\r", "fetched my dir/a b.txt from giver");
    assert_eq!(terminal.folder.read("my dir/a b.txt").unwrap(), b"x");
    terminal.ask(&format!("{UP}{UP}{UP}\r"), "joined  yes");
    terminal.send("leave\r");
    assert_eq!(terminal.exited(), Some(0));
    // What was typed is there the next time.
    let folder = std::mem::replace(&mut terminal.folder, Folder::new());
    let mut again = Terminal::on(folder, tracker.address, &[], &[]);
    again.wait("joined tracker");
    again.ask(&format!("{UP}{UP}\r"), "joined  yes");
}

#[test]
fn gets_run_side_by_side_while_commands_are_typed_and_ctrl_c_ends_one_and_not_the_peer() {
    let big = noise(1, 64 << 20);
    let (tracker, _folder, giver) =
        &swarm(&[("one", &big), ("two", &big[1..]), ("small", b"s")], &["--upload-limit", "4M"]);
    let mut terminal = Terminal::new(tracker.address, &[]);
    terminal.ask("get one\r", "one: ");
    terminal.ask("get two\r", "two: ");
    terminal.wait(" 1 source");
    terminal.ask("get small\r", "fetched small from giver");
    terminal.ask("search small\r", "content id");
    terminal.ask("downloads\r", "running");
    terminal.ask("\x03", "two was stopped: the same get goes on from there");
    terminal.ask("cancel 0\r", "cancelled 0");
    terminal.wait("one: it was cancelled");
    // What was stopped is kept, what was cancelled is not.
    let partial = std::fs::read_dir(terminal.folder.join(".enjambre/partial")).unwrap();
    let partial: Vec<_> = partial.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(partial, [enjambre::content::ContentId::of(&big[1..]).to_string()]);
    assert!(get(giver.address, "/healthz").status == 200 && terminal.child.try_wait().unwrap().is_none());
    terminal.ask("\x03", "ends this peer");
    terminal.ask("list\r", "small");
    terminal.ask("\x03", "ends this peer");
    terminal.ask("\x03", "leaving");
    assert_eq!(terminal.exited(), Some(0));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (tracker, ..) = &swarm(&[], &[]);
    for (variables, has_colours) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut terminal = Terminal::new(tracker.address, variables);
        terminal.ask("nonsense\r", "unknown command `nonsense`");
        terminal.send("\x04");
        assert_eq!(terminal.exited(), Some(0));
        assert_eq!(terminal.said().contains("\x1b[31merror:\x1b[m"), has_colours);
        assert_eq!(terminal.said().contains("\x1b[1m"), has_colours);
    }
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let (tracker, ..) = &swarm(&[], &[]);
    let mut terminal = Terminal::new(tracker.address, &[]);
    let raw = tcgetattr(&terminal.master).unwrap();
    assert!(!raw.local_modes.contains(rustix::termios::LocalModes::ICANON), "a line is edited");
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(terminal.exited(), Some(0));
    assert!(terminal.said().contains("leaving"));
    let after = tcgetattr(&terminal.master).unwrap();
    assert!(after.local_modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO));
}
