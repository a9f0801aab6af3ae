// The first page: experiments on one side, their events as they come on the other.

import { LoopcastClient } from "./client.js";

const MAX_ROWS = 500;
const HISTORY = 100;
const LOOK_AGAIN = 3000;
const ALL = "*";
const DULL = new Set(["event", "type", "ts", "loop", "run_id"]);

const $ = (id) => document.getElementById(id);
const at = "http" === location.protocol.slice(0, 4) ? location.origin.replace("http", "ws") : "";

let chosen = null;
let paused = false;
let generation = 0;
let held = [];

const client = new LoopcastClient(`${at}/ws`, {
  onState(state, detail) {
    const words = {
      connecting: "connecting",
      connected: "live",
      waiting: `connection lost, next try in ${Math.ceil((detail ?? 0) / 1000)} s`,
      closed: `closed: ${detail}`,
    };
    show($("state"), state, words[state]);
  },
  onFrame(frame) {
    if (frame.type === "event") add(row(frame.event));
    else if (frame.type === "gap") add(note(`Events are missing here (${frame.reason}).`));
    else if (frame.type === "subscribed" && frame.recovered === false) {
      add(note(`Events are missing here (${frame.reason}).`));
    } else if (frame.type === "error") add(note(frame.message));
  },
});

function show(pill, state, words) {
  pill.dataset.state = state;
  pill.textContent = words;
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

function row(event) {
  const item = document.createElement("li");
  const time = element("time", "", clock(event.time ?? event.recordedtime));
  time.dateTime = event.time ?? event.recordedtime ?? "";
  time.title = time.dateTime;
  const data = element("span", "data", summary(event.data));
  item.append(time, element("span", "of", event.experimentid), element("span", "type", event.type), data);
  item.onclick = () => {
    if (String(getSelection())) return;
    const open = item.classList.toggle("open");
    data.textContent = open ? JSON.stringify(event.data, null, 2) : summary(event.data);
  };
  return item;
}

function note(text) {
  return element("li", "note", text);
}

function summary(data) {
  if (data === null || typeof data !== "object") return JSON.stringify(data);
  return Object.entries(data)
    .filter(([name, value]) => !DULL.has(name) && value !== null)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join("  ")
    .slice(0, 300);
}

function clock(text) {
  const time = new Date(text);
  if (Number.isNaN(time.valueOf())) return "";
  return `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

function add(item) {
  held.push(item);
  if (held.length > MAX_ROWS) held.shift();
  if (held.length === 1) requestAnimationFrame(paint);
}

function paint() {
  if (paused || !held.length) {
    $("pause").textContent = held.length ? `Resume (${held.length === MAX_ROWS ? "many" : held.length})` : "Resume";
    if (paused) setTimeout(() => requestAnimationFrame(paint), 300);
    return;
  }
  $("feed").prepend(...held.reverse());
  held = [];
  while ($("feed").childElementCount > MAX_ROWS) $("feed").lastElementChild.remove();
  $("empty").hidden = true;
}

// What was chosen shows its newest events, and then goes on exactly behind them.
async function choose(experiment) {
  if (chosen !== null) client.unfollow(chosen);
  chosen = experiment;
  const mine = ++generation;
  held = [];
  $("feed").replaceChildren();
  $("feed").classList.toggle("single", experiment !== ALL);
  $("title").textContent = experiment === ALL ? "All experiments" : experiment;
  $("empty").hidden = false;
  location.hash = experiment === ALL ? "" : encodeURIComponent(experiment);
  mark();
  if (experiment === ALL) return client.follow(ALL);
  const page = await ask(`/v1/experiments/${encodeURIComponent(experiment)}/events?order=newest&limit=${HISTORY}`);
  if (mine !== generation) return undefined;
  for (const { event } of (page?.events ?? []).toReversed()) add(row(event));
  const resume = page?.events[0]?.pos;
  return client.follow(experiment, resume ? { resume } : { from: "earliest" });
}

async function ask(path) {
  try {
    const answer = await fetch(path);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null; // The pill says already that the gateway is away.
  }
}

function mark() {
  for (const button of document.querySelectorAll("#experiments button")) {
    button.setAttribute("aria-current", String(button.dataset.experiment === chosen));
  }
}

function entry(experiment, name, events, last) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.experiment = experiment;
  button.title = name;
  button.append(element("span", "name", name), element("small", "", events), element("small", "last", last));
  button.onclick = () => choose(experiment);
  item.append(button);
  return item;
}

async function refresh() {
  const [list, stats] = await Promise.all([ask("/v1/experiments"), ask("/v1/stats")]);
  if (list) {
    const focused = document.activeElement?.dataset?.experiment;
    const named = list.experiments.filter((one) => one.experiment_id !== "~");
    $("experiments").replaceChildren(
      entry(ALL, "All experiments", "", "as they come"),
      ...named.map((one) =>
        entry(one.experiment_id, one.experiment_id, one.events.toLocaleString("en"), `${one.last.type} · ${clock(one.last.recordedtime)}`),
      ),
    );
    mark();
    if (focused !== undefined) document.querySelector(`#experiments [data-experiment="${CSS.escape(focused)}"]`)?.focus();
    $("count").textContent = named.length || "";
    $("partial").hidden = list.complete;
  }
  if (stats) {
    const reading = stats.log.every((partition) => partition.connected && partition.ready);
    show($("broker"), reading ? "connected" : "waiting", reading ? "broker connected" : "broker away");
    $("numbers").textContent = `${stats.total_connections} viewer${stats.total_connections === 1 ? "" : "s"}`;
  } else {
    show($("broker"), "unknown", "");
  }
  setTimeout(refresh, LOOK_AGAIN);
}

$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  requestAnimationFrame(paint);
};

client.start();
choose(location.hash ? decodeURIComponent(location.hash.slice(1)) : ALL);
refresh();
