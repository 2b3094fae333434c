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
    if (row.state === "done") title.href = fileUrl(name);
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
      const isThere = request.status === 0 && await fetch(fileUrl(name), { method: "HEAD" }).then(({ ok }) => ok, () => false);
      if (isThere) return done({ status: 409 });
      try { ({ detail } = JSON.parse(request.responseText)); } catch { /* It says nothing more. */ }
      done({ status: request.status, detail });
    });
    request.open("PUT", fileUrl(name));
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
