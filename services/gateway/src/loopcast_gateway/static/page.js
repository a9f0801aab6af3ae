// The dashboard: experiments on one side, the run and the events of the chosen one on the other.

import { LoopcastClient } from "./client.js";
import { $, clock, count, element, roving } from "./dom.js";
import { Feed } from "./feed.js";
import { Runs } from "./runs.js";
import { Timeline } from "./timeline.js";

const HISTORY = 1000;
const MAX_PAGES = 5; // of history, to find the beginning of a run
const LOOK_AGAIN = 3000;
const ALL = "*";
const NOWHERE = "~";

let chosen = null;
let generation = 0;
let partitions = 1;
let runs = new Runs();
let drawing = false;
let sessions = 0; // how often somebody signed in
let clockOffset = 0; // the gateway's clock, less ours
let lags = [];
let gaps = 0;

const now = () => Date.now() + clockOffset;
const feed = new Feed();
const timeline = new Timeline(now, (run) =>
  ask(`/v1/experiments/${encodeURIComponent(chosen)}/runs/${encodeURIComponent(run.id)}/trace?attempt=${run.attempt}`),
);

const client = new LoopcastClient(`${location.origin.replace("http", "ws")}/ws`, {
  onState: connection,
  onEvent(event, frame) {
    // What was followed before may still be on its way.
    if (chosen !== ALL && event.experimentid !== chosen) return;
    taken(event);
    feed.event(event);
    if (!frame.replay && event.recordedtime) lags.push(now() - Date.parse(event.recordedtime));
    if (lags.length > 50) lags.shift();
  },
  onGap(reason) {
    gaps += 1;
    $("gaps").hidden = false;
    $("gaps").textContent = `${gaps} gap${gaps === 1 ? "" : "s"}`;
    feed.note(`Events are missing here (${reason}).`);
  },
  onFrame(frame) {
    if (frame.type === "welcome") clockOffset = frame.server_time * 1000 - Date.now();
    else if (frame.type === "error" && !frame.temporary) feed.note(frame.message);
  },
});

// --- what is known of the connection, and no more than that

function show(pill, state, words) {
  pill.dataset.state = state;
  if (pill.textContent !== words) pill.textContent = words;
}

let retryAt = 0;
let closedFor = "";

function connection(state, detail) {
  retryAt = state === "waiting" ? Date.now() + detail : 0;
  closedFor = state === "closed" ? (detail === "stopped" ? "signed out" : detail) : "";
  if (state !== "connected") {
    // Only the gateway knows of the broker, and whether it still does is not known now.
    show($("broker"), "unknown", "broker: not known");
    lags = [];
  }
  told();
}

function told() {
  const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const words = {
    connecting: "connecting",
    connected: "live",
    waiting: `gateway lost, next try in ${left} s`,
    closed: `closed: ${closedFor}`,
  };
  show($("state"), client.state, words[client.state]);
  const sorted = [...lags].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  $("lag").hidden = middle === undefined;
  if (middle !== undefined) $("lag").textContent = `lag ${Math.max(0, Math.round(middle))} ms`;
}

// --- the chosen experiment

function taken(event) {
  if (chosen === ALL || runs.add(event) === null) return;
  draw();
}

function draw() {
  if (drawing) return;
  drawing = true;
  // Nobody reads faster, and a busy loop has hundreds of events a second.
  setTimeout(() => {
    drawing = false;
    if (!$("panel-run").hidden) timeline.draw(runs);
  }, 100);
}

async function ask(path) {
  const asked = sessions;
  try {
    const answer = await fetch(path, { signal: AbortSignal.timeout(10_000) });
    // What was asked before somebody signed in says nothing of who is here now.
    if (answer.status === 401 && asked === sessions) askWho();
    return answer.ok ? await answer.json() : null;
  } catch {
    return null; // The pills say already that the gateway is away.
  }
}

// What was chosen shows its newest events, and then goes on exactly behind them.
async function choose(experiment) {
  if (chosen !== null) client.unfollow(chosen);
  chosen = experiment;
  const mine = ++generation;
  runs = new Runs();
  timeline.reset();
  feed.clear(experiment !== ALL);
  $("title").textContent = experiment === ALL ? "All experiments" : experiment;
  $("tab-run").hidden = experiment === ALL;
  history.replaceState(null, "", experiment === ALL ? location.pathname : `#${encodeURIComponent(experiment)}`);
  mark();
  const pages = await past(experiment, mine);
  if (mine !== generation) return;
  const events = pages.flatMap((page) => page.events).reverse();
  for (const { event } of events) if (experiment !== ALL) runs.add(event);
  for (const { event } of events.slice(-HISTORY)) feed.event(event);
  if (experiment === ALL) turn("feed");
  else turn(runs.list.length ? wanted : "feed", { keep: true });
  draw();
  const resume = events.at(-1)?.pos;
  // Over several partitions, everything has no single place to go on from.
  const placed = resume && (experiment !== ALL || partitions === 1);
  client.follow(experiment, placed ? { resume } : { from: experiment === ALL || !pages.length ? "now" : "earliest" });
}

async function past(experiment, mine) {
  const pages = [];
  const path = `/v1/experiments/${encodeURIComponent(experiment)}/events?order=newest&limit=${experiment === ALL ? 200 : HISTORY}`;
  let before = "";
  while (pages.length < MAX_PAGES && mine === generation) {
    const page = await ask(path + before);
    if (!page) break;
    pages.push(page);
    const begun = page.events.some(({ event }) => event.type === "loop_start" && !event.data?.depth);
    if (experiment === ALL || page.complete || begun || !page.next) break;
    before = `&before=${page.next}`;
  }
  return pages;
}

// --- who is asked for a token, where the gateway asks for one

function askWho() {
  if ($("signin").open) return;
  client.stop();
  for (const id of ["user", "signout"]) $(id).hidden = true;
  $("signin").showModal();
}

// Where nobody is asked, there is nobody to sign out.
async function name() {
  const session = await ask("/v1/session");
  const known = Boolean(session?.user || session?.expires);
  $("signout").hidden = !known;
  $("user").hidden = !session?.user;
  $("user").textContent = $("user").title = session?.user ?? "";
}

$("signout").onclick = async () => {
  const answer = await fetch("/v1/session", { method: "DELETE" }).catch(() => null);
  if (!answer?.ok) {
    feed.note("The gateway does not answer: you are still signed in.");
    return;
  }
  // What was seen is not for whoever sits here next.
  generation += 1;
  runs = new Runs();
  timeline.reset();
  feed.clear(false);
  $("experiments").replaceChildren();
  for (const id of ["count", "numbers", "refused"]) $(id).textContent = "";
  askWho();
};

$("signin").addEventListener("cancel", (event) => event.preventDefault());
$("signin").addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { Authorization: `Bearer ${$("token").value.trim()}` };
  const answer = await fetch("/v1/session", { method: "POST", headers }).catch(() => null);
  const problem = answer?.ok ? null : await answer?.json().catch(() => null);
  $("refused").textContent = answer?.ok ? "" : (problem?.detail ?? "The gateway does not answer.");
  if (!answer?.ok) return;
  sessions += 1;
  $("token").value = "";
  $("signin").close();
  client.start();
  await Promise.all([refresh(), name()]);
  await choose(chosen ?? ALL);
});

// --- the list of experiments

function mark() {
  for (const button of document.querySelectorAll("#experiments button")) {
    const current = button.dataset.experiment === chosen;
    button.setAttribute("aria-current", String(current));
    button.tabIndex = current ? 0 : -1;
  }
}

function entry(experiment, name, events, last) {
  const item = element("li");
  const button = element("button", "", "", { type: "button", title: name });
  button.dataset.experiment = experiment;
  button.append(element("span", "name", name), element("small", "", events), element("small", "last", last));
  button.onclick = () => choose(experiment);
  item.append(button);
  return item;
}

async function refresh() {
  const [list, stats] = await Promise.all([ask("/v1/experiments"), ask("/v1/stats")]);
  if (list) {
    const focused = document.activeElement?.dataset?.experiment;
    const named = list.experiments.filter((one) => one.experiment_id !== NOWHERE);
    $("experiments").replaceChildren(
      entry(ALL, "All experiments", "", "as they come"),
      ...named.map(({ experiment_id: id, events, last }) => entry(id, id, count(events), `${last.type} · ${clock(last.recordedtime)}`)),
    );
    mark();
    if (focused !== undefined) document.querySelector(`#experiments [data-experiment="${CSS.escape(focused)}"]`)?.focus();
    $("count").textContent = named.length || "";
    $("partial").hidden = list.complete;
  }
  if (stats && client.state === "connected") {
    const reading = stats.log.every((partition) => partition.connected && partition.ready);
    show($("broker"), reading ? "connected" : "waiting", reading ? "broker connected" : "broker away: nothing new until it is back");
  } else {
    show($("broker"), "unknown", "broker: not known");
  }
  if (stats) {
    partitions = stats.log.length;
    $("numbers").textContent = `${count(stats.total_connections)} viewer${stats.total_connections === 1 ? "" : "s"}`;
  } else {
    $("numbers").textContent = "";
  }
}

// --- views and keys

let wanted = "run"; // the view that was last chosen for an experiment

function turn(view, { keep = false } = {}) {
  if (!keep && chosen !== ALL) wanted = view;
  for (const name of ["run", "feed"]) {
    $(`panel-${name}`).hidden = name !== view;
    $(`tab-${name}`).setAttribute("aria-selected", String(name === view));
    $(`tab-${name}`).tabIndex = name === view ? 0 : -1;
  }
  draw();
}

const KEYS = {
  "/": () => {
    turn("feed");
    $("filter").focus();
  },
  p: () => feed.pause(!feed.paused),
  1: () => chosen !== ALL && turn("run"),
  2: () => turn("feed"),
  e: () => document.querySelector('#experiments [tabindex="0"]')?.focus(),
  f: () => $("follow").click(),
  "?": () => $("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});
$("tabs").addEventListener("keydown", ({ key }) => {
  if (!["ArrowLeft", "ArrowRight"].includes(key) || chosen === ALL) return;
  const view = $("panel-run").hidden ? "run" : "feed";
  turn(view);
  $(`tab-${view}`).focus();
});
$("experiments").addEventListener("keydown", (event) => roving($("experiments"), "button", event));
for (const name of ["run", "feed"]) $(`tab-${name}`).onclick = () => turn(name);
$("pause").onclick = () => feed.pause(!feed.paused);
$("help").onclick = () => $("keys").showModal();
$("keys").onclick = ({ target }) => target === $("keys") && $("keys").close();
window.addEventListener("hashchange", () => choose(fromAddress()));

function fromAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || ALL;
  } catch {
    return ALL; // Somebody cut an escape in two.
  }
}

client.start();
await Promise.all([refresh(), name()]);
await choose(fromAddress());
setInterval(refresh, LOOK_AGAIN);
setInterval(() => {
  told();
  if (runs.list[0]?.status === "running") draw();
}, 500);
