// A run as a picture: its states one below the other, sub-loops inside the state that runs them, each with its time.

import { $, count, element, length, roving } from "./dom.js";
import { tone } from "./runs.js";

const MAX_SHOWN = 200;

export class Timeline {
  #chosen = null; // a run's id; null is the newest
  #state = null; // a state; null is the one that runs
  #rows = new Map();
  #drawn = null;
  #runs = null;
  #now = () => Date.now();
  #trace = async () => null;
  #traced = null; // the run and attempt that the link is of

  /** `trace(run)` gives a promise of `{ url }`, or of nothing. */
  constructor(now, trace) {
    this.#now = now;
    this.#trace = trace;
    $("run").addEventListener("change", ({ target }) => {
      this.#chosen = target.value === target.options[0].value ? null : target.value;
      this.#state = null;
      this.draw(this.#runs);
    });
    $("states").addEventListener("keydown", (event) => roving($("states"), "button", event));
    $("follow").addEventListener("click", () => {
      this.#state = null;
      this.draw(this.#runs);
    });
  }

  reset() {
    this.#chosen = null;
    this.#state = null;
    this.#drawn = null;
    this.#traced = null;
    this.#rows.clear();
    $("states").replaceChildren();
  }

  draw(runs) {
    this.#runs = runs;
    const list = runs.list;
    $("norun").hidden = list.length > 0;
    $("detail").hidden = list.length === 0;
    if (!list.length) return;
    const run = list.find(({ id }) => id === this.#chosen) ?? list[0];
    this.#options(list, run);
    this.#facts(run);
    this.#link(run);
    this.#states(run);
    this.#output(run);
  }

  #options(list, run) {
    const wanted = list.map((one, n) => [one.id, `${n === 0 ? "Latest: " : ""}${one.loop ?? one.id} · ${new Date(one.started).toLocaleTimeString("en-GB")} · ${one.status}`]);
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
    status.textContent = run.status;
    status.dataset.tone = run.status === "completed" ? "good" : run.status === "running" ? "live" : run.status.startsWith("awaiting") ? "open" : "bad";
    const facts = [
      ["elapsed", length((run.ended ?? (run.status === "running" ? this.#now() : run.updated)) - run.started)],
      ["iteration", run.iteration ?? ""],
      ["attempt", run.attempt > 1 ? run.attempt : ""],
      ["tokens in", run.tokens.input ? count(run.tokens.input) : ""],
      ["from cache", run.tokens.cached ? count(run.tokens.cached) : ""],
      ["tokens out", run.tokens.output ? count(run.tokens.output) : ""],
      ["cost", run.cost === null ? "" : `$${run.cost.toFixed(run.cost < 1 ? 4 : 2)}`],
    ].filter(([, value]) => value !== "");
    const verdicts = [...run.verdicts].map(([word, number]) => [word, number, tone(word)]);
    const key = JSON.stringify([facts, verdicts, run.error]);
    if ($("facts").dataset.key === key) return;
    $("facts").dataset.key = key;
    const fact = (name, value, shade = "") => {
      const box = element("div", "fact");
      box.append(element("dt", "", name), element("dd", "", String(value), shade ? { "data-tone": shade } : {}));
      return box;
    };
    $("facts").replaceChildren(...facts.map(([name, value]) => fact(name, value)), ...verdicts.map(([word, number, shade]) => fact(`verdict ${word}`, `×${number}`, shade)));
    if (run.error) $("facts").append(fact("error", run.error, "bad"));
  }

  #states(run) {
    if (this.#drawn !== run.id) {
      this.#rows.clear();
      $("states").replaceChildren();
      this.#drawn = run.id;
    }
    const shown = run.states.slice(-MAX_SHOWN);
    const hidden = run.forgotten + run.states.length - shown.length;
    $("earlier").textContent = hidden ? `${count(hidden)} earlier states are not shown.` : run.whole ? "" : "The beginning of this run is not among the events that were loaded.";
    const from = hidden && shown.length ? shown[0].started : run.started;
    const span = Math.max(1, (run.ended ?? (run.status === "running" ? this.#now() : run.updated)) - from);
    const kept = new Set(shown);
    for (const [state, row] of this.#rows) {
      if (!kept.has(state)) {
        row.item.remove();
        this.#rows.delete(state);
      }
    }
    const bottom = $("states").scrollHeight - $("states").scrollTop - $("states").clientHeight < 40;
    for (const state of shown) this.#place(this.#rows.get(state) ?? this.#row(state), state, run, from, span);
    if (bottom && !this.#state) $("states").scrollTop = $("states").scrollHeight;
    if (!$("states").querySelector('[tabindex="0"]')) $("states").querySelector("button")?.setAttribute("tabindex", "0");
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
    button.append(name, track, took, verdict);
    button.onclick = () => {
      this.#state = state;
      this.draw(this.#runs);
    };
    item.append(button);
    $("states").append(item);
    const row = { item, button, bar, took, verdict };
    this.#rows.set(state, row);
    return row;
  }

  #place({ button, bar, took, verdict }, state, run, from, span) {
    const running = state.ended === null && run.status === "running";
    const end = state.ended ?? (running ? this.#now() : run.updated);
    const left = Math.min(99.5, Math.max(0, (100 * (state.started - from)) / span));
    bar.style.left = `${left}%`;
    bar.style.width = `${Math.max(0.5, Math.min(100 - left, (100 * (end - state.started)) / span))}%`;
    bar.dataset.tone = running ? "live" : state.exit > 0 && !state.verdict ? "bad" : state.verdict ? tone(state.verdict) : "plain";
    took.textContent = length(end - state.started);
    verdict.textContent = running ? "running" : [state.verdict ?? "", ...state.notes].filter(Boolean).join(", ");
    verdict.dataset.tone = bar.dataset.tone;
    button.setAttribute("aria-current", String(state === (this.#state ?? run.current)));
    button.title = `${state.name}, step ${state.iteration ?? "?"}: ${took.textContent}${verdict.textContent ? `, ${verdict.textContent}` : ""}`;
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
    $("exit").textContent = state && state.exit !== null ? `exit ${state.exit}${state.ms !== null ? ` · ${length(state.ms)}` : ""}` : "";
  }
}
