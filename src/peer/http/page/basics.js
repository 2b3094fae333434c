// Whatever comes from others is shown as text, never as markup: elements are made here, names go into text nodes.

const $ = (id) => document.getElementById(id);
const PAGE = 25; // Rows that are shown at first; then ten times as many more at a time.
const SECOND = 1000;

function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

function button(text, label, act, isMain) {
  const made = make("button", isMain ? "" : "quiet", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

// As the peer itself writes it.
function size(bytes) {
  if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let unit = -1;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${bytes < 9.95 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

// What does not change is not told again to those who listen.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

let quiet;
function say(text) {
  $("said").textContent = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => { $("said").textContent = ""; }, 6 * SECOND);
}

// Asks the peer; what it refuses is thrown as the sentence that it gives.
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("This peer does not answer: is it still running?");
  }
  if (answer.status === 204) return null;
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw Object.assign(new Error(told.detail || `The peer answers ${answer.status}.`), { status: answer.status });
  }
  return told;
}

const fileUrl = (path) => "/files/" + path.split("/").map(encodeURIComponent).join("/");
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);
// A name that begins with a dash would be an option.
const curl = (from, path) => `curl -o ${quoted("./" + fileName(path))} ${quoted(from)}`;

async function copy(text, what) {
  try {
    // Only where the page came by TLS, or from this very machine.
    await navigator.clipboard.writeText(text);
  } catch {
    const focused = document.activeElement;
    const area = make("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
  say(`Copied ${what}.`);
}

const copyButtons = (path, content, from) => [
  ...(from ? [button("Copy curl", `Copy the curl line for ${path}`, () => copy(curl(from, path), "the curl line"))] : []),
  button("Copy id", `Copy the content id of ${path}`, () => copy(content, "the content id")),
];

// Makes a list show these rows: what is there already stays, and so does the focus in it.
function show(list, rows, key, fill) {
  const there = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = rows.map((row) => {
    const item = there.get(key(row)) ?? make("li");
    item.dataset.key = key(row);
    fill(item, row);
    return item;
  });
  there.forEach((item) => { if (!items.includes(item)) item.remove(); });
  items.forEach((item, at) => { if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null); });
}

// Fills a row only when what it shows has changed.
function once(item, shown, fill) {
  const now = JSON.stringify(shown);
  if (item.dataset.shown === now || item.querySelector(".as")) return;
  item.dataset.shown = now;
  const isFocused = item.contains(document.activeElement);
  item.replaceChildren(...fill());
  if (isFocused) item.querySelector("a, button")?.focus();
}

const what = (name, ...facts) => make("div", "what", name, make("span", "facts", facts.filter(Boolean).join(" · ")));
