// The numbers at the top, and the bytes per second of the last two minutes.
import { bytes, count, duration, percent, plural, rate } from "./format.js";
import { attribute, h, number, s, text } from "./dom.js";
import { inTrouble, isDone } from "./tasks.js";

const LONGEST = 120;
const SHORTEST = 30;
const GAP = 12;
const WIDTH = 600;
const HEIGHT = 72;
const LAYERS = ["supernode", "peers", "origin"];

function tile(id, title, ...children) {
  return h("article", { class: "tile", id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title), ...children);
}

export class Tiles {
  constructor(parent) {
    this.samples = [];
    const part = (id) => h("span", { id });
    this.saved = h("p", { class: "big", id: "saved" });
    this.savedOf = h("p", { class: "sub", id: "saved-of" });
    this.now = h("p", { class: "big", id: "rate-now" });
    this.rates = Object.fromEntries(LAYERS.map((name) => [name, part(`rate-${name}`)]));
    this.chart = s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.areas = Object.fromEntries(LAYERS.map((name) => [name, s("path", { class: `area ${name}` })]));
    this.chart.append(...LAYERS.map((name) => this.areas[name]));
    this.peak = h("span", { class: "peak" });
    this.tasks = h("p", { class: "big", id: "unfinished-now" });
    this.tasksOf = h("p", { class: "sub", id: "tasks-of" });
    this.peers = h("p", { class: "big", id: "peers-ready" });
    this.supernodes = h("p", { class: "sub", id: "supernodes" });
    parent.append(
      tile("tile-saved", "Origin bytes saved", this.saved, this.savedOf),
      tile("tile-now", "Bytes per second to nodes",
        h("div", { class: "split" },
          h("div", {}, this.now, h("ul", { class: "legend" },
            h("li", { class: "supernode" }, "supernode ", this.rates.supernode), h("li", { class: "peers" }, "peers ", this.rates.peers),
            h("li", { class: "origin" }, "origin ", this.rates.origin))),
          h("div", { class: "plot" }, this.chart, this.peak))),
      tile("tile-tasks", "Unfinished", this.tasks, this.tasksOf),
      tile("tile-peers", "Peers ready", this.peers, this.supernodes));
  }

  update(view) {
    const { traffic } = view;
    const delivered = traffic.supernode + traffic.peers;
    number(this.saved, view.saved, bytes(view.saved));
    text(this.savedOf, delivered ? `${percent(view.saved / delivered)} of ${bytes(delivered)} that nodes got; the origins sent ${bytes(traffic.origin)}` :
      "No node has got a byte yet.");
    const total = traffic.supernode_rate + traffic.peers_rate;
    number(this.now, total, total ? rate(total) : "0 B/s");
    for (const name of LAYERS) number(this.rates[name], traffic[`${name}_rate`], traffic[`${name}_rate`] ? rate(traffic[`${name}_rate`]) : "0");
    this.draw({ at: performance.now() / 1000, supernode: traffic.supernode_rate, peers: traffic.peers_rate, origin: traffic.origin_rate });
    const open = view.tasks.filter((task) => !isDone(task));
    const bad = open.filter(inTrouble).length;
    number(this.tasks, open.length, count(open.length));
    text(this.tasksOf, `of ${plural(view.tasks.length + view.omitted, "Task or image", "Tasks and images")}; ${bad ? `${count(bad)} with a problem` : "none with a problem"}`);
    attribute(this.tasks.parentElement, "data-mood", bad ? "late" : null);
    const ready = view.peers.filter((peer) => peer.ready === "True").length;
    number(this.peers, ready, `${count(ready)} of ${count(view.peers.length)}`);
    attribute(this.peers.parentElement, "data-mood", ready < view.peers.length ? "late" : null);
    const up = view.supernodes.filter((each) => each.answers).length;
    const size = view.supernodes.reduce((sum, each) => sum + each.volume_bytes, 0);
    const free = view.supernodes.reduce((sum, each) => sum + each.volume_free, 0);
    text(this.supernodes, `${count(up)} of ${plural(view.supernodes.length, "supernode answers", "supernodes answer")}${size ? `; volumes ${percent((size - free) / size)} full` : ""}`);
  }

  draw(sample) {
    // The rates while the page was hidden or paused are not known.
    if (this.samples.length && sample.at - this.samples[this.samples.length - 1].at > GAP) this.samples = [];
    this.samples.push(sample);
    while (this.samples.length > 1 && this.samples[1].at < sample.at - LONGEST) this.samples.shift();
    // The window grows with the time since the page was opened.
    const span = Math.min(LONGEST, Math.max(SHORTEST, sample.at - this.samples[0].at));
    const since = sample.at - span;
    const peak = Math.max(1, ...this.samples.map((each) => Math.max(each.supernode + each.peers, each.origin)));
    const x = (at) => (WIDTH * Math.max(0, at - since)) / span;
    const y = (value) => HEIGHT - 2 - ((HEIGHT - 6) * value) / peak;
    const line = (value) => this.samples.map((each) => `${x(each.at).toFixed(1)},${y(value(each)).toFixed(1)}`);
    const area = (upper, lower) => `M${[...line(upper), ...line(lower).reverse()].join("L")}Z`;
    this.areas.supernode.setAttribute("d", area((each) => each.supernode, () => 0));
    this.areas.peers.setAttribute("d", area((each) => each.supernode + each.peers, (each) => each.supernode));
    this.areas.origin.setAttribute("d", `M${line((each) => each.origin).join("L")}`);
    const words = peak > 1 ? `peak ${rate(peak)}` : "";
    text(this.peak, [`last ${duration(span)}`, words].filter(Boolean).join(", "));
    attribute(this.chart, "aria-label", `Bytes per second in the last ${duration(span)}${words ? `, ${words}` : ""}`);
  }
}
