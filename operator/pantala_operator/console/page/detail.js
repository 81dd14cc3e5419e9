// The page of one Task or ImagePrefetch: its progress, why it is not done, its nodes, its swarm and its timeline.
import { age, bytes, clock, count, duration, moment, percent, plural, rate } from "./format.js";
import { attribute, bar, Cap, h, keyed, number, setBar, table, text } from "./dom.js";
import { SUPERNODE, SwarmGraph } from "./graph.js";
import { FlowTable, flowsOf, nodesOf } from "./swarm.js";
import { badge, inTrouble, isDone, moodOf, partsOf, progressWords, rateOf, setBadge, stateWord } from "./tasks.js";

const CLASSES = { rate: "num", eta: "num", next: "next-step" };
const NODE_COLUMNS = [["name", "Node"], ["state", "State"], ["progress", "Progress"], ["rate", "Rate"], ["eta", "Left"], ["sources", "From"], ["next", "Reason and next step"]];
const ORDER = { Failed: 0, Late: 1, Fetching: 2, Waiting: 3, Ready: 4 };

const fact = (name, id) => h("div", { class: "fact" }, h("dt", {}, name), h("dd", { id }));

function makeCause(cause) {
  const section = h("li", { class: "cause", "data-reason": cause.reason },
    h("h3", {}, h("code", {}, cause.reason), h("span", { class: "muted since" })),
    h("p", { class: "message" }), h("p", { class: "nodes" }),
    h("p", { class: "next" }, h("strong", {}, "Next step: "), h("span")),
    h("details", { open: true }, h("summary", {}, "Evidence"), h("ul", { class: "evidence" })));
  return section;
}

function drawCause(section, cause, now) {
  const [head, message, nodes, next, evidence] = section.children;
  text(head.lastChild, cause.since ? ` since ${clock(cause.since)}, for ${duration(now - cause.since)}` : "");
  text(message, cause.message);
  // The message of a cause with a single node begins with the node's name.
  nodes.hidden = cause.nodes.every((name) => cause.message.startsWith(name));
  text(nodes, `Nodes: ${cause.nodes.join(", ")}`);
  next.hidden = !cause.action;
  text(next.lastChild, cause.action);
  evidence.hidden = cause.evidence.length === 0;
  keyed(evidence.lastChild, cause.evidence.map((words, index) => ({ words, index })), (each) => each.index, () => h("li"), (item, each) => text(item, each.words));
}

function sourceWords(flows) {
  const sum = (chosen) => bytes(chosen.reduce((total, flow) => total + flow.bytes, 0));
  const own = flows.filter((flow) => flow.provider === SUPERNODE);
  const peers = flows.filter((flow) => flow.provider !== SUPERNODE);
  const words = [own.length ? `supernode ${sum(own)}` : "", peers.length === 1 ? `${peers[0].provider} ${sum(peers)}` : peers.length ? `${peers.length} peers ${sum(peers)}` : ""];
  return words.filter(Boolean).join(", ") || "–";
}

function makeNode(node) {
  const cells = NODE_COLUMNS.slice(1).map(([id, name]) => h("td", { class: CLASSES[id], "data-label": name, "data-cell": id }));
  const parts = Object.fromEntries(NODE_COLUMNS.slice(1).map(([id], index) => [id, cells[index]]));
  parts.state.append(badge(), h("span", { class: "sub" }));
  parts.progress.append(bar(`Progress of ${node.name}`), h("span", { class: "sub" }));
  parts.next.append(h("span", { class: "words" }), h("span", { class: "sub" }));
  const row = h("tr", {}, h("th", { scope: "row", "data-cell": "name" }, h("span", { class: "name" }, node.name), h("span", { class: "sub" })), cells);
  row.parts = parts;
  return row;
}

function drawNode(row, { node, length, now }) {
  const { parts } = row;
  const mood = node.state.toLowerCase();
  attribute(row, "data-mood", mood);
  text(row.firstChild.lastChild, node.zone ? `zone ${node.zone}` : "");
  setBadge(parts.state.firstChild, mood, node.state);
  text(parts.state.lastChild, node.since ? `for ${duration(now - node.since)}` : "");
  const share = node.state === "Ready" ? 1 : length ? Math.min(1, node.bytes / length) : null;
  const words = length === null ? bytes(node.bytes) : `${percent(share)}, ${bytes(node.bytes)}`;
  attribute(parts.progress, "data-value", node.bytes);
  setBar(parts.progress.firstChild, share, [[mood, share ?? 0]], words);
  text(parts.progress.lastChild, words);
  number(parts.rate, node.rate, rate(node.rate));
  number(parts.eta, node.eta, node.state === "Ready" ? "–" : duration(node.eta));
  text(parts.sources, sourceWords(node.flows));
  attribute(parts.sources, "title", node.flows.map((flow) => `${flow.provider}: ${bytes(flow.bytes)}`).join("\n"));
  text(parts.next.firstChild, node.reason ? `${node.reason}. ${node.message}` : "");
  text(parts.next.lastChild, node.action);
}

export class DetailView {
  constructor() {
    this.title = h("h1", { id: "detail-title" });
    this.badge = badge();
    this.bar = bar("Progress of all nodes");
    this.words = h("p", { class: "muted" });
    this.facts = h("dl", { class: "facts" }, fact("Nodes ready", "fact-nodes"), fact("Late or failed", "fact-late"), fact("Size", "fact-size"), fact("On the supernode", "fact-cached"),
      fact("From origin", "fact-origin"), fact("From supernode", "fact-supernode"), fact("From peers", "fact-peers"), fact("Rate", "fact-rate"), fact("Left", "fact-eta"), fact("Age", "fact-age"));
    this.fact = Object.fromEntries([...this.facts.querySelectorAll("dd")].map((each) => [each.id.slice(5), each]));
    this.causes = h("ol", { class: "causes" });
    this.why = h("section", { class: "panel why", "aria-labelledby": "why-title" }, h("h2", { id: "why-title" }), this.causes);
    this.nodeBody = h("tbody");
    this.cap = new Cap(100, "nodes", () => this.update(this.shown, this.now));
    this.nodes = h("section", { class: "panel", "aria-labelledby": "nodes-title" }, h("h2", { id: "nodes-title" }, "Nodes"),
      table("Nodes", NODE_COLUMNS.map(([id, name]) => ({ name, class: CLASSES[id] })), this.nodeBody), h("div", { class: "empty" }, "No node is known yet."), this.cap.button);
    this.graph = new SwarmGraph("Which node sends the bytes of this task to which");
    this.flows = new FlowTable("Flows of bytes of this task");
    this.swarm = h("section", { class: "panel", "aria-labelledby": "task-swarm-title" }, h("h2", { id: "task-swarm-title" }, "Swarm"), h("div", { class: "swarm-parts" }, this.graph.element, this.flows.element));
    this.moments = h("ol", { class: "timeline" });
    this.timeline = h("section", { class: "panel", "aria-labelledby": "timeline-title" }, h("h2", { id: "timeline-title" }, "Timeline"), this.moments);
    this.element = h("div", {},
      h("p", { class: "back" }, h("a", { href: "#/" }, "← All tasks and images")),
      h("section", { class: "panel", "aria-labelledby": "detail-title" }, h("div", { class: "head" }, this.title, this.badge), h("p", { class: "message", id: "detail-message" }), this.bar, this.words, this.facts),
      this.why, h("div", { class: "columns" }, this.nodes, this.timeline), this.swarm);
    this.message = this.element.querySelector("#detail-message");
  }

  update(detail, now) {
    Object.assign(this, { shown: detail, now });
    const { task } = detail;
    const kind = task.kind === "Task" ? (task.image ? "Image Task" : "Task") : "ImagePrefetch";
    keyed(this.title, [`${kind} `, `${task.namespace}/${task.name}`], (part) => part, (part) => h("span", { class: part.includes("/") ? "name" : "kind" }, part), () => {});
    const mood = moodOf(task);
    const word = stateWord(task);
    setBadge(this.badge, mood, inTrouble(task) ? `${word}: ${task.reason}` : word);
    // The causes repeat the message, with more details.
    text(this.message, [task.image, detail.causes.length ? "" : task.message].filter(Boolean).join(" · "));
    setBar(this.bar, task.progress, partsOf(task), progressWords(task));
    text(this.words, progressWords(task));
    this.drawFacts(task, now);
    this.why.hidden = isDone(task) || detail.causes.length === 0;
    text(this.why.firstChild, detail.causes.length > 1 ? `Why it is not done: ${count(detail.causes.length)} causes` : "Why it is not done");
    keyed(this.causes, detail.causes, (cause) => cause.reason, makeCause, (section, cause) => drawCause(section, cause, now));
    const nodes = [...detail.nodes].sort((one, other) => ORDER[one.state] - ORDER[other.state] || (one.name < other.name ? -1 : 1));
    keyed(this.nodeBody, this.cap.of(nodes).map((node) => ({ node, length: task.length, now })), ({ node }) => node.name, ({ node }) => makeNode(node), drawNode);
    this.nodes.children[1].hidden = nodes.length === 0;
    this.nodes.classList.toggle("calm", nodes.every((node) => !node.reason));
    this.nodes.children[2].hidden = nodes.length > 0;
    const edges = flowsOf(detail);
    this.swarm.hidden = edges.length === 0;
    if (edges.length) {
      const zones = new Map(detail.nodes.map((node) => [node.name, node.zone]));
      this.graph.update(nodesOf(detail), edges);
      this.flows.update(edges, (name) => zones.get(name) ?? "");
    }
    keyed(this.moments, [...detail.timeline].reverse().map((each, index, all) => ({ ...each, key: `${all.length - index} ${each.at} ${each.reason}` })), (each) => each.key,
      (each) => h("li", {}, h("time", { datetime: new Date(each.at * 1000).toISOString(), title: moment(each.at) }, clock(each.at)), h("div", {}, h("code", {}, each.reason), h("span", { class: "muted ago" }), h("p", {}, each.message))),
      (item, each) => text(item.querySelector(".ago"), ` ${age(now - each.at)} ago`));
  }

  drawFacts(task, now) {
    const { nodes, traffic } = task;
    number(this.fact.nodes, nodes.ready, nodes.desired ? `${count(nodes.ready)} of ${count(nodes.desired)}` : "–");
    number(this.fact.late, nodes.late + nodes.failed, nodes.late + nodes.failed ? plural(nodes.late + nodes.failed, "node", "nodes") : "none");
    this.fact.late.parentElement.classList.toggle("warn", nodes.late + nodes.failed > 0);
    number(this.fact.size, task.length, bytes(task.length));
    number(this.fact.cached, task.cached, task.length ? `${bytes(task.cached)} (${percent(task.cached / task.length)})` : bytes(task.cached));
    for (const name of ["origin", "supernode", "peers"]) {
      const current = traffic[`${name}_rate`];
      number(this.fact[name], traffic[name], `${bytes(traffic[name])}${current ? ` · ${rate(current)}` : ""}`);
    }
    number(this.fact.rate, rateOf(task), rate(rateOf(task)));
    number(this.fact.eta, task.eta, isDone(task) ? "–" : duration(task.eta));
    number(this.fact.age, task.created, age(now - task.created));
  }
}
