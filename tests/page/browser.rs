//! A real browser: chromium without a window, driven by chromedriver over the WebDriver protocol
//! (<https://www.w3.org/TR/webdriver2/>), which is JSON by HTTP.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use ureq::Agent;

use crate::support::{Folder, PATIENCE, Process, wait_for_some};

/// What names an element in the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The key that goes on to the next control.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";

/// A session. The browser ends when this is dropped.
pub(crate) struct Browser {
    agent: Agent,
    /// Of the session.
    url: String,
    /// Ends the browser with it.
    _driver: Process,
    /// Where both keep what they need meanwhile: they leave some of it behind.
    _files: Folder,
}

impl Browser {
    /// Opens one with a window of this size; none where it is not installed, which is said in a line.
    #[track_caller]
    pub(crate) fn open(width: u32, height: u32) -> Option<Self> {
        if Command::new("chromedriver").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("skipped: chromedriver is not installed (Debian: chromium-driver)");
            return None;
        }
        let mut command = Command::new("chromedriver");
        let files = Folder::new();
        command.arg("--port=0").env("TMPDIR", files.path());
        let driver = Process::spawn("chromedriver", command);
        let port: u16 = driver.wait_for_line(0, "chromedriver tells its port", |line| {
            line.text.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let config = Agent::config_builder().proxy(None).http_status_as_error(false);
        let agent = config.timeout_global(Some(Duration::from_secs(60))).build().new_agent();
        let mut args = vec![format!("--window-size={width},{height}"), "--headless=new".into()];
        args.extend(
            ["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-proxy-server"].map(Into::into),
        );
        if rustix::process::getuid().is_root() {
            // Its sandbox is not for root.
            args.push("--no-sandbox".into());
        }
        let url = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { agent, url, _driver: driver, _files: files };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.post("", &wanted);
        browser.url = format!("{}/{}", browser.url, session["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let request = self.agent.post(format!("{}{path}", self.url)).header("Content-Type", "application/json");
        answered(request.send(body.to_string()))
    }

    fn get(&self, path: &str) -> Result<Value, Value> {
        answered(self.agent.get(format!("{}{path}", self.url)).call())
    }

    /// Goes to a page, and waits until it is loaded.
    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page; what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str, args: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": args }))
    }

    /// Sets what the page is told of its surroundings, as `prefers-color-scheme`.
    #[track_caller]
    pub(crate) fn set_media(&self, name: &str, value: &str) {
        let params = json!({ "features": [{ "name": name, "value": value }] });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": params }));
    }

    /// Has the page think that its screen is this large.
    #[track_caller]
    pub(crate) fn set_screen(&self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params }));
    }

    /// The first element that a CSS selector names, once there is one.
    #[track_caller]
    pub(crate) fn find(&self, selector: &str) -> String {
        let body = json!({ "using": "css selector", "value": selector });
        wait_for_some(PATIENCE, &format!("{selector} is there"), || {
            Some(self.try_post("/element", &body).ok()?[ELEMENT].as_str()?.to_owned())
        })
    }

    /// Types into an element; into an input of files, their paths.
    #[track_caller]
    pub(crate) fn type_into(&self, element: &str, text: &str) {
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    #[track_caller]
    pub(crate) fn choose(&self, selector: &str, files: &[&Path]) {
        let paths: Vec<_> = files.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        self.type_into(&self.find(selector), &paths.join("\n"));
    }

    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.post(&format!("/element/{}/click", self.find(selector)), &json!({}));
    }

    /// Presses a key, wherever the focus is.
    #[track_caller]
    pub(crate) fn press(&self, key: &str) {
        let keys = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] });
        self.post("/actions", &actions);
    }

    /// What a screen reader calls an element, and what it takes it for.
    #[track_caller]
    pub(crate) fn label_and_role(&self, element: &Value) -> (String, String) {
        let id = element[ELEMENT].as_str().expect("an element");
        let of = |what: &str| {
            let value = self.get(&format!("/element/{id}/{what}")).unwrap_or_else(|error| panic!("{what}: {error}"));
            value.as_str().unwrap_or_default().to_owned()
        };
        (of("computedlabel"), of("computedrole"))
    }

    /// What stands in the page's console since the last time: level and text.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<(String, String)> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        entries.as_array().expect("a list").iter().map(|one| (text(one, "level"), text(one, "message"))).collect()
    }

    /// The page as a picture, in PNG.
    #[track_caller]
    pub(crate) fn picture(&self) -> Vec<u8> {
        let base64 = self.get("/screenshot").unwrap_or_else(|error| panic!("a screenshot: {error}"));
        from_base64(base64.as_str().expect("a picture"))
    }

    /// Waits until a script gives something true.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, script: &str, args: &[Value]) -> Value {
        wait_for_some(PATIENCE, what, || {
            Some(self.run(script, args)).filter(|value| !matches!(value, Value::Null | Value::Bool(false)))
        })
    }

    /// Waits until an element's text has something in it.
    #[track_caller]
    pub(crate) fn sees(&self, selector: &str, text: &str) {
        let script =
            "return [...document.querySelectorAll(arguments[0])].some((one) => one.textContent.includes(arguments[1]))";
        self.wait_for(&format!("{selector} has {text:?}"), script, &[selector.into(), text.into()]);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.url).call();
    }
}

fn answered(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Value> {
    let mut answer = answer.map_err(|error| Value::from(error.to_string()))?;
    let body = answer.body_mut().with_config().limit(64 << 20).read_to_string();
    let body = body.map_err(|error| Value::from(error.to_string()))?;
    let mut told: Value = serde_json::from_str(&body).map_err(|error| Value::from(format!("{error}: {body}")))?;
    if answer.status().is_success() { Ok(told["value"].take()) } else { Err(told) }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    let bits =
        |four: &[u8]| four.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - four.len()));
    digits.chunks(4).flat_map(|four| bits(four).to_be_bytes()[1..four.len()].to_vec()).collect()
}
