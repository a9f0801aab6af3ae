// The few words in which the page makes elements and writes times and numbers.

export const $ = (id) => document.getElementById(id);

export function element(name, kind = "", text = "", attributes = {}) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== "") made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function clock(text) {
  const time = new Date(text);
  if (Number.isNaN(time.valueOf())) return "";
  return `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

/** A time of day, with its day where that is another one. */
export function moment(time, now = Date.now()) {
  const [then, today] = [new Date(time), new Date(now)];
  if (Number.isNaN(then.valueOf())) return "";
  const clock = then.toLocaleTimeString("en-GB");
  if (then.toDateString() === today.toDateString()) return clock;
  const year = then.getFullYear() === today.getFullYear() ? {} : { year: "numeric" };
  return `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...year })} ${clock}`;
}

/** How long ago, as roughly as somebody looks at it. */
export function ago(ms) {
  if (!(ms >= 2000)) return "now";
  for (const [unit, size] of [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000]]) {
    if (ms >= size) return `${Math.floor(ms / size)} ${unit} ago`;
  }
  return `${Math.floor(ms / 1000)} s ago`;
}

/** How a run's status is shown. */
export function shade(status) {
  if (status === "completed") return "good";
  if (status === "running") return "live";
  return status === "silent" || status.startsWith("awaiting") ? "open" : "bad";
}

export function length(ms) {
  if (!(ms >= 0)) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const count = (number) => number.toLocaleString("en");

export const money = (dollars) => `$${dollars.toFixed(dollars < 1 ? 4 : 2)}`;

/** One of several is in the tab order; arrows go to the others. */
export function roving(list, selector, event) {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  const items = [...list.querySelectorAll(selector)].filter((one) => one.offsetParent !== null);
  const to = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : items.indexOf(document.activeElement) + step;
  const item = items[to];
  if (!item || Number.isNaN(to) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  for (const one of items) one.tabIndex = -1;
  item.tabIndex = 0;
  item.focus();
}
