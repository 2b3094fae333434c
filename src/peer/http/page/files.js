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
    link.href = fileUrl(row.path);
    return [
      what(link, size(row.size)),
      make("div", "does", ...copyButtons(row.path, row.content, location.origin + fileUrl(row.path))),
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
