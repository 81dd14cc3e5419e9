// Small helpers that make elements and keep them up to date. Texts become text nodes, never HTML.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const h = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);
export const s = (tag, properties = {}, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

// A text with the number behind it, so that tests and extensions can read the number.
export function number(element, value, shown) {
  text(element, shown);
  attribute(element, "data-value", value === null || value === undefined ? "" : value);
}

// Keeps one child for each item, in the order of the items. Elements are reused, so the focus stays.
export function keyed(parent, items, keyOf, create, update) {
  const known = parent.pantalaChildren ?? new Map();
  const next = new Map();
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    if (next.has(key)) continue;
    const element = known.get(key) ?? create(item);
    update(element, item);
    next.set(key, element);
    const place = before === null ? parent.firstChild : before.nextSibling;
    if (place !== element) parent.insertBefore(element, place);
    before = element;
  }
  for (const [key, element] of known) if (!next.has(key)) element.remove();
  parent.pantalaChildren = next;
}

// The share of a whole as a bar with parts. Each part is [class, share].
export function bar(label) {
  return h("div", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 });
}

export function setBar(element, share, parts, words) {
  attribute(element, "aria-valuenow", share === null ? null : Math.floor(share * 100));
  attribute(element, "aria-valuetext", words);
  keyed(
    element,
    parts.filter(([, part]) => part > 0),
    ([kind]) => kind,
    ([kind]) => h("span", { class: `part ${kind}` }),
    (part, [, width]) => {
      part.style.width = `${Math.min(100, width * 100)}%`;
    },
  );
}

export function table(label, columns, body, extra = {}) {
  const properties = { class: "scroll", tabindex: 0, role: "region", "aria-label": label, ...extra };
  const head = h("tr", {}, columns.map((column) =>
    h("th", { scope: "col", class: column.class, "aria-sort": column.sort }, column.head ?? column.name)));
  return h("div", properties,
    h("table", {}, h("caption", { class: "unseen" }, label), h("thead", {}, head), body));
}

// Long lists show the first rows, and a button that shows all rows.
export class Cap {
  constructor(most, what, draw) {
    this.most = most;
    this.what = what;
    this.button = h("button", { type: "button", class: "more", onclick: () => { this.most = Infinity; draw(); } });
    this.button.hidden = true;
  }

  of(items) {
    this.button.hidden = items.length <= this.most;
    text(this.button, `Show all ${items.length.toLocaleString("en-US")} ${this.what}`);
    return this.button.hidden ? items : items.slice(0, this.most);
  }
}
