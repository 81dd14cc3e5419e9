// Peers by zone, and the supernodes.
import { bytes, count, percent, rate } from "./format.js";
import { attribute, bar, Cap, h, keyed, number, setBar, table, text } from "./dom.js";
import { badge, setBadge } from "./tasks.js";
import { moodOfPeer } from "./swarm.js";

const WORDS = { ready: "Ready", failed: "Not ready", waiting: "Unknown" };
const SKEW = 5;
const COLUMNS = [["name", "Node"], ["state", "State"], ["in", "In"], ["out", "Out"], ["cache", "Cache"], ["tasks", "Tasks"], ["uploads", "Uploads"], ["clock", "Clock"], ["conditions", "Conditions"], ["version", "Version"], ["address", "Address"]];
const NUMBERS = new Set(["in", "out", "cache", "tasks", "uploads", "clock"]);

function makeRow(peer) {
  const cells = COLUMNS.slice(1).map(([id, name]) => h("td", { class: NUMBERS.has(id) ? "num" : id === "address" ? "mono" : null, "data-label": name, "data-cell": id }));
  cells[0].append(badge(), h("span", { class: "sub" }));
  const row = h("tr", {}, h("th", { scope: "row", "data-cell": "name" }, h("span", { class: "name" }, peer.name)), cells);
  row.parts = Object.fromEntries(COLUMNS.slice(1).map(([id], index) => [id, cells[index]]));
  return row;
}

export function skewWords(ahead) {
  if (ahead === null || ahead === undefined) return "–";
  if (ahead === 0) return "exact";
  return `${count(Math.abs(ahead))} s ${ahead > 0 ? "ahead" : "behind"}`;
}

function drawRow(row, peer) {
  const { parts } = row;
  const mood = moodOfPeer(peer);
  attribute(row, "data-mood", mood);
  setBadge(parts.state.firstChild, mood, WORDS[mood]);
  text(parts.state.lastChild, mood === "ready" ? "" : `${peer.reason}. ${peer.message}`);
  number(parts.in, peer.rate_in, rate(peer.rate_in));
  number(parts.out, peer.rate_out, rate(peer.rate_out));
  number(parts.cache, peer.cache_bytes, bytes(peer.cache_bytes));
  number(parts.tasks, peer.tasks, count(peer.tasks));
  number(parts.uploads, peer.uploads, count(peer.uploads));
  number(parts.clock, peer.clock_ahead, skewWords(peer.clock_ahead));
  parts.clock.classList.toggle("warn", Math.abs(peer.clock_ahead ?? 0) > SKEW);
  keyed(parts.conditions, peer.conditions, (each) => each.type, () => h("div", { class: "finding" }, badge(), h("span", { class: "sub" })), drawCondition);
  text(parts.version, peer.version || "–");
  text(parts.address, peer.address || "–");
}

const MARKS = { True: "ready", False: "late", Unknown: "waiting" };

function drawCondition(item, each) {
  setBadge(item.firstChild, MARKS[each.status] ?? "waiting", each.type);
  text(item.lastChild, each.status === "True" ? "" : [each.reason, each.message].filter(Boolean).join(". "));
}

function makeZone(zone, draw) {
  const body = h("tbody");
  const words = h("span", { class: "muted" });
  const id = `zone-${zone.name.replace(/[^A-Za-z0-9]/g, "-")}`;
  const section = h("section", { class: "zone-panel", "aria-labelledby": id },
    h("h2", { id }, zone.name ? `Zone ${zone.name}` : "Nodes without a zone", " ", words),
    table(zone.name ? `Peers in zone ${zone.name}` : "Peers without a zone", COLUMNS.map(([each, name]) => ({ name, class: NUMBERS.has(each) ? "num" : null })), body));
  const cap = new Cap(200, "peers", draw);
  section.append(cap.button);
  Object.assign(section, { body, words, cap });
  return section;
}

export class PeersView {
  constructor() {
    this.unready = false;
    this.zones = h("div");
    this.supernodes = h("tbody");
    this.empty = h("div", { class: "empty" }, "No peer has connected yet. Check the pods of the peers.");
    this.element = h("section", { class: "panel", "aria-labelledby": "peers-title" },
      h("div", { class: "head" }, h("h1", { id: "peers-title" }, "Peers by zone"),
        h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
          h("label", { class: "check" }, h("input", { type: "checkbox", id: "unready", onchange: (event) => { this.unready = event.target.checked; this.draw(); } }), h("span", {}, "Not ready only")))),
      this.zones, this.empty,
      h("section", { class: "zone-panel", "aria-labelledby": "supernodes-title" }, h("h2", { id: "supernodes-title" }, "Supernodes"),
        table("Supernodes", [{ name: "Name" }, { name: "State" }, { name: "Volume" }, { name: "From origins", class: "num" }], this.supernodes)));
  }

  update(view) {
    this.view = view;
    this.draw();
  }

  draw() {
    const { peers, supernodes } = this.view;
    const zones = new Map();
    for (const peer of peers) {
      if (!zones.has(peer.zone)) zones.set(peer.zone, { name: peer.zone, all: [] });
      zones.get(peer.zone).all.push(peer);
    }
    this.empty.hidden = peers.length > 0;
    const sorted = [...zones.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
    keyed(this.zones, sorted, (zone) => zone.name, (zone) => makeZone(zone, () => this.draw()), (section, zone) => {
      const ready = zone.all.filter((peer) => peer.ready === "True").length;
      const sum = (field) => zone.all.reduce((total, peer) => total + peer[field], 0);
      text(section.words, `${count(ready)} of ${count(zone.all.length)} ready, in ${rate(sum("rate_in")).replace("–", "0 B/s")}, out ${rate(sum("rate_out")).replace("–", "0 B/s")}`);
      const chosen = this.unready ? zone.all.filter((peer) => peer.ready !== "True") : zone.all;
      keyed(section.body, section.cap.of(chosen), (peer) => peer.name, makeRow, drawRow);
    });
    keyed(this.supernodes, supernodes, (each) => each.name,
      (each) => h("tr", {}, h("th", { scope: "row" }, h("span", { class: "name" }, each.name)), h("td", { "data-label": "State" }, badge(), h("span", { class: "sub" })),
        h("td", { "data-label": "Volume" }, bar(`Volume of ${each.name}`), h("span", { class: "sub" })), h("td", { class: "num", "data-label": "From origins" })),
      (row, each) => {
        const [, state, volume, origin] = row.children;
        setBadge(state.firstChild, each.answers ? "ready" : "failed", each.answers ? "Answers" : "Silent");
        text(state.lastChild, each.message);
        const used = each.volume_bytes ? (each.volume_bytes - each.volume_free) / each.volume_bytes : null;
        const words = used === null ? "size not known" : `${percent(used)} of ${bytes(each.volume_bytes)} used, ${bytes(each.volume_free)} free`;
        setBar(volume.firstChild, used, [["used", used ?? 0]], words);
        text(volume.lastChild, words);
        number(origin, each.origin_rate, rate(each.origin_rate));
      });
  }
}
