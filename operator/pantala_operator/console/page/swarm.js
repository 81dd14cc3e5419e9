// The view of the swarm: which node sends bytes to which, as a graph and as a table.
import { bytes, plural, rate } from "./format.js";
import { h, keyed, number, table, text } from "./dom.js";
import { kindOf, ORIGIN, SUPERNODE, SwarmGraph } from "./graph.js";
import { isDone } from "./tasks.js";

export const moodOfPeer = (peer) => (peer.ready === "True" ? "ready" : peer.ready === "False" ? "failed" : "waiting");

// The flows of one Task. Flows that have ended are included, with the rate 0.
export function flowsOf(detail) {
  const edges = detail.nodes.flatMap((node) => node.flows.map((flow) => ({ provider: flow.provider, node: node.name, rate: flow.rate, bytes: flow.bytes })));
  if (detail.task.traffic.origin_rate) edges.push({ provider: ORIGIN, node: SUPERNODE, rate: detail.task.traffic.origin_rate, bytes: detail.task.traffic.origin });
  return edges;
}

export const nodesOf = (detail) => detail.nodes.map((node) => ({
  name: node.name, zone: node.zone, mood: node.state.toLowerCase(), words: [node.state, node.reason].filter(Boolean).join(", "),
}));

function zoneWords(from, to) {
  if (from && from === to) return `within ${to}`;
  return from && to ? `${from} → ${to}` : to ? `to ${to}` : "–";
}

export class FlowTable {
  constructor(label) {
    this.body = h("tbody");
    this.element = table(label, [{ name: "From" }, { name: "To" }, { name: "Zone", class: "zone-cell" }, { name: "Rate", class: "num" }, { name: "Bytes so far", class: "num so-far" }], this.body, { class: "scroll tall" });
  }

  update(edges, zoneOf) {
    const sorted = [...edges].sort((one, other) => other.rate - one.rate || (other.bytes ?? 0) - (one.bytes ?? 0) || (one.node < other.node ? -1 : 1));
    this.element.hidden = sorted.length === 0;
    this.element.classList.toggle("rates-only", sorted.every((edge) => edge.bytes === undefined));
    this.element.classList.toggle("zoneless", sorted.every((edge) => !zoneOf(edge.node)));
    keyed(this.body, sorted, (edge) => `${edge.provider} ${edge.node}`,
      (edge) => h("tr", {},
        h("td", { "data-label": "From" }, h("span", { class: `source ${kindOf(edge.provider)}` }, edge.provider)),
        h("td", { "data-label": "To" }, edge.node), h("td", { "data-label": "Zone", class: "zone-cell muted" }),
        h("td", { "data-label": "Rate", class: "num" }), h("td", { "data-label": "Bytes so far", class: "num so-far" })),
      (row, edge) => {
        text(row.children[2], zoneWords(zoneOf(edge.provider), zoneOf(edge.node)));
        number(row.children[3], edge.rate, rate(edge.rate));
        number(row.children[4], edge.bytes, bytes(edge.bytes));
      });
  }
}

export class SwarmView {
  constructor(choose) {
    this.graph = new SwarmGraph("Which node sends bytes to which");
    this.flows = new FlowTable("Flows of bytes");
    this.select = h("select", { id: "swarm-task", onchange: (event) => choose(event.target.value) });
    this.words = h("p", { class: "muted", id: "swarm-words" });
    this.element = h("section", { class: "panel", "aria-labelledby": "swarm-title" },
      h("div", { class: "head" }, h("h1", { id: "swarm-title" }, "Swarm"),
        h("form", { class: "filters", onsubmit: (event) => event.preventDefault() }, h("label", {}, h("span", {}, "Show "), this.select))),
      h("ul", { class: "legend", "aria-label": "Colours of the arrows" },
        h("li", { class: "supernode" }, "from the supernode"), h("li", { class: "peers" }, "from a peer"), h("li", { class: "origin" }, "from the origin")),
      this.words,
      h("div", { class: "swarm-parts" }, this.graph.element, this.flows.element));
  }

  // detail: the details of the chosen Task, or null for all tasks.
  update(view, chosen, detail) {
    const open = view.tasks.filter((task) => task.kind === "Task" && (!isDone(task) || `${task.namespace}/${task.name}` === chosen));
    keyed(this.select, [null, ...open], (task) => (task ? `${task.namespace}/${task.name}` : ""),
      (task) => h("option", { value: task ? `${task.namespace}/${task.name}` : "" }, task ? `${task.namespace}/${task.name}` : "all tasks"), () => {});
    this.select.value = chosen;
    const zones = new Map(view.peers.map((peer) => [peer.name, peer.zone]));
    let edges = view.edges;
    let nodes = view.peers.map((peer) => ({ name: peer.name, zone: peer.zone, mood: moodOfPeer(peer), words: peer.reason }));
    if (chosen && detail) {
      edges = flowsOf(detail);
      nodes = nodesOf(detail);
    } else if (view.traffic.origin_rate) {
      edges = [...edges, { provider: ORIGIN, node: SUPERNODE, rate: view.traffic.origin_rate }];
    }
    const moving = edges.filter((edge) => edge.rate > 0);
    const sum = (kind) => moving.filter((edge) => kindOf(edge.provider) === kind).reduce((total, edge) => total + edge.rate, 0);
    text(this.words, moving.length ?
      `${plural(moving.length, "flow", "flows")} now: ${rate(sum("supernode")).replace("–", "0 B/s")} from the supernode, ${rate(sum("peers")).replace("–", "0 B/s")} between peers.` :
      "No bytes flow now.");
    this.graph.update(nodes, edges);
    this.flows.update(edges, (name) => zones.get(name) ?? "");
  }
}
