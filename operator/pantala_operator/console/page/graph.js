// Draws the swarm: the supernode in the middle, the nodes in a ring by zone, and an arrow for each flow of bytes.
import { bytes, count, plural, rate } from "./format.js";
import { attribute, h, keyed, s, text } from "./dom.js";

export const SUPERNODE = "supernode";
export const ORIGIN = "origin";
const MOST_NODES = 48;
const RADIUS = 7;
const ORIGIN_RADIUS = 11;
const SUPERNODE_RADIUS = 16;
const measure = document.createElement("canvas").getContext("2d");
let graphs = 0;

export const kindOf = (provider) => (provider === ORIGIN ? "origin" : provider === SUPERNODE ? "supernode" : "peers");

const widthOf = (words) => measure.measureText(words).width;

// A long name is broken after its dots and dashes, and never cut off.
function linesOf(name, most) {
  const lines = [""];
  for (const part of name.match(/[^.\-_]*[.\-_]?/g).filter(Boolean)) {
    if (lines[lines.length - 1] && widthOf(lines[lines.length - 1] + part) > most) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines;
}

function busiest(names, edges) {
  if (names.length <= MOST_NODES) return names;
  const moved = new Map(names.map((name) => [name, 0]));
  for (const edge of edges) {
    for (const name of [edge.provider, edge.node]) if (moved.has(name)) moved.set(name, moved.get(name) + edge.rate + 1);
  }
  return [...names].sort((one, other) => moved.get(other) - moved.get(one)).slice(0, MOST_NODES);
}

function layout(shown, zoneOf, available) {
  const zones = [...new Set(shown.map(zoneOf))].sort();
  const ordered = zones.flatMap((zone) => shown.filter((name) => zoneOf(name) === zone).sort());
  const gaps = zones.length > 1 ? zones.length * 0.6 : 0;
  const step = (2 * Math.PI) / Math.max(1, ordered.length + gaps);
  measure.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const turned = ordered.length > 12;
  const lines = new Map(ordered.map((name) => [name, turned ? [name] : linesOf(name, available < 520 ? 96 : 160)]));
  const label = Math.max(40, ...[...lines.values()].flat().map(widthOf));
  const rows = Math.max(1, ...[...lines.values()].map((each) => each.length));
  const wanted = Math.max(150 + 7 * ordered.length, (18 * (ordered.length + gaps)) / (2 * Math.PI));
  const radius = Math.max(84, Math.min(wanted, 270, available / 2 - label - 28));
  const width = Math.max(available, 2 * (radius + label + 26));
  const height = 2 * (radius + (turned ? label + 24 : (ordered.length <= 8 ? 36 : 26) + 14 * rows));
  const center = { x: width / 2, y: height / 2 };
  const places = new Map([[SUPERNODE, { ...center, r: SUPERNODE_RADIUS }], [ORIGIN, { x: center.x, y: center.y - radius * (ordered.length <= 8 ? 1 : 0.56), r: ORIGIN_RADIUS }]]);
  const arcs = [];
  let angle = -Math.PI / 2 + (zones.length > 1 ? step * 0.8 : step / 2);
  let zone = null;
  for (const name of ordered) {
    if (zone !== null && zone.name !== zoneOf(name)) angle += step * 0.6;
    if (zone === null || zone.name !== zoneOf(name)) arcs.push((zone = { name: zoneOf(name), from: angle, to: angle, count: 0 }));
    zone.to = angle;
    zone.count += 1;
    places.set(name, { x: center.x + radius * Math.cos(angle), y: center.y + radius * Math.sin(angle), r: RADIUS, angle });
    angle += step;
  }
  return { ordered, places, arcs, radius, width, height, center, turned, step, lines };
}

function curve(from, to, center, few) {
  const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const ring = from.angle !== undefined && to.angle !== undefined;
  // Between two nodes the arrow bends to the middle, and to the right, so that both directions can be seen.
  const pull = ring ? (few ? 0.12 : 0.5) : 0;
  const aside = ring ? 18 : 0;
  const control = {
    x: middle.x + (center.x - middle.x) * pull - ((to.y - from.y) / length) * aside,
    y: middle.y + (center.y - middle.y) * pull + ((to.x - from.x) / length) * aside,
  };
  const cut = (point, toward, r) => {
    const distance = Math.hypot(toward.x - point.x, toward.y - point.y) || 1;
    return { x: point.x + ((toward.x - point.x) / distance) * r, y: point.y + ((toward.y - point.y) / distance) * r };
  };
  const start = cut(from, control, from.r + 2);
  const end = cut(to, control, to.r + 7);
  // The label with the rate is nearer to the receiver, so that the labels of both directions are apart.
  const at = from.r === ORIGIN_RADIUS ? 0.3 : 0.64;
  const along = (axis) => (1 - at) ** 2 * start[axis] + 2 * at * (1 - at) * control[axis] + at ** 2 * end[axis];
  const label = { x: along("x"), y: along("y") };
  const point = (each) => `${each.x.toFixed(1)} ${each.y.toFixed(1)}`;
  return { path: `M${point(start)}Q${point(control)} ${point(end)}`, label };
}

function arcPath(center, radius, from, to) {
  const at = (angle) => `${(center.x + radius * Math.cos(angle)).toFixed(1)} ${(center.y + radius * Math.sin(angle)).toFixed(1)}`;
  return `M${at(from)}A${radius} ${radius} 0 ${to - from > Math.PI ? 1 : 0} 1 ${at(to)}`;
}

export class SwarmGraph {
  constructor(label) {
    this.label = label;
    this.id = `graph${(graphs += 1)}`;
    const marker = (kind) => s("marker", { id: `${this.id}-${kind}`, class: `tip ${kind}`, viewBox: "0 0 8 8", refX: 2, refY: 4,
      markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" }, s("path", { d: "M0 0.5L8 4L0 7.5Z" }));
    this.layers = Object.fromEntries(["bands", "edges", "rates", "nodes", "zones"].map((name) => [name, s("g", { class: name })]));
    this.svg = s("svg", { class: "graph", role: "img" },
      s("defs", {}, ["origin", "supernode", "peers"].map(marker)), Object.values(this.layers));
    this.note = h("p", { class: "muted" });
    this.box = h("div", { class: "canvas scroll", tabindex: 0, role: "group", "aria-label": label }, this.svg);
    this.element = h("div", { class: "swarm" }, this.box, this.note);
  }

  // edges: [{provider, node, rate, bytes}]; nodes: [{name, zone, mood, words}].
  update(nodes, edges) {
    const known = new Map(nodes.map((node) => [node.name, node]));
    const names = new Set(nodes.map((node) => node.name));
    for (const { provider, node } of edges) {
      if (kindOf(provider) === "peers") names.add(provider);
      if (node !== SUPERNODE) names.add(node);
    }
    const shown = busiest([...names], edges);
    const zoneOf = (name) => known.get(name)?.zone ?? "";
    const plan = layout(shown, zoneOf, Math.max(300, (this.box.clientWidth || 640) - 2));
    const drawn = edges.filter((edge) => plan.places.has(edge.provider) && plan.places.has(edge.node));
    const top = Math.max(1, ...drawn.map((edge) => edge.rate));
    attribute(this.svg, "viewBox", `0 0 ${plan.width.toFixed(0)} ${plan.height.toFixed(0)}`);
    attribute(this.svg, "width", plan.width.toFixed(0));
    attribute(this.svg, "height", plan.height.toFixed(0));
    const moving = drawn.filter((edge) => edge.rate > 0);
    attribute(this.svg, "aria-label", `${this.label}: ${plural(moving.length, "flow", "flows")} between ${plural(shown.length, "node", "nodes")}. The table has all numbers.`);
    this.drawArcs(plan);
    this.drawEdges(plan, drawn, top);
    this.drawNodes(plan, known, drawn.some((edge) => edge.provider === ORIGIN));
    if (!this.placed && this.box.clientWidth) {
      this.placed = true;
      this.box.scrollLeft = (this.box.scrollWidth - this.box.clientWidth) / 2;
    }
    text(this.note, names.size > shown.length ? `The graph shows the ${count(shown.length)} busiest of ${count(names.size)} nodes. The table has all.` : "");
  }

  drawArcs(plan) {
    const arcs = plan.arcs.length > 1 || plan.arcs[0]?.name ? plan.arcs : [];
    const around = (arc) => arcPath(plan.center, plan.radius, arc.from - plan.step * 0.36, arc.to + plan.step * 0.36);
    keyed(this.layers.bands, arcs, (arc) => arc.name, () => s("path", { class: "zone" }), (band, arc) => attribute(band, "d", around(arc)));
    keyed(this.layers.zones, arcs, (arc) => arc.name, () => s("text", { class: "zone-name", "text-anchor": "middle" }),
      (label, arc) => {
        // Between two nodes, so that no arrow ends there.
        const middle = (arc.from + arc.to) / 2 + (arc.count > 1 && arc.count % 2 ? plan.step / 2 : 0);
        const below = Math.sin(middle) > 0;
        const inner = plan.radius - (arc.count > 1 ? 24 : 34);
        const x = plan.center.x + inner * Math.cos(middle);
        const y = plan.center.y + inner * Math.sin(middle);
        attribute(label, "transform", `translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(${((middle * 180) / Math.PI + (below ? -90 : 90)).toFixed(1)})`);
        attribute(label, "dy", 4);
        text(label, arc.name || "no zone");
      });
  }

  drawEdges(plan, edges, top) {
    const named = edges.length <= 14 && plan.radius >= 130 ? edges.filter((edge) => edge.rate) : [];
    const curveOf = (edge) => curve(plan.places.get(edge.provider), plan.places.get(edge.node), plan.center, plan.ordered.length <= 6);
    // If there are many arrows, they have no dashes, and the slow arrows are fainter.
    this.svg.classList.toggle("many", edges.length > 24);
    keyed(this.layers.edges, edges, (edge) => `${edge.provider} ${edge.node}`,
      (edge) => {
        const kind = kindOf(edge.provider);
        return s("g", { class: `edge ${kind}` }, s("title"), s("path", { class: "flow", "marker-end": `url(#${this.id}-${kind})` }));
      },
      (group, edge) => {
        const [title, path] = group.children;
        attribute(path, "d", curveOf(edge).path);
        const share = Math.sqrt(edge.rate / top);
        path.style.strokeWidth = edge.rate ? (1.2 + (edges.length > 24 ? 2.2 : 3.6) * share).toFixed(2) : "1";
        path.style.opacity = edges.length > 24 ? (0.18 + 0.72 * share * share).toFixed(2) : "";
        group.dataset.ends = `${edge.provider} ${edge.node}`;
        group.classList.toggle("idle", !edge.rate);
        text(title, `${edge.provider} sends ${edge.node} ${rate(edge.rate)}${edge.bytes ? `, ${bytes(edge.bytes)} so far` : ""}`);
      });
    keyed(this.layers.rates, named, (edge) => `${edge.provider} ${edge.node}`, () => s("text", { "text-anchor": "middle" }),
      (words, edge) => {
        const { label } = curveOf(edge);
        text(words, rate(edge.rate));
        attribute(words, "x", label.x.toFixed(1));
        attribute(words, "y", (label.y + 4).toFixed(1));
      });
  }

  drawNodes(plan, known, origin) {
    const fixed = [SUPERNODE, ...(origin ? [ORIGIN] : [])];
    keyed(this.layers.nodes, [...fixed, ...plan.ordered], (name) => name,
      (name) => s("g", { class: `node ${fixed.includes(name) ? name : "peer"}`, onpointerenter: () => this.point(name), onpointerleave: () => this.point(null) },
        s("title"), s("circle"), s("text")),
      (group, name) => {
        const [title, circle, label] = group.children;
        const place = plan.places.get(name);
        const node = known.get(name);
        attribute(circle, "cx", place.x.toFixed(1));
        attribute(circle, "cy", place.y.toFixed(1));
        attribute(circle, "r", place.r);
        attribute(group, "data-mood", node?.mood ?? null);
        text(title, `${name}${node?.words ? `: ${node.words}` : ""}`);
        keyed(label, plan.lines.get(name) ?? [name], (line) => line, (line) => s("tspan", {}, line), () => {});
        this.placeLabel(label, place, plan);
      });
  }

  // Shows only the flows of one node, while the pointer is over it.
  point(name) {
    for (const edge of this.layers.edges.children) {
      const ends = edge.dataset.ends.split(" ");
      edge.classList.toggle("away", name !== null && !ends.includes(name));
      edge.classList.toggle("near", name !== null && ends.includes(name));
    }
  }

  placeLabel(label, place, plan) {
    const rows = label.children.length;
    const set = (x, y, anchor, turn = null) => {
      attribute(label, "text-anchor", anchor);
      attribute(label, "transform", turn);
      [...label.children].forEach((line, index) => {
        attribute(line, "x", x.toFixed(1));
        attribute(line, "y", (y + 14 * index).toFixed(1));
      });
    };
    if (place.angle === undefined) {
      set(place.x, place.y + (place.r === SUPERNODE_RADIUS ? 32 : -17), "middle");
      return;
    }
    const [cos, sin] = [Math.cos(place.angle), Math.sin(place.angle)];
    const [x, y] = [place.x + cos * 14, place.y + sin * 14 + 4];
    if (plan.turned) {
      const left = cos < 0;
      set(x, y, left ? "end" : "start", `rotate(${((place.angle * 180) / Math.PI + (left ? 180 : 0)).toFixed(1)} ${x.toFixed(1)} ${(y - 4).toFixed(1)})`);
    } else {
      // Above a node, several lines begin higher. Beside a node, the lines are centred.
      const lift = 7 * (rows - 1) * (1 - sin);
      set(x, y + sin * 6 - lift, cos > 0.3 ? "start" : cos < -0.3 ? "end" : "middle");
    }
  }
}
