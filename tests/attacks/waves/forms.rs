//! Multipart forms.

use super::{support::*, victim::*};

fn part(boundary: &str, name: &str) -> String {
    format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\nx\r\n")
}

fn send(victim: &Victim, boundary: &str, body: &str) -> Option<Response> {
    let form = format!("multipart/form-data; boundary={boundary}");
    // A peer that has refused a form does not read all of it.
    try_request(victim.peer.address, "POST", "/upload", &[("Content-Type", &form)], body.as_bytes()).ok()
}

pub(super) fn boundaries(victim: &Victim) {
    for (length, status) in [(1, 200), (70, 200), (71, 400), (8000, 400), (70_000, 431)] {
        let boundary = "b".repeat(length);
        let body = part(&boundary, "of-a-form") + &format!("--{boundary}--\r\n");
        let answer = send(victim, &boundary, &body);
        // The first that is taken makes it, and the next finds it.
        let is_taken = |status: u16| if status == 201 { 200 } else { status };
        assert!(answer.is_none_or(|answer| is_taken(answer.status) == status), "{length} bytes");
    }
    assert_eq!(victim.folder.read("of-a-form").as_deref(), Some(&b"x"[..]));
    // What looks like the boundary, and is not, is content, and costs no more than that.
    let content = "\r\n--".repeat(1 << 20);
    let body = format!(
        "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"looks\"\r\n\r\n{content}\r\n--B--\r\n"
    );
    let answer = send(victim, "B", &body).expect("an answer");
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
    assert!(victim.folder.read("looks").is_some_and(|kept| kept == content.as_bytes()));
}

pub(super) fn parts(victim: &Victim) {
    let before = victim.memory();
    let parts: String = (0..100_000).map(|number| part("B", &format!("part-{number}"))).collect();
    let answer = send(victim, "B", &(parts + "--B--\r\n"));
    assert!(answer.is_none_or(|answer| answer.status == 400 && answer.text().contains("at most 1,000 files")));
    // Without a file, and with a head that has no end.
    let nothing = "--B\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n\r\n".repeat(100_000);
    assert!(send(victim, "B", &nothing).is_none_or(|answer| answer.status == 400));
    let head = format!("--B\r\n{}", "X: y\r\n".repeat(100_000));
    assert!(send(victim, "B", &head).is_none_or(|answer| answer.status == 400));
    let entries = || std::fs::read_dir(victim.folder.path()).expect("a folder").flatten();
    assert!(entries().all(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"part-")), "parts were kept");
    let staged = std::fs::read_dir(victim.folder.join(".enjambre/tmp")).map_or(0, Iterator::count);
    assert_eq!(staged, 0);
    assert!(victim.memory() < before + 8192, "{} KiB became {} KiB", before, victim.memory());
}
