// Starts the page: polls the console, keeps the chosen view up to date, and announces changes.
import { count, duration } from "./format.js";
import { attribute, h, keyed, text } from "./dom.js";
import { DetailView } from "./detail.js";
import { PeersView } from "./peers.js";
import { SwarmView } from "./swarm.js";
import { inTrouble, isDone, TaskTable } from "./tasks.js";
import { Tiles } from "./tiles.js";

const API = "/api/v1/console";
const EVERY = 1000;
const LARGE = 256 * 1024;
const $ = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.tiles = new Tiles($("tiles"));
    this.tasks = new TaskTable();
    this.peers = new PeersView();
    this.detail = new DetailView();
    this.swarm = new SwarmView((chosen) => { this.chosen = chosen; this.details = null; this.poll(); });
    this.missing = h("div", { class: "panel empty", id: "missing" });
    this.chosen = "";
    this.view = null;
    this.details = null;
    this.paused = false;
    this.heard = null;
    this.problem = "";
    this.states = null;
    this.size = 0;
    window.addEventListener("hashchange", () => this.navigate(true));
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.poll(); });
    window.addEventListener("resize", () => this.draw());
    $("pause").addEventListener("click", () => this.pause(!this.paused));
    this.navigate(false);
  }

  pause(paused) {
    this.paused = paused;
    attribute($("pause"), "aria-pressed", paused);
    text($("pause"), paused ? "Resume" : "Pause");
    this.say(paused ? "Updates are paused." : "Updates continue.");
    this.drawLink();
    if (!paused) this.poll();
  }

  // The routes: #/, #/swarm, #/peers, #/tasks/NAMESPACE/NAME, #/images/NAMESPACE/NAME.
  navigate(moved) {
    const [place = "", namespace, name] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    this.place = place === "swarm" || place === "peers" ? place : name && (place === "tasks" || place === "images") ? "detail" : "tasks";
    this.path = this.place === "detail" ? `${place}/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}` : "";
    this.details = null;
    for (const tab of document.querySelectorAll("[data-tab]")) {
      attribute(tab, "aria-current", tab.dataset.tab === (this.place === "detail" ? "tasks" : this.place) ? (this.place === "detail" ? "true" : "page") : null);
    }
    this.draw();
    if (moved) {
      $("main").focus({ preventScroll: true });
      window.scrollTo(0, 0);
      this.poll();
    }
  }

  async ask(path) {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (answer.status === 404) return null;
    if (!answer.ok) throw new Error(`The console answers ${answer.status}.`);
    const body = await answer.text();
    return { body: JSON.parse(body), size: body.length };
  }

  async poll() {
    clearTimeout(this.timer);
    const began = performance.now();
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const path = this.place === "detail" ? this.path : this.place === "swarm" && this.chosen ? `tasks/${this.chosen.split("/").map(encodeURIComponent).join("/")}` : "";
    try {
      const [view, details] = await Promise.all([this.ask(API), path ? this.ask(`${API}/${path}`) : null]);
      if (turn !== this.turn) return;
      this.heard = performance.now();
      this.problem = "";
      this.size = Math.max(view.size, details?.size ?? 0);
      this.view = view.body;
      this.details = details === null ? null : { path, ...details.body };
      this.gone = path !== "" && details === null;
      this.announce();
      this.draw();
    } catch (error) {
      if (turn !== this.turn) return;
      if (!this.problem) this.say("The console does not answer.");
      this.problem = error instanceof TypeError || error.name === "TimeoutError" ? "The console does not answer." : error.message;
    }
    this.drawLink();
    if (!this.paused && !document.hidden) {
      const pause = this.size > LARGE ? 3 * EVERY : EVERY;
      this.timer = setTimeout(() => this.poll(), Math.max(pause - (performance.now() - began), pause / 2));
    }
  }

  draw() {
    const { view } = this;
    if (!view) return;
    this.drawNotices();
    this.tiles.update(view);
    const open = view.tasks.filter((task) => !isDone(task)).length;
    text($("count-tasks"), open ? count(open) : "");
    text($("count-peers"), count(view.peers.length));
    text($("foot"), `Pantala ${view.version}`);
    let shown = this.tasks;
    if (this.place === "peers") shown = this.peers;
    else if (this.place === "swarm") shown = this.swarm;
    else if (this.place === "detail") shown = this.details?.path === this.path ? this.detail : this.missing;
    const element = shown.element ?? shown;
    if ($("view").firstChild !== element) $("view").replaceChildren(element);
    if (shown === this.detail) shown.update(this.details, view.at);
    else if (shown === this.swarm) shown.update(view, this.chosen, this.chosen ? this.details : null);
    else if (shown === this.missing) text(shown, this.gone ? "This object does not exist. It was deleted, or its name is wrong." : "Loading …");
    else shown.update(view);
    const name = this.place === "detail" ? decodeURIComponent(this.path.split("/")[2]) : { tasks: "", swarm: "Swarm", peers: "Peers" }[this.place];
    document.title = name ? `${name} · Pantala` : "Pantala";
  }

  drawNotices() {
    const notices = [];
    if (this.view && !this.view.leads) {
      notices.push(["leads", this.view.leader ? `This replica does not lead, so it knows no progress. The pod ${this.view.leader} leads: forward its port instead, or use kubectl pantala ui.` :
        "This replica does not lead, so it knows no progress. No other leader is known yet."]);
    }
    for (const each of this.view?.supernodes ?? []) if (!each.answers) notices.push([`silent ${each.name}`, `The supernode ${each.name} does not answer. ${each.message}`]);
    if (this.problem) notices.push(["problem", `${this.problem} The page asks again. Check that the port-forward still runs.`]);
    keyed($("notices"), notices, ([key]) => key, () => h("p", { class: "notice" }), (element, [, words]) => text(element, words));
  }

  drawLink() {
    this.drawNotices();
    const state = this.problem ? "lost" : this.paused ? "paused" : this.heard === null ? "wait" : "live";
    attribute($("link"), "data-state", state);
    const silent = this.heard === null ? "" : ` for ${duration((performance.now() - this.heard) / 1000)}`;
    text($("link-text"), { lost: `No answer${silent}`, paused: "Paused", wait: "Connecting", live: "Live" }[state]);
  }

  // Screen readers announce only the Tasks that became ready or got a problem.
  announce() {
    const now = new Map(this.view.tasks.map((task) => [`${task.kind} ${task.namespace}/${task.name}`, isDone(task) ? "is ready" : inTrouble(task) ? `has a problem: ${task.reason}` : ""]));
    if (this.states) {
      const news = [...now].filter(([key, state]) => state && this.states.get(key) !== state).map(([key, state]) => `${key} ${state}.`);
      if (news.length) this.say(news.length > 3 ? `${news.length} Tasks or images changed.` : news.join(" "));
    }
    this.states = now;
  }

  say(words) {
    text($("live"), words);
  }
}

function switchTheme() {
  const root = document.documentElement;
  for (const input of document.querySelectorAll("#theme input")) {
    input.checked = input.value === root.dataset.theme;
    input.addEventListener("change", () => {
      root.dataset.theme = input.value;
      try {
        localStorage.setItem("pantala-theme", input.value);
      } catch {
        // Storage may be off. The choice then holds until the page is closed.
      }
    });
  }
}

switchTheme();
new Page().poll();
