//! The page in a real browser: what a person does there, and what no person has to see.
#![cfg(all(feature = "tracker", feature = "peer"))]
// clippy.toml allows this in tests, and takes the helpers of this file for something else.
#![allow(clippy::unwrap_used)]

mod browser;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeSet, fs, path::Path};

use browser::{Browser, ENTER, TAB};
use serde_json::{Value, json};
use support::*;

const MARKUP: &str = "<img src=x onerror=alert(1)>\"'&.txt";

/// Two peers of a swarm, and a browser that looks at the second.
struct Scene {
    browser: Browser,
    _tracker: Process,
    _giver: Process,
    taker: Process,
    given: Folder,
    folder: Folder,
}

impl Scene {
    /// `args` are the taker's, `limit` the giver's.
    fn new(files: &[(&str, &[u8])], limit: &[&str], args: &[&str]) -> Option<Self> {
        let browser = Browser::open(1200, 900)?;
        let tracker = tracker(&[]);
        let (given, folder) = (Folder::new(), Folder::new());
        files.iter().for_each(|(path, bytes)| drop(given.write(path, bytes)));
        let giver = peer("giver", given.path(), tracker.address, limit);
        giver.joined();
        let mut taker = peer("taker", folder.path(), tracker.address, args);
        taker.joined();
        wait_for(PATIENCE, "the giver's files are found", || taker.search("*").len() == files.len());
        let scene = Self { browser, _tracker: tracker, _giver: giver, taker, given, folder };
        scene.browser.go(&scene.url());
        scene.browser.sees("#state", "In the swarm");
        Some(scene)
    }

    fn url(&self) -> String {
        format!("http://{}/", self.taker.address)
    }

    /// Types what is searched for in place of what is there.
    fn search(&self, text: &str) {
        self.browser.run("document.getElementById('text').value = ''", &[]);
        self.browser.type_into(&self.browser.find("#text"), text);
    }

    /// Complaints in the console that are no answer of this status.
    fn complaints(&self, status: &str) -> Vec<(String, String)> {
        let mut entries = self.browser.console();
        entries.retain(|(level, text)| {
            level != "DEBUG" && level != "INFO" && !(text.contains("Failed to load resource") && text.contains(status))
        });
        entries
    }
}

#[test]
fn files_are_sent_by_choosing_and_by_dropping_and_conflicts_are_named() {
    let Some(scene) = Scene::new(&[("there.txt", b"there")], &[], &[]) else { return };
    let Scene { browser, folder, .. } = &scene;
    let mine = Folder::new();
    let bytes = noise(7, 3 << 20);
    let (one, two) = (mine.write("one.bin", &bytes), mine.write("two words.txt", "two"));
    browser.choose("#files", &[&one, &two]);
    browser.sees("#uploads", "sent, 3 bytes");
    wait_for(PATIENCE, "both are here", || {
        folder.read("one.bin").as_ref() == Some(&bytes) && folder.read("two words.txt").is_some()
    });
    browser.sees("#shared", "two words.txt");
    browser.run(
        "const data = new DataTransfer();
         data.items.add(new File(['dropped'], arguments[0]));
         data.items.add(new File(['other'], 'two words.txt'));
         document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));",
        &[MARKUP.into()],
    );
    browser.sees("#uploads", "conflict: another file of this name is here");
    wait_for(PATIENCE, "what was dropped is here", || folder.read(MARKUP).as_deref() == Some(b"dropped"));
    assert_eq!(folder.read("two words.txt").as_deref(), Some(&b"two"[..]));
    // Under another name it is taken.
    let input = browser.find("#uploads .as input");
    browser.run("arguments[0].select()", &[json!({ "element-6066-11e4-a52e-4f735466cecf": input })]);
    browser.type_into(&input, "other.txt");
    browser.press(ENTER);
    wait_for(PATIENCE, "the other one is here", || folder.read("other.txt").as_deref() == Some(b"other"));
    browser.choose("#files", &[&two]);
    browser.sees("#uploads", "was here already, the same");
    assert_eq!(scene.complaints("409"), []);
}

#[test]
fn a_file_is_found_while_one_types_and_fetched_to_its_end_with_its_pieces_in_sight() {
    let bytes = noise(3, 6 << 20);
    let files: [(&str, &[u8]); 2] = [("logs/long.bin", &bytes), ("logs/short.txt", b"short")];
    let Some(scene) = Scene::new(&files, &["--upload-limit", "3M"], &[]) else { return };
    let Scene { browser, folder, .. } = &scene;
    scene.search("LONG");
    browser.sees("#found", "logs/long.bin");
    browser.click("#found button");
    let pieces = browser.wait_for(
        "a picture of the pieces",
        "const label = document.querySelector('#downloads canvas')?.getAttribute('aria-label');
         return label && / from giver/.test(label) && label",
        &[],
    );
    assert!(pieces.as_str().unwrap().contains(" of 192 pieces are here: "), "{pieces}");
    let is_drawn = "const canvas = document.querySelector('#downloads canvas');
        return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((one) => one > 0)";
    assert_eq!(browser.run(is_drawn, &[]), true);
    browser.sees("#downloads .facts", "/s");
    let far = browser.run("const bar = document.querySelector('#downloads progress'); return bar.value / bar.max", &[]);
    assert!((0.01..1.0).contains(&far.as_f64().unwrap()), "{far}");
    browser.sees("#downloads", "here, 6.0 MiB");
    assert_eq!(folder.read("logs/long.bin"), Some(bytes));
    browser.sees("#found", "here already");
    browser.sees("#shared", "logs/long.bin");
    // All that match, of which one is here.
    scene.search("logs/*");
    browser.sees("#found-note", "2 files");
    browser.click("#get-all");
    wait_for(PATIENCE, "the other one is here", || folder.read("logs/short.txt").is_some());
    browser.sees("#peers", "giver");
    assert_eq!(scene.complaints(""), []);
}

#[test]
fn a_download_is_cancelled_and_a_taken_name_is_replaced_by_another() {
    let bytes = noise(3, 6 << 20);
    let Some(scene) = Scene::new(&[("a.bin", &bytes)], &["--upload-limit", "1M"], &[]) else { return };
    let Scene { browser, folder, .. } = &scene;
    scene.search("a.bin");
    browser.sees("#found", "a.bin");
    browser.click("#found button");
    browser.click("#downloads button");
    browser.wait_for("nothing is fetched", "return document.querySelectorAll('#downloads li').length === 0", &[]);
    assert_eq!(folder.read("a.bin"), None);
    put(scene.taker.address, "a.bin", b"mine");
    browser.click("#found button");
    browser.sees("#found .as", "a.bin is here with other content");
    browser.type_into(&browser.find("#found .as input"), ".2");
    browser.click("#found .as button");
    browser.sees("#downloads", "a.bin.2");
    assert_eq!(folder.read("a.bin").as_deref(), Some(&b"mine"[..]));
    assert_eq!(scene.complaints("409"), []);
}

#[test]
fn names_that_are_markup_are_text_and_nothing_of_them_runs() {
    let Some(scene) = Scene::new(&[(MARKUP, b"x"), ("<script>document.title='owned'<", b"y")], &[], &[]) else {
        return;
    };
    let Scene { browser, .. } = &scene;
    scene.search("*");
    browser.sees("#found", MARKUP);
    browser.click("#found button");
    browser.sees("#shared", "<");
    browser.wait_for("the other is found", "return document.querySelectorAll('#found li').length === 2", &[]);
    browser.click("#get-all");
    browser.wait_for("both are here", "return document.querySelectorAll('#shared li').length === 2", &[]);
    assert_eq!(browser.run("return document.querySelectorAll('main img, li script').length", &[]), 0);
    assert_eq!(browser.run("return document.title", &[]), "taker");
    assert_eq!(scene.complaints(""), []);
    // Even what would get in as markup does not run.
    browser.run(
        "document.body.insertAdjacentHTML('beforeend', '<p id=in onclick=\"window.ran = 1\">x</p>');
         document.getElementById('in').click();
         const script = document.createElement('script');
         script.text = 'window.ran = 2';
         document.body.append(script)",
        &[],
    );
    assert_eq!(browser.run("return window.ran ?? null", &[]), Value::Null);
}

#[test]
fn all_is_reached_by_keyboard_and_has_a_name_and_is_read_in_light_and_dark() {
    let Some(scene) = Scene::new(&[("logs/a.txt", b"a"), ("logs/b.txt", b"b")], &[], &[]) else { return };
    put(scene.taker.address, "own.txt", b"own");
    put(scene.taker.address, "logs/a.txt", b"another");
    let Scene { browser, taker, .. } = &scene;
    wait_for(PATIENCE, "all is known", || get(taker.address, "/api/swarm").text().matches("\"files\":2").count() == 2);
    // From here on no row changes.
    browser.go(&scene.url());
    browser.sees("#peers", "this peer · 2 files");
    scene.search("logs/*");
    browser.sees("#found-note", "3 files");
    browser.sees("#shared", "own.txt");
    browser.run("document.activeElement.blur()", &[]);
    let controls =
        "return [...document.querySelectorAll('a[href], button, input')].filter((one) => one.checkVisibility())";
    let controls = browser.run(controls, &[]).as_array().unwrap().clone();
    assert!(controls.len() > 15, "{controls:?}");
    let mut reached = BTreeSet::new();
    for _ in 0..2 * controls.len() {
        browser.press(TAB);
        reached.insert(browser.run("return document.activeElement", &[]).to_string());
    }
    for control in &controls {
        let (label, role) = browser.label_and_role(control);
        let outer = browser.run("return arguments[0].outerHTML", std::slice::from_ref(control));
        assert!(reached.contains(&control.to_string()), "never reached: {outer}");
        assert!(!label.trim().is_empty() && role != "generic", "{outer} is {role} {label:?}");
    }
    for colours in ["light", "dark"] {
        browser.set_media("prefers-color-scheme", colours);
        let faint = browser.run(CONTRAST, &[]);
        assert_eq!(faint["below"], json!([]), "in {colours}");
        assert!(faint["read"].as_u64().unwrap() > 20, "{faint}");
    }
    assert_eq!(scene.complaints(""), []);
}

/// How far every visible text stands out from what is behind it (WCAG 2.2, relative luminance and contrast ratio): those
/// below 4.5, and how many were looked at.
const CONTRAST: &str = "
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [red, green, blue] = parts(colour).map((one) => one / 255)
            .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if ((parts(colour)[3] ?? 1) === 1) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const [below, walker] = [[], document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)];
    let read = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('script, style, noscript')) continue;
        const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        read++;
        if (ratio < 4.5) below.push([walker.currentNode.data, ratio]);
    }
    return { below, read };";

#[test]
fn one_request_is_all_that_the_first_picture_needs() {
    let Some(scene) = Scene::new(&[], &[], &[]) else { return };
    let Scene { browser, .. } = &scene;
    let entries = browser.wait_for(
        "it is painted",
        "return performance.getEntriesByName('first-contentful-paint').length > 0 &&
         performance.getEntriesByType('resource').map((one) => [one.initiatorType, one.name])",
        &[],
    );
    // Styles, scripts and pictures would be of another kind: what is asked for is data, and shown when it comes.
    let entries = entries.as_array().unwrap();
    assert!(entries.iter().all(|entry| entry[0] == "fetch"), "{entries:?}");
    assert!(entries.iter().all(|entry| entry[1].as_str().unwrap().starts_with(&scene.url())), "{entries:?}");
}

/// `make screenshots`.
#[test]
#[ignore = "makes the pictures in docs/"]
fn screenshots() {
    let long = noise(3, 40 << 20);
    let files: [(&str, &[u8]); 6] = [
        ("releases/enjambre-1.2.tar.zst", &long),
        ("releases/enjambre-1.1.tar.zst", &long[..9 << 20]),
        ("releases/notes.md", b"# 1.2"),
        ("logs/2026-11-24.log", &long[..700_000]),
        ("logs/2026-11-25.log", &long[..810_000]),
        ("photos/colmena.jpg", &long[..2_400_000]),
    ];
    let scene = Scene::new(&files, &["--upload-limit", "1M", "--zone", "us-east-1b"], &["--zone", "us-east-1b"]);
    let scene = scene.expect("chromedriver");
    let Scene { browser, taker, given, .. } = &scene;
    put(taker.address, "logs/2026-11-26.log", &long[..90_000]);
    put(taker.address, "notes/inventory.csv", &long[..12_345]);
    put(taker.address, "photos/panal.jpg", &long[..3_100_000]);
    let tracker = scene._tracker.address;
    let others = ["mirror-2", "mirror-3"].map(|id| {
        let folder = Folder::new();
        fs::copy(given.join("releases/enjambre-1.2.tar.zst"), folder.join("copy.tar.zst")).unwrap();
        let other = peer(id, folder.path(), tracker, &["--upload-limit", "1M", "--zone", "us-east-1b"]);
        other.joined();
        (other, folder)
    });
    wait_for(PATIENCE, "their files are known", || {
        get(taker.address, "/api/swarm").text().matches("\"files\":1").count() == others.len()
    });
    browser.go(&scene.url());
    scene.search("releases");
    browser.sees("#found", "3 sources");
    browser.click("[aria-label='Get releases/enjambre-1.2.tar.zst']");
    browser.sees("#peers", "mirror-2");
    let enough = "const bar = document.querySelector('#downloads progress'); return bar && bar.value > 0.4 * bar.max";
    wait_for(4 * PATIENCE, "a part of it is here", || browser.run(enough, &[]) == true);
    browser.click("h1");
    browser.run("document.activeElement.blur(); document.getElementById('said').textContent = ''", &[]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::create_dir_all(&folder).unwrap();
    for (name, width, height, colours) in
        [("desktop", 1200, 860, "light"), ("dark", 1200, 860, "dark"), ("phone", 390, 844, "light")]
    {
        browser.set_media("prefers-color-scheme", colours);
        browser.set_screen(width, height);
        let drawn = "const label = () => document.querySelector('#downloads canvas').getAttribute('aria-label');
            window.label ??= label();
            return label() !== window.label && delete window.label";
        browser.wait_for("the pieces are drawn anew, in these colours", drawn, &[]);
        let picture = browser.picture();
        assert!(picture.len() < 150_000, "{name}: {} bytes", picture.len());
        fs::write(folder.join(format!("page-{name}.png")), picture).unwrap();
    }
}
