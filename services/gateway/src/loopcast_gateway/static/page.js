// The dashboard: experiments on one side, the runs and the events of the chosen one on the other.

import { ALL, read, write } from "./address.js";
import { LoopcastClient } from "./client.js";
import { $, count } from "./dom.js";
import { Experiments } from "./experiments.js";
import { Feed } from "./feed.js";
import { joined, Overview } from "./overview.js";
import { Pills } from "./pills.js";
import { Runs } from "./runs.js";
import { SignIn } from "./signin.js";
import { Timeline } from "./timeline.js";
import { Views, listen } from "./views.js";

const HISTORY = 1000;
const MAX_PAGES = 5; // of history, to find the beginning of a run
const MAX_PAGES_WANTED = 20; // the same, of a run that somebody asked for
const LOOK_AGAIN = 3000;

let chosen = null;
let generation = 0;
let reads = 0; // the generation whose history is being asked for
let partitions = 1;
let runs = new Runs();
let drawing = false;
let clockOffset = 0; // the gateway's clock, less ours
const missing = new Map(); // how many events never came, by the address of their run
let stopped = null; // the time at which the gateway was lost: what it does since is not known

const now = () => stopped ?? Date.now() + clockOffset;
const feed = new Feed();
const pills = new Pills();
const overview = new Overview(now);
const experiments = new Experiments(now, (experiment) => go(experiment));
const timeline = new Timeline(now, {
  trace: (run) => ask(`/v1/experiments/${encodeURIComponent(chosen)}/runs/${encodeURIComponent(run.id)}/trace?attempt=${run.attempt}`),
  missing: (run) => missing.get(write(chosen, run.id)) ?? 0,
  onRun: (run) => go(chosen, run),
});
const views = new Views(() => draw());

const client = new LoopcastClient(`${location.origin.replace("http", "ws")}/ws`, {
  onState(state, detail) {
    if (state === "connected") stopped = null;
    else stopped ??= now();
    pills.connection(state, detail);
  },
  onEvent(event, frame) {
    // What was followed before may still be on its way.
    if (chosen !== ALL && event.experimentid !== chosen) return;
    if (chosen !== ALL && runs.add(event) !== null) draw();
    feed.event(event);
    if (!frame.replay && event.recordedtime) pills.lag(now() - Date.parse(event.recordedtime));
  },
  onGap(reason) {
    pills.gap();
    feed.note(`Events are missing here (${reason}).`);
  },
  onFrame(frame) {
    if (frame.type === "welcome") clockOffset = frame.server_time * 1000 - Date.now();
    else if (frame.type === "error" && !frame.temporary) feed.note(frame.message);
  },
});

const signIn = new SignIn({
  onAsk: () => client.stop(),
  async onIn() {
    client.start();
    await Promise.all([refresh(), name()]);
    await choose(chosen ?? ALL, timeline.wanted);
  },
  onOut() {
    // What was seen is not for whoever sits here next.
    generation += 1;
    empty("ready");
    experiments.clear();
    overview.take([], true);
    draw();
    $("numbers").textContent = "";
  },
  say: (words) => feed.note(words),
});

function draw() {
  if (drawing) return;
  drawing = true;
  // Nobody reads faster, and a busy loop has hundreds of events a second.
  setTimeout(() => {
    drawing = false;
    if (views.shown === "run") timeline.draw(runs);
    else if (views.shown === "runs") overview.draw();
  }, 100);
}

// --- what is asked of the gateway

async function get(path) {
  const asked = signIn.times;
  try {
    const answer = await fetch(path, { signal: AbortSignal.timeout(10_000) });
    // What was asked before somebody signed in says nothing of who is here now.
    if (answer.status === 401 && asked === signIn.times) signIn.ask();
    return { status: answer.status, body: await answer.json() };
  } catch {
    return { status: 0, body: null }; // The pills say already that the gateway is away.
  }
}

async function ask(path) {
  const { status, body } = await get(path);
  return status === 200 ? body : null;
}

async function name() {
  signIn.name(await ask("/v1/session"));
}

/** Say in the feed what never came of a run since the last look; a gateway that still reads knows less for a while. */
function miss({ experiment_id: experiment, run, loop, missing: told = 0 }) {
  const key = write(experiment, run);
  const before = missing.get(key);
  const more = told - (before ?? told);
  if (more > 0 && (chosen === ALL || chosen === experiment)) {
    feed.note(`${count(more)} event${more === 1 ? "" : "s"} of ${loop ?? run} never came: the SDK's spool was full, or they were refused.`);
  }
  missing.set(key, Math.max(told, before ?? 0));
}

async function refresh() {
  const [list, stats, going] = await Promise.all([ask("/v1/experiments"), ask("/v1/stats"), ask("/v1/experiments/*/runs?limit=200")]);
  if (going) {
    // One that goes on, or fell silent, is not to be behind two hundred that ended since.
    if (!going.complete) going.runs = joined(going.runs, (await ask("/v1/experiments/*/runs?limit=200&open=true"))?.runs ?? []);
    overview.take(going.runs, going.complete);
    going.runs.forEach(miss);
    timeline.silent = new Set(going.runs.filter((one) => one.silent).map((one) => one.run));
  }
  if (list) experiments.take(list, going?.runs ?? []);
  if (views.shown === "runs") draw();
  const reading = stats?.log.every((partition) => partition.connected && partition.ready);
  pills.broker(stats && client.state === "connected" ? (reading ? "connected" : "waiting") : "unknown");
  if (stats) partitions = stats.log.length;
  $("numbers").textContent = stats ? `${count(stats.total_connections)} viewer${stats.total_connections === 1 ? "" : "s"}` : "";
  // One that takes longer than the next look is waited for.
  if (reading && $("main").dataset.history === "failed" && reads !== generation) await load(++generation);
}

// --- the chosen experiment

/** Whether its history is "loading", "ready", "failed" (and asked for again) or "refused". */
function stage(state, words = "") {
  $("main").dataset.history = state;
  $("main").setAttribute("aria-busy", String(state === "loading"));
  for (const one of document.querySelectorAll(".failed")) one.textContent = words;
}

function empty(state) {
  runs = new Runs(timeline.wanted);
  timeline.reset();
  feed.clear(chosen === ALL ? null : chosen);
  stage(state);
}

function go(experiment, run = null) {
  const hash = write(experiment, run);
  if (hash !== location.hash) history.pushState(null, "", hash || location.pathname);
  arrive();
}

function arrive() {
  const { experiment, run } = read(location.hash);
  const here = run === null || runs.list.some(({ id }) => id === run);
  if (experiment !== chosen || !here) return choose(experiment, run);
  timeline.choose(run);
  return draw();
}

// What was chosen shows its newest events, and then goes on exactly behind them.
async function choose(experiment, run = null) {
  if (chosen !== null) client.unfollow(chosen);
  chosen = experiment;
  timeline.choose(run);
  empty("loading");
  const title = experiment === ALL ? "All experiments" : experiment;
  $("title").textContent = $("title").title = title;
  document.title = experiment === ALL ? "Loopcast" : `${experiment} · Loopcast`;
  experiments.choose(experiment);
  views.of(experiment === ALL, experiment !== ALL || overview.some);
  if (run !== null) views.turn("run");
  await load(++generation);
}

async function load(mine) {
  const experiment = chosen;
  reads = mine;
  const { pages, refusal } = await past(experiment, mine);
  if (reads === mine) reads = 0;
  if (mine !== generation) return;
  if (!pages.length) {
    stage(refusal ? "refused" : "failed", refusal || "The events from before cannot be read now. They are asked for again.");
    client.follow(experiment, { from: "now" });
    return;
  }
  empty("ready");
  const events = pages.flatMap((page) => page.events).reverse();
  for (const { event } of events) if (experiment !== ALL) runs.add(event);
  for (const { event } of events.slice(-HISTORY)) feed.event(event);
  if (experiment !== ALL && !runs.list.length && timeline.wanted === null) views.of(false, false);
  draw();
  const resume = events.at(-1)?.pos;
  // Over several partitions, everything has no single place to go on from.
  const placed = resume && (experiment !== ALL || partitions === 1);
  client.follow(experiment, placed ? { resume } : { from: experiment === ALL ? "now" : "earliest" });
}

async function past(experiment, mine) {
  const pages = [];
  const [run, most] = timeline.wanted === null ? [null, MAX_PAGES] : [timeline.wanted, MAX_PAGES_WANTED];
  const path = `/v1/experiments/${encodeURIComponent(experiment)}/events?order=newest&limit=${experiment === ALL ? 200 : HISTORY}`;
  let before = "";
  while (pages.length < most && mine === generation) {
    const { status, body: page } = await get(path + before);
    if (status !== 200) return { pages, refusal: [400, 403, 404, 422].includes(status) ? page?.detail : "" };
    pages.push(page);
    const begun = page.events.some(({ event }) => event.type === "loop_start" && !event.data?.depth && (run ?? event.runid) === event.runid);
    if (experiment === ALL || page.complete || begun || !page.next) break;
    before = `&before=${page.next}`;
  }
  return { pages };
}

listen({
  "/": () => {
    if (views.shown === "runs") return $("findrun").focus();
    views.turn("feed");
    return $("filter").focus();
  },
  p: () => feed.pause(!feed.paused),
  1: () => views.nth(0),
  2: () => views.nth(1),
  e: () => document.querySelector('#experiments [tabindex="0"]')?.focus(),
  f: () => $("follow").click(),
  "?": () => $("keys").showModal(),
});
$("pause").onclick = () => feed.pause(!feed.paused);
window.addEventListener("hashchange", arrive);

client.start();
await Promise.all([refresh(), name()]);
const { experiment, run } = read(location.hash);
await choose(experiment, run);
const seen = () => document.visibilityState === "visible" && refresh();
setInterval(seen, LOOK_AGAIN);
document.addEventListener("visibilitychange", seen);
setInterval(() => {
  pills.tell();
  if (runs.list[0]?.status === "running") draw();
}, 500);
