// A run as a picture: its states one below the other, sub-loops inside the state that runs them, each with its time.

import { $, ago, count, element, length, moment, money, roving, shade } from "./dom.js";
import { tone } from "./runs.js";

const QUIET = 30_000; // A run that says nothing for so long: since when is shown.

export class Timeline {
  /** The id of the run that somebody chose; null is the newest. */
  wanted = null;
  #state = null; // a state; null is the one that runs
  #rows = new Map();
  #drawn = null;
  #runs = null;
  #run = null;
  #now;
  #trace;
  #missing;
  #traced = null; // the run and attempt that the link is of
  silent = new Set(); // runs whose process tells no more that it lives, as the gateway says

  /** `trace(run)` gives a promise of `{ url }`, or of nothing, `missing(run)` how many never came; `onRun` gets the id of the run to show, null the newest. */
  constructor(now, { trace, missing, onRun }) {
    this.#now = now;
    this.#missing = missing;
    this.#trace = trace;
    $("run").addEventListener("change", ({ target }) => onRun(target.value === target.options[0].value ? null : target.value));
    $("states").addEventListener("keydown", (event) => roving($("states"), "button", event));
    $("states").addEventListener("scroll", () => this.#run && this.#scale(this.#run), { passive: true });
    $("follow").addEventListener("click", () => {
      this.#state = null;
      this.draw(this.#runs);
    });
  }

  choose(run) {
    this.wanted = run;
    this.#state = null;
  }

  reset() {
    this.#state = null;
    this.#drawn = null;
    this.#run = null;
    this.#traced = null;
    this.#rows.clear();
    $("states").replaceChildren();
    for (const id of ["detail", "norun", "strange"]) $(id).hidden = true;
  }

  draw(runs) {
    this.#runs = runs;
    const list = runs.list;
    const run = this.wanted === null ? list[0] : list.find(({ id }) => id === this.wanted);
    $("norun").hidden = this.wanted !== null || list.length > 0;
    $("strange").hidden = this.wanted === null || Boolean(run);
    $("newest").href = location.hash.split("/")[0] || "#";
    $("detail").hidden = !run;
    this.#run = run ?? null;
    if (!run) return;
    this.#options(list, run);
    this.#facts(run);
    this.#link(run);
    this.#states(run);
    this.#output(run);
  }

  #options(list, run) {
    const wanted = list.map((one, n) => [one.id, `${n === 0 ? "Latest: " : ""}${one.loop ?? one.id} · ${moment(one.started)} · ${this.#silent(one) ? "silent" : one.status}`]);
    const key = JSON.stringify([wanted, run.id]);
    if ($("run").dataset.key === key || document.activeElement === $("run")) return;
    $("run").dataset.key = key;
    $("run").replaceChildren(...wanted.map(([value, text]) => element("option", "", text, { value })));
    $("run").value = run.id;
  }

  #link(run) {
    const key = JSON.stringify([run.id, run.attempt]);
    if (this.#traced === key) return;
    this.#traced = key;
    $("trace").hidden = true;
    this.#trace(run).then((found) => {
      if (this.#traced !== key || !found?.url) return;
      $("trace").href = found.url;
      $("trace").hidden = false;
    });
  }

  #facts(run) {
    const status = $("status");
    status.textContent = this.#silent(run) ? "silent" : run.status;
    status.dataset.tone = shade(status.textContent);
    status.title = this.#silent(run) ? "Its process tells no more that it lives: it was killed, or is cut off." : "";
    const facts = [
      ["started", moment(run.started)],
      ["elapsed", length(this.#end(run) - run.started)],
      ["last event", run.status === "running" && this.#now() - run.updated > QUIET ? ago(this.#now() - run.updated) : ""],
      ["iteration", run.iteration ?? ""],
      ["attempt", run.attempt > 1 ? run.attempt : ""],
      ["tokens in", run.tokens.input ? count(run.tokens.input) : ""],
      ["from cache", run.tokens.cached ? count(run.tokens.cached) : ""],
      ["tokens out", run.tokens.output ? count(run.tokens.output) : ""],
      ["cost", run.cost === null ? "" : money(run.cost)],
    ].filter(([, value]) => value !== "");
    const missing = this.#missing(run);
    const verdicts = [...run.verdicts].map(([word, number]) => [word, number, tone(word)]);
    const key = JSON.stringify([facts, verdicts, missing, run.error]);
    if ($("facts").dataset.key === key) return;
    $("facts").dataset.key = key;
    const fact = (name, value, shade = "") => {
      const box = element("div", "fact");
      box.append(element("dt", "", name), element("dd", "", String(value), shade ? { "data-tone": shade } : {}));
      return box;
    };
    $("facts").replaceChildren(...facts.map(([name, value]) => fact(name, value)), ...verdicts.map(([word, number, shade]) => fact(`verdict ${word}`, `×${number}`, shade)));
    if (missing) $("facts").append(fact("events missing", count(missing), "bad"));
    if (run.error) $("facts").append(fact("error", run.error, "bad"));
  }

  #states(run) {
    if (this.#drawn !== run.id) {
      this.#rows.clear();
      $("states").replaceChildren();
      this.#drawn = run.id;
    }
    const { forgotten } = run;
    $("earlier").textContent = forgotten ? `${count(forgotten)} earlier states are not shown.` : run.whole ? "" : "The beginning of this run is not among the events that were loaded.";
    const kept = new Set(run.states);
    for (const [state, row] of this.#rows) {
      if (kept.has(state)) continue;
      row.item.remove();
      this.#rows.delete(state);
    }
    const box = $("states");
    const bottom = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    for (const state of run.states) this.#tell(this.#rows.get(state) ?? this.#row(state), state, run);
    if (bottom && !this.#state) box.scrollTop = box.scrollHeight;
    this.#scale(run);
    if (!box.querySelector('[tabindex="0"]')) box.querySelector("button")?.setAttribute("tabindex", "0");
  }

  #silent(run) {
    return run.status === "running" && this.silent.has(run.id);
  }

  #end(run) {
    return run.ended ?? (run.status === "running" && !this.#silent(run) ? this.#now() : run.updated);
  }

  #row(state) {
    const item = element("li");
    const button = element("button", "", "", { type: "button", tabindex: "-1" });
    const name = element("span", "name", state.name ?? "?");
    if (state.depth) name.prepend(element("span", "loop", `${state.loop ?? "sub-loop"} › `));
    name.style.paddingLeft = `${state.depth * 1.1}rem`;
    const track = element("span", "track");
    const bar = element("span", "bar");
    track.append(bar);
    const took = element("span", "took");
    const verdict = element("span", "verdict");
    button.append(element("span", "step", String(state.iteration ?? "")), name, track, took, verdict);
    button.onclick = () => {
      this.#state = state;
      this.draw(this.#runs);
    };
    item.append(button);
    $("states").append(item);
    const row = { item, button, bar, took, verdict, told: "" };
    this.#rows.set(state, row);
    return row;
  }

  // What a row says. Most have ended, and say what they said.
  #tell(row, state, run) {
    const { button, bar, took, verdict } = row;
    const running = state.ended === null && run.status === "running" && !this.#silent(run);
    const current = state === (this.#state ?? run.current);
    const key = running ? "" : [state.ended ?? run.updated, state.verdict, state.exit, state.notes.length, current].join(" ");
    if (key && key === row.told) return;
    row.told = key;
    bar.dataset.tone = running ? "live" : state.exit > 0 && !state.verdict ? "bad" : state.verdict ? tone(state.verdict) : "plain";
    took.textContent = length((state.ended ?? this.#end(run)) - state.started);
    verdict.textContent = running ? "running" : [state.verdict ?? "", ...state.notes].filter(Boolean).join(", ");
    verdict.dataset.tone = bar.dataset.tone;
    button.setAttribute("aria-current", String(current));
    button.title = `${state.name}, step ${state.iteration ?? "?"}: ${took.textContent}${verdict.textContent ? `, ${verdict.textContent}` : ""}`;
  }

  // The bars are of the rows that are in sight: of hours each would be a hair.
  #scale(run) {
    const box = $("states");
    const height = box.firstElementChild?.offsetHeight ?? 0;
    const first = height ? Math.floor(box.scrollTop / height) : 0;
    const last = height ? Math.ceil((box.scrollTop + box.clientHeight) / height) : run.states.length;
    const seen = run.states.slice(first, last + 1);
    if (!seen.length) return;
    const end = (state) => state.ended ?? this.#end(run);
    const from = first === 0 && !run.forgotten ? run.started : seen[0].started;
    const to = Math.max(...seen.map(end));
    const part = (time) => (100 * Math.min(Math.max(time - from, 0), to - from)) / Math.max(1, to - from);
    $("from").textContent = moment(from);
    $("to").textContent = `+${length(to - from)}`;
    for (const state of seen) {
      const { bar } = this.#rows.get(state);
      const left = Math.min(99.5, part(state.started));
      bar.style.left = `${left}%`;
      bar.style.width = `${Math.max(0.5, part(end(state)) - left)}%`;
    }
  }

  #output(run) {
    const state = this.#state ?? run.current;
    $("follow").hidden = this.#state === null;
    $("which").textContent = state ? `${state.loop && state.depth ? `${state.loop} › ` : ""}${state.name ?? "?"} · step ${state.iteration ?? "?"}` : "";
    $("action").textContent = state?.action ?? "";
    $("action").className = state?.prompt ? "prompt" : "";
    const box = $("output");
    const text = state ? `${state.cut ? `… ${count(state.cut)} lines before\n` : ""}${state.lines.join("\n")}` : "";
    if (box.textContent !== text) {
      const bottom = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      box.textContent = text;
      if (bottom) box.scrollTop = box.scrollHeight;
    }
    box.classList.toggle("none", !text);
    $("exit").textContent = state ? ending(state) : "";
  }
}

// How a state's action ended, and what it took.
function ending({ exit, ms, tokens, cost }) {
  const used = tokens.input || tokens.output ? `${count(tokens.input)} tokens in, ${count(tokens.output)} out` : "";
  return [exit === null ? "" : `exit ${exit}`, ms === null ? "" : length(ms), used, cost === null ? "" : money(cost)].filter(Boolean).join(" · ");
}
