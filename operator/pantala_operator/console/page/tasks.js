// The table of Tasks and ImagePrefetches, and the parts that the page of one Task shares with it.
import { age, bytes, count, duration, moment, percent, plural, rate } from "./format.js";
import { attribute, bar, h, keyed, number, setBar, table, text } from "./dom.js";

const CALM = new Set(["Progressing", "Pending", "Suspended", "Prefetching", "Planned", "Resolving", "Waiting"]);

export const isDone = (task) => task.ready === "True";
export const inTrouble = (task) =>
  !isDone(task) && (task.nodes.failed > 0 || task.nodes.late > 0 || !CALM.has(task.reason));
export const route = (task) =>
  `#/${task.kind === "Task" ? "tasks" : "images"}/${encodeURIComponent(task.namespace)}/${encodeURIComponent(task.name)}`;
export const rateOf = (task) => task.traffic.supernode_rate + task.traffic.peers_rate;

export function moodOf(task) {
  if (isDone(task)) return "ready";
  if (task.nodes.failed > 0) return "failed";
  if (inTrouble(task)) return "late";
  return task.nodes.fetching > 0 || rateOf(task) > 0 || task.traffic.origin_rate > 0 ? "fetching" : "waiting";
}

const MOODS = { ready: "Ready", fetching: "Fetching", waiting: "Waiting", late: "Late", failed: "Failed" };

// A Task may have a problem although none of its nodes is late, such as a missing file.
export function stateWord(task) {
  const mood = moodOf(task);
  if (task.reason === "Suspended") return "Suspended";
  return mood === "late" && task.nodes.late === 0 ? "Blocked" : MOODS[mood];
}

export function badge() {
  return h("span", { class: "badge" }, h("span", { class: "mark", "aria-hidden": "true" }), h("span", { class: "word" }));
}

export function setBadge(element, mood, word = MOODS[mood]) {
  attribute(element, "data-mood", mood);
  text(element.lastChild, word);
}

// The done part of the bar is divided by the sources of the bytes.
export function partsOf(task) {
  const share = task.progress ?? 0;
  const { origin, supernode, peers } = task.traffic;
  if (task.nodes.desired === 0 && origin > 0) return [["origin", share]];
  if (supernode + peers === 0) return [[isDone(task) ? "ready" : "fetching", share]];
  const first = (share * supernode) / (supernode + peers);
  return [["supernode", first], ["peers", share - first]];
}

const COLUMNS = [
  { id: "name", name: "Name", value: (task) => `${task.namespace}/${task.name}` },
  { id: "state", name: "State", value: (task) => task.reason },
  { id: "progress", name: "Progress", value: (task) => task.progress ?? -1 },
  { id: "nodes", name: "Nodes", class: "num", value: (task) => task.nodes.ready },
  { id: "rate", name: "Rate", class: "num", value: rateOf },
  { id: "eta", name: "Left", class: "num", value: (task) => task.eta ?? Infinity },
  { id: "origin", name: "From origin", class: "num", value: (task) => task.traffic.origin },
  { id: "supernode", name: "From supernode", class: "num", value: (task) => task.traffic.supernode },
  { id: "peers", name: "From peers", class: "num", value: (task) => task.traffic.peers },
  { id: "age", name: "Age", class: "num", value: (task) => -task.created },
];

function makeRow(task) {
  const cells = COLUMNS.slice(1).map((column) => h("td", { class: column.class, "data-label": column.name, "data-cell": column.id }));
  const row = h("tr", {},
    h("th", { scope: "row", "data-cell": "name" },
      h("a", { class: "name", href: route(task) }, task.name),
      h("span", { class: "sub" }, h("span", {}, task.namespace), h("span", { class: "of" }))),
    cells);
  const [state, progress, nodes] = cells;
  state.append(badge(), h("span", { class: "sub" }));
  progress.append(bar(`Progress of ${task.namespace}/${task.name}`), h("span", { class: "sub" }));
  nodes.append(h("span", {}), h("span", { class: "sub" }));
  row.parts = Object.fromEntries(COLUMNS.map((column, index) => [column.id, index ? cells[index - 1] : row.firstChild]));
  return row;
}

export function progressWords(task) {
  const copies = Math.max(1, task.nodes.desired);
  if (task.length === null) return task.progress === null ? "size not known" : percent(task.progress);
  if (task.progress === null) return bytes(task.length);
  return `${percent(task.progress)} of ${copies > 1 ? `${copies} × ` : ""}${bytes(task.length)}`;
}

export function troubleWords(nodes) {
  return [[nodes.late, "late"], [nodes.failed, "failed"]]
    .filter(([value]) => value > 0).map(([value, word]) => `${count(value)} ${word}`).join(", ");
}

export class TaskTable {
  constructor() {
    this.query = "";
    this.namespace = "";
    this.unfinished = false;
    this.kind = "";
    this.sort = null;
    this.body = h("tbody");
    this.summary = h("p", { class: "muted", id: "shown" });
    this.empty = h("div", { class: "empty" });
    const columns = COLUMNS.map((column) => ({ ...column, head: this.sorter(column) }));
    this.table = table("Tasks and images", columns, this.body);
    this.heads = [...this.table.querySelectorAll("th")];
    this.namespaces = h("select", { id: "namespace", onchange: (event) => this.set({ namespace: event.target.value }) },
      h("option", { value: "" }, "All namespaces"));
    this.element = h("section", { class: "panel", "aria-labelledby": "tasks-title" },
      h("div", { class: "head" },
        h("h1", { id: "tasks-title" }, "Tasks and images"),
        h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
          h("label", {}, h("span", { class: "unseen" }, "Search by name or image"),
            h("input", { type: "search", id: "search", placeholder: "Name or image", autocomplete: "off",
              oninput: (event) => this.set({ query: event.target.value }) })),
          h("label", {}, h("span", { class: "unseen" }, "Namespace"), this.namespaces),
          h("label", {}, h("span", { class: "unseen" }, "Kind"),
            h("select", { id: "kind", onchange: (event) => this.set({ kind: event.target.value }) },
              h("option", { value: "" }, "Files and images"), h("option", { value: "files" }, "Files only"),
              h("option", { value: "images" }, "Images only"))),
          h("label", { class: "check" },
            h("input", { type: "checkbox", id: "unfinished", onchange: (event) => this.set({ unfinished: event.target.checked }) }),
            h("span", {}, "Unfinished only")))),
      h("ul", { class: "legend", "aria-label": "Colours of the bars" },
        h("li", { class: "supernode" }, "from the supernode"), h("li", { class: "peers" }, "from peers"),
        h("li", { class: "origin" }, "from the origin")),
      this.table, this.empty, this.summary);
  }

  sorter(column) {
    return h("button", { type: "button", class: "sort", onclick: () => this.toggle(column.id) }, column.name,
      h("span", { class: "arrow", "aria-hidden": "true" }));
  }

  toggle(id) {
    if (this.sort?.id !== id) this.sort = { id, down: id !== "name" && id !== "state" };
    else if (this.sort.down === (id !== "name" && id !== "state")) this.sort.down = !this.sort.down;
    else this.sort = null;
    this.draw();
  }

  set(changes) {
    Object.assign(this, changes);
    this.draw();
  }

  update(view) {
    this.view = view;
    this.draw();
  }

  draw() {
    if (!this.view) return;
    const all = this.view.tasks;
    const spaces = [...new Set(all.map((task) => task.namespace))].sort();
    keyed(this.namespaces, ["", ...spaces], (name) => name,
      (name) => h("option", { value: name }, name || "All namespaces"), () => {});
    const query = this.query.trim().toLowerCase();
    let chosen = all.filter((task) =>
      (!this.unfinished || !isDone(task)) &&
      (!this.namespace || task.namespace === this.namespace) &&
      (!this.kind || (this.kind === "images") === (task.image !== "" || task.kind === "ImagePrefetch")) &&
      (!query || `${task.namespace}/${task.name} ${task.image}`.toLowerCase().includes(query)));
    if (this.sort) {
      const { value } = COLUMNS.find((column) => column.id === this.sort.id);
      const sign = this.sort.down ? -1 : 1;
      chosen = [...chosen].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        return a < b ? -sign : a > b ? sign : 0;
      });
    }
    this.heads.forEach((head, index) => {
      const active = this.sort?.id === COLUMNS[index].id;
      attribute(head, "aria-sort", active ? (this.sort.down ? "descending" : "ascending") : null);
    });
    keyed(this.body, chosen, (task) => `${task.kind}/${task.namespace}/${task.name}`, makeRow,
      (row, task) => drawRow(row, task, this.view.at));
    this.table.hidden = chosen.length === 0;
    this.empty.hidden = chosen.length > 0;
    text(this.empty, all.length ? "Nothing matches the filters." :
      "There are no Tasks and no ImagePrefetches yet. Apply one with kubectl, for example crds/samples/task.yaml.");
    const more = this.view.omitted ? ` ${count(this.view.omitted)} more are not listed: see kubectl pantala get tasks.` : "";
    text(this.summary, chosen.length ? `${plural(chosen.length, "row", "rows")} of ${count(all.length)}.${more}` : "");
  }
}

function drawRow(row, task, now) {
  const cells = row.parts;
  text(cells.name.lastChild.lastChild, task.kind === "ImagePrefetch" ? `prefetch of ${task.image}` : task.image || "file");
  const mood = moodOf(task);
  attribute(row, "data-mood", mood);
  setBadge(cells.state.firstChild, mood, stateWord(task));
  text(cells.state.lastChild, task.reason);
  attribute(cells.state, "title", task.message);
  attribute(cells.progress, "data-value", task.progress ?? "");
  setBar(cells.progress.firstChild, task.progress, partsOf(task), progressWords(task));
  text(cells.progress.lastChild, progressWords(task));
  attribute(cells.nodes, "data-value", `${task.nodes.ready}/${task.nodes.desired}`);
  text(cells.nodes.firstChild, task.nodes.desired ? `${count(task.nodes.ready)} of ${count(task.nodes.desired)}` : "–");
  text(cells.nodes.lastChild, troubleWords(task.nodes));
  number(cells.rate, rateOf(task), rate(rateOf(task)));
  number(cells.eta, task.eta, isDone(task) ? "–" : duration(task.eta));
  for (const name of ["origin", "supernode", "peers"]) number(cells[name], task.traffic[name], bytes(task.traffic[name]));
  number(cells.age, task.created, age(now - task.created));
  attribute(cells.age, "title", moment(task.created));
}
