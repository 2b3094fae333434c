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

const url = (path) => "/files/" + path.split("/").map(encodeURIComponent).join("/");
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

// ---- the peer itself and its files

let me = "";
let sharedRows = PAGE;
let sharedShown = "";

async function status() {
  try {
    const now = await ask("/api/status");
    me = now.peer;
    $("peer").textContent = document.title = me;
    const { files: unhashed } = now.hashing ?? {};
    $("state").className = now.joined ? "" : "bad";
    put($("state"), [
      now.joined ? "In the swarm" : `No tracker knows this peer now (${now.trackers.join(", ")})`,
      now.zone && `zone ${now.zone}`,
      `${count(now.files, "file")}, ${size(now.bytes)}`,
      unhashed && `${count(unhashed, "file")} still to be hashed`,
    ].filter(Boolean).join(" · "));
    // What moves changes neither number, so it is looked at now and then all the same.
    const stamp = `${now.files} ${now.bytes} ${sharedRows} ${Math.floor(Date.now() / (30 * SECOND))}`;
    if (stamp !== sharedShown) await shared(now.files).then(() => { sharedShown = stamp; });
  } catch (error) {
    $("state").className = "bad";
    put($("state"), error.message);
  }
}

async function shared(total) {
  const rows = [];
  for (let after = ""; after !== null && rows.length < sharedRows;) {
    const limit = Math.min(sharedRows - rows.length, 1000);
    const page = await ask(`/files?limit=${limit}${after && `&after=${encodeURIComponent(after)}`}`);
    rows.push(...page.files);
    after = page.next;
  }
  show($("shared"), rows, (row) => row.path, (item, row) => once(item, row, () => {
    const link = make("a", "name", row.path);
    link.href = url(row.path);
    return [
      what(link, size(row.size)),
      make("div", "does", ...copyButtons(row.path, row.content, location.origin + url(row.path))),
    ];
  }));
  $("own-note").textContent = total === 0 ? "None yet: send some, or get them from the swarm." : "";
  $("shared-more").hidden = rows.length >= total;
}

$("shared-more").addEventListener("click", () => { sharedRows += 10 * PAGE; status(); });

// ---- search

let asked = new AbortController();
let pause;
let found = [];
let cursor = null;

function searchSoon() {
  clearTimeout(pause);
  // An answer to what stood there before is not waited for.
  asked.abort();
  pause = setTimeout(() => search(false), 200);
}

async function search(isMore) {
  const text = $("text").value;
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  if (!isMore) [found, cursor] = [[], null];
  let note = "";
  try {
    while (text.trim() && (found.length === 0 || isMore)) {
      const after = cursor ? `&cursor=${cursor}` : "";
      const page = await ask(`/api/search?text=${encodeURIComponent(text)}${after}`, { signal });
      found.push(...page.found);
      cursor = page.cursor;
      if (page.found.length || !cursor) break;
    }
    if (text.trim()) note = found.length ? `${count(found.length, "file")}${cursor ? " and more" : ""}` : "Nothing found.";
  } catch (error) {
    if (signal.aborted) return;
    note = error.message;
  }
  put($("found-note"), note);
  $("found-more").hidden = !cursor;
  $("get-all").hidden = !(/[*?]/.test(text) && found.length > 1);
  showFound();
}

function showFound() {
  show($("found"), found, (row) => `${row.content} ${row.size} ${row.path}`, (item, row) => {
    const isHere = row.peers.includes(me) || arrived.has(`${row.content} ${row.path}`);
    const from = row.peers.map((peer) => members.get(peer)).find(Boolean);
    once(item, [row, isHere, from], () => {
      const get = button("Get", `Get ${row.path}`, () => begin(row, row.path, item), true);
      return [
        what(make("span", "name", row.path), size(row.size), count(row.sources, "source"), isHere && "here already"),
        make("div", "does", ...(isHere ? [] : [get]),
          ...copyButtons(row.path, row.content, from && `${location.protocol}//${from}/content/${row.content}`)),
      ];
    });
  });
}

$("text").addEventListener("input", searchSoon);
$("found-more").addEventListener("click", () => search(true));
$("get-all").addEventListener("click", () => want($("text").value));

// ---- downloads

async function want(thing, to) {
  try {
    const begun = await ask("/api/get", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(to ? { what: thing, to } : { what: thing }),
    });
    const { downloads: begins, here, refused } = begun;
    say([
      begins.length && `Getting ${begins.length === 1 ? begins[0].path : count(begins.length, "file")}.`,
      here.length && `${here.length === 1 ? `${here[0].path} is` : `${here.length} files are`} here already.`,
      refused.length && `${count(refused.length, "file")} cannot be had: ${refused[0].detail}`,
    ].filter(Boolean).join(" "));
    downloads();
    return null;
  } catch (error) {
    say(error.message);
    return error;
  }
}

// Gets a file; where its name is taken, asks for another.
async function begin(row, to, item) {
  const error = await want(row.content, to);
  if (error?.status === 409) askName(item, `${to} is here with other content. Get it as`, to, (name) => begin(row, name, item));
  else {
    item.querySelector(".as")?.remove();
    item.querySelector("button")?.focus();
  }
}

function askName(item, text, old, act) {
  item.querySelector(".as")?.remove();
  const input = make("input");
  input.value = old;
  const go = () => input.value.trim() && input.value !== old && act(input.value.trim());
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
  item.append(make("div", "as", make("label", "", text, input), button("Go on", `Use this name for ${old}`, go, true)));
  input.focus();
}

const told = new Set(); // The numbers of those of which it was said how they ended.
const arrived = new Set(); // What came here since this page was opened.
let isFirst = true;
let next;

async function downloads() {
  clearTimeout(next);
  let isBusy = false;
  try {
    const now = await ask("/api/downloads");
    isBusy = now.downloads.some((row) => row.state === "running");
    const news = now.ended.filter((row) => !told.has(row.number));
    news.forEach((row) => {
      told.add(row.number);
      if (!row.error) arrived.add(`${row.content} ${row.path}`);
      if (!isFirst) say(row.error ? `${row.path}: ${row.error}` : `${row.path} is here.`);
    });
    if (news.length && !isFirst) [pollStatus(), showFound()];
    isFirst = false;
    const rows = [...now.downloads, ...now.ended.slice(0, 10)];
    $("gets").hidden = rows.length === 0;
    show($("downloads"), rows, (row) => `${row.number ?? row.content}`, fillDownload);
    const running = now.downloads.filter((row) => row.state === "running");
    await Promise.all(running.map(async (row) => showPieces(row, await ask(`/api/downloads/${row.number}`))));
  } catch {
    // That the peer does not answer is said above all.
  }
  if (!document.hidden) next = setTimeout(downloads, isBusy ? SECOND / 2 : 3 * SECOND);
}

function fillDownload(item, row) {
  const name = row.path ?? row.content;
  const isOver = "error" in row;
  if (item.dataset.state !== row.state) {
    item.dataset.state = row.state;
    const title = row.state === "done" ? make("a", "name", name) : make("span", "name", name);
    if (row.state === "done") title.href = url(name);
    const facts = make("span", "facts");
    const meter = make("progress");
    meter.setAttribute("aria-label", `How far ${name} is`);
    const picture = make("canvas");
    picture.setAttribute("role", "img");
    const cancel = button("Cancel", `Cancel ${name}`, () => stop(row));
    item.replaceChildren(
      make("div", "what", title, facts),
      ...(isOver ? [] : [make("div", "does", cancel), make("div", "meter", meter)]),
      ...(row.state === "running" ? [picture, make("p", "legend")] : []),
    );
  }
  const facts = item.querySelector(".facts");
  const left = row.rate > 0 && row.size ? `${Math.ceil((row.size - row.here) / row.rate)} s left` : "";
  facts.className = row.error ? "facts bad" : row.state === "done" ? "facts good" : "facts";
  facts.textContent = isOver
    ? row.error ?? `here, ${size(row.size)}`
    : [row.state, row.size === null ? size(row.here) : `${size(row.here)} of ${size(row.size)}`,
      row.rate > 0 && `${size(row.rate)}/s`, left].filter(Boolean).join(" · ");
  const meter = item.querySelector("progress");
  if (meter && row.size) [meter.max, meter.value] = [row.size, row.here];
}

async function stop(row) {
  try {
    await ask(`/api/downloads/${row.number ?? row.content}`, { method: "DELETE" });
    say(`Cancelled ${row.path ?? row.content}.`);
  } catch (error) {
    say(error.message);
  }
  downloads();
}

// Draws which pieces are here, and from whom: one cell each, in their order.
function showPieces(row, { pieces, sources }) {
  const item = [...$("downloads").children].find((one) => one.dataset.key === `${row.number}`);
  const canvas = item?.querySelector("canvas");
  if (!canvas || !pieces) return;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name);
  const colours = [colour("--empty"), colour("--before"), ...sources.map((_, at) => colour(`--s${at % 8}`))];
  const total = pieces.reduce((sum, [number]) => sum + number, 0);
  const of = colours.map(() => 0);
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight].map((length) => length * ratio);
  // Squares as large as fit, and all of them fit.
  let side = Math.max(1, Math.floor(Math.sqrt(width * height / total)));
  while (side > 1 && Math.floor(width / side) * Math.floor(height / side) < total) side--;
  const columns = Math.max(1, Math.floor(width / side));
  const gap = side > 4 ? 1 : 0;
  const pen = canvas.getContext("2d");
  let at = 0;
  for (const [number, from] of pieces) {
    of[from] += number;
    pen.fillStyle = colours[from];
    for (const end = at + number; at < end; at++) {
      pen.fillRect((at % columns) * side, Math.floor(at / columns) * side, side - gap, side - gap);
    }
  }
  const parts = [of[1] && ["cb", `${of[1]} were here before`],
    ...sources.map((peer, at) => [`c${at % 8}`, `${of[at + 2]} from ${peer}`])].filter(Boolean);
  const legend = item.querySelector(".legend");
  legend.replaceChildren(`${total - of[0]} of ${count(total, "piece")}`, ...parts.map(([name, text]) => make("span", name, text)));
  canvas.setAttribute("aria-label", `${total - of[0]} of ${count(total, "piece")} are here: ${parts.map(([, text]) => text).join(", ") || "none yet"}`);
}

// ---- uploads

const waiting = [];
let sending = 0;

function send(files) {
  for (const file of files) {
    const item = make("li");
    $("uploads").prepend(item);
    upload(file, file.name, item);
  }
}

function upload(file, name, item) {
  const facts = make("span", "facts", "waits");
  const meter = make("progress");
  meter.setAttribute("aria-label", `How much of ${name} is sent`);
  meter.value = 0;
  item.replaceChildren(make("div", "what", make("span", "name", name), facts), make("div", "meter", meter));
  waiting.push({ file, name, item, facts, meter });
  sendNext();
}

async function sendNext() {
  // Two at a time: the next one's bytes fill the wait of the one before for the disk.
  if (sending >= 2 || !waiting.length) return;
  const job = waiting.shift();
  sending++;
  const { status, detail } = await transfer(job);
  sending--;
  sendNext();
  const { name, file, item, facts, meter } = job;
  meter.parentElement.remove();
  facts.className = status === 200 || status === 201 ? "facts good" : "facts bad";
  facts.textContent = {
    201: `sent, ${size(file.size)}`,
    200: "was here already, the same",
    409: "conflict: another file of this name is here, and nothing is ever replaced",
    0: "broke off: nothing was kept. Is the peer still running, and is this a file?",
  }[status] ?? detail ?? `the peer answers ${status}`;
  say(`${name}: ${facts.textContent}`);
  if (status === 409) askName(item, "Send it as", name, (other) => upload(file, other, item));
  status < 300 && pollStatus();
}

function transfer({ file, name, facts, meter }) {
  facts.textContent = "begins";
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      [meter.max, meter.value] = [total || 1, loaded];
      facts.textContent = loaded < total ? `${size(loaded)} of ${size(total)}` : "sent, waits for the disk";
    });
    request.addEventListener("loadend", async () => {
      let detail;
      // Of a conflict the peer tells at once, and not every browser hears it while it sends.
      const isThere = request.status === 0 && await fetch(url(name), { method: "HEAD" }).then(({ ok }) => ok, () => false);
      if (isThere) return done({ status: 409 });
      try { ({ detail } = JSON.parse(request.responseText)); } catch { /* It says nothing more. */ }
      done({ status: request.status, detail });
    });
    request.open("PUT", url(name));
    request.send(file);
  });
}

$("files").addEventListener("change", ({ target }) => { send([...target.files]); target.value = ""; });
// A file that misses the place is not to take this page's.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
$("drop").addEventListener("dragover", () => $("drop").classList.add("over"));
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  $("drop").classList.remove("over");
  const items = [...event.dataTransfer.items];
  if (items.some((item) => item.webkitGetAsEntry?.()?.isDirectory)) say("Folders are not sent: choose the files in them.");
  send([...event.dataTransfer.files].filter((_, at) => !items[at]?.webkitGetAsEntry?.()?.isDirectory));
});

// ---- the swarm

const members = new Map(); // The address of each peer.
let peerRows = PAGE;

async function swarm() {
  try {
    const rows = [];
    let cursor = "";
    do {
      const page = await ask(`/api/swarm${cursor && `?cursor=${cursor}`}`);
      rows.push(...page.peers);
      ({ cursor } = page);
    } while (cursor && rows.length < peerRows);
    members.clear();
    rows.forEach((row) => members.set(row.peer, row.address));
    show($("peers"), rows.slice(0, peerRows), (row) => row.peer, (item, row) => once(item, [row, me], () => {
      const { wanted, here } = row.mirror ?? {};
      const link = make("a", "name", row.peer);
      link.href = `${location.protocol}//${row.address}/`;
      return [what(link, row.peer === me && "this peer", row.zone && `zone ${row.zone}`,
        `${count(row.files, "file")}, ${size(row.bytes)}`, row.downloads > 0 && `gets ${count(row.downloads, "file")}`,
        wanted !== undefined && (here < wanted ? `mirrors, has ${here} of ${wanted}` : `mirrors, has all ${wanted}`))];
    }));
    $("swarm-note").textContent = `${count(rows.length, "peer")}${cursor ? " and more" : ""}`;
    $("peers-more").hidden = !cursor && rows.length <= peerRows;
    showFound();
  } catch (error) {
    $("swarm-note").textContent = error.message;
  }
}

$("peers-more").addEventListener("click", () => { peerRows += 10 * PAGE; swarm(); });

// ---- what is looked at again and again, as long as somebody looks

let later;
async function pollStatus() {
  clearTimeout(later);
  await status();
  if (!document.hidden) later = setTimeout(pollStatus, 4 * SECOND);
}

let swarmLater;
async function pollSwarm() {
  clearTimeout(swarmLater);
  await swarm();
  if (!document.hidden) swarmLater = setTimeout(pollSwarm, 8 * SECOND);
}

function look() {
  if (document.hidden) return;
  pollStatus();
  downloads();
  pollSwarm();
}
document.addEventListener("visibilitychange", look);
look();
