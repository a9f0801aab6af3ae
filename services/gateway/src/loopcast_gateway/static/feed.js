// The event feed: newest first, filtered by types and words, held while paused.

import { $, clock, element, moment, roving } from "./dom.js";

const MAX_ROWS = 500;
const PAINT_EVERY = 150; // Milliseconds: a busy loop would else have the page do nothing but lay out rows.
const DULL = new Set(["event", "type", "ts", "loop", "run_id", "experiment_id"]);

function summary(data) {
  if (data === null || typeof data !== "object") return JSON.stringify(data);
  return Object.entries(data)
    .filter(([name, value]) => !DULL.has(name) && value !== null)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join("  ")
    .slice(0, 300);
}

/** What a line of filters admits: `loop_*` types, `-action_output` not these, anything else words of the event. */
export function matcher(text) {
  const pattern = (glob) => new RegExp(`^${glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`);
  const words = text.trim().split(/\s+/).filter(Boolean);
  const not = words.filter((w) => w.length > 1 && w.startsWith("-")).map((w) => pattern(w.slice(1)));
  const globs = words.filter((w) => !w.startsWith("-") && (/[*?]/.test(w) || /^[a-z]+[_.][a-z_.]+$/i.test(w))).map(pattern);
  const plain = words.filter((w) => !w.startsWith("-") && !(/[*?]/.test(w) || /^[a-z]+[_.][a-z_.]+$/i.test(w)));
  return ({ type, experimentid, runid, data }) => {
    if (not.some((one) => one.test(type))) return false;
    if (globs.length && !globs.some((one) => one.test(type))) return false;
    if (!plain.length) return true;
    const all = `${type} ${experimentid} ${runid} ${JSON.stringify(data)}`.toLowerCase();
    return plain.every((word) => all.includes(word.toLowerCase()));
  };
}

export class Feed {
  #list = $("feed");
  #items = []; // events and notes, the newest last
  #fresh = [];
  #asked = false;
  #painted = -PAINT_EVERY;
  #admits = () => true;
  paused = false;

  constructor() {
    this.#list.addEventListener("keydown", (event) => roving(this.#list, "li", event));
    $("filter").addEventListener("input", ({ target }) => {
      this.#admits = matcher(target.value);
      this.#show();
    });
  }

  /** Begin anew, with the events of one experiment, or with null of all. */
  clear(single) {
    this.#items = [];
    this.#fresh = [];
    this.#list.replaceChildren();
    this.#list.classList.toggle("single", single !== null);
    $("sample").textContent = `loopcast send ${/^[\w.-]+$/.test(single ?? "my-experiment") ? (single ?? "my-experiment") : `'${single.replaceAll("'", "'\\''")}'`} hello`;
    this.#empty();
  }

  event(event) {
    this.#add({ event });
  }

  note(text) {
    this.#add({ text });
  }

  pause(paused) {
    this.paused = paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    this.#paint();
  }

  #add(item) {
    this.#items.push(item);
    this.#fresh.push(item);
    if (this.#items.length > MAX_ROWS * 2) this.#items.splice(0, MAX_ROWS);
    if (this.#fresh.length > MAX_ROWS) this.#fresh.shift();
    $("empty").hidden = true; // The row comes with the next frame, and until then there is not nothing.
    if (!this.#asked) {
      this.#asked = true;
      setTimeout(() => requestAnimationFrame(() => this.#paint()), Math.max(0, this.#painted + PAINT_EVERY - performance.now()));
    }
  }

  #paint() {
    this.#asked = false;
    this.#painted = performance.now();
    const waiting = this.#fresh.length;
    $("pause").textContent = this.paused ? `Resume${waiting ? ` (${waiting === MAX_ROWS ? "many" : waiting})` : ""}` : "Pause";
    if (this.paused || !waiting) return;
    const rows = this.#fresh.filter((item) => this.#wanted(item)).map((item) => this.#row(item));
    this.#fresh = [];
    this.#list.prepend(...rows.reverse());
    while (this.#list.childElementCount > MAX_ROWS) this.#list.lastElementChild.remove();
    this.#empty();
  }

  #show() {
    this.#fresh = this.paused ? this.#fresh : [];
    const hidden = new Set(this.paused ? this.#fresh : []);
    const rows = this.#items.filter((item) => !hidden.has(item) && this.#wanted(item)).slice(-MAX_ROWS);
    this.#list.replaceChildren(...rows.reverse().map((item) => this.#row(item)));
    this.#empty();
  }

  #wanted({ event }) {
    return !event || this.#admits(event);
  }

  #empty() {
    if (this.#list.firstElementChild && !this.#list.querySelector('[tabindex="0"]')) this.#list.firstElementChild.tabIndex = 0;
    $("empty").hidden = this.#items.length > 0;
    $("none").hidden = !(this.#items.length > 0 && this.#list.childElementCount === 0);
  }

  #row({ event, text }) {
    if (!event) return element("li", "note", text, { role: "treeitem", tabindex: "-1" });
    const item = element("li", "", "", { role: "treeitem", tabindex: "-1", "aria-expanded": "false" });
    const stamp = event.time ?? event.recordedtime ?? "";
    const today = new Date(stamp).toDateString() === new Date().toDateString();
    const time = element("time", "", today ? clock(stamp) : moment(stamp), { datetime: stamp, title: stamp });
    const data = element("span", "data", summary(event.data));
    item.append(time, element("span", "of", event.experimentid === "~" ? "(none)" : event.experimentid), element("span", "type", event.type), data);
    const toggle = () => {
      const open = item.classList.toggle("open");
      item.setAttribute("aria-expanded", String(open));
      data.textContent = open ? JSON.stringify(event.data, null, 2) : summary(event.data);
    };
    item.onclick = () => String(getSelection()) || toggle();
    item.onkeydown = (press) => {
      if (press.target !== item || !["Enter", " "].includes(press.key)) return;
      press.preventDefault();
      toggle();
    };
    return item;
  }
}
