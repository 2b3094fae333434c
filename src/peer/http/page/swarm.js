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
