// The runs of all experiments: which go on, and how the others ended.

import { write } from "./address.js";
import { $, ago, count, element, length, moment, shade } from "./dom.js";

const MAX_SHOWN = 200;
const NEVER_CAME = "Their numbers are skipped: the spool of the SDK was full, or they were refused for good.";

/** Two lists of runs as one, each run once, the one that spoke last first. */
export function joined(some, others) {
  const runs = new Map([...others, ...some].map((run) => [write(run.experiment_id, run.run), run]));
  return [...runs.values()].sort((a, b) => Date.parse(b.updated) - Date.parse(a.updated));
}

export class Overview {
  #runs = [];
  #complete = true;
  #drawn = "";
  #now;

  constructor(now) {
    this.#now = now;
    $("findrun").addEventListener("input", () => this.draw());
    $("overview").addEventListener("click", ({ target }) => {
      // The link is the row's; whoever selects text does not want to go.
      if (target.closest("a") || String(getSelection())) return;
      target.closest("tr")?.querySelector("a")?.click();
    });
  }

  get some() {
    return this.#runs.length > 0;
  }

  /** The runs of all experiments, the one that spoke last first. */
  take(runs, complete) {
    this.#runs = runs;
    this.#complete = complete;
  }

  draw() {
    const words = $("findrun").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#runs.map((run) => this.#row(run)).filter(({ text }) => words.every((word) => text.includes(word)));
    const shown = found.slice(0, MAX_SHOWN);
    $("overview").hidden = !shown.length;
    $("noruns").hidden = this.#runs.length > 0;
    $("nosuch").hidden = !(this.#runs.length && !found.length);
    $("olderruns").hidden = this.#complete && shown.length === found.length;
    const key = JSON.stringify(shown);
    if (key === this.#drawn) return;
    this.#drawn = key;
    const box = $("overview").parentElement;
    const [focused, top] = [document.activeElement?.closest("#overview a")?.getAttribute("href"), box.scrollTop];
    $("overview").tBodies[0].replaceChildren(...shown.map(line));
    if (focused) box.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    box.scrollTo(0, top);
  }

  #row(run) {
    const status = run.silent ? "silent" : run.status.replaceAll("_", " ");
    const inner = run.loops?.at(-1);
    const from = Date.parse(run.started ?? run.updated);
    const spoke = Date.parse(run.updated);
    const open = run.status === "running" && !run.silent;
    const where = open || run.silent || status.startsWith("awaiting") ? [inner?.state, inner?.iteration && `step ${inner.iteration}`].filter(Boolean).join(" · ") : "";
    const took = length((run.ended ? Date.parse(run.ended) : open ? this.#now() : spoke) - from);
    return {
      href: write(run.experiment_id, run.run),
      loop: run.loop ?? run.run,
      again: run.attempt > 1 ? `attempt ${run.attempt}` : "",
      missing: run.missing ? `${count(run.missing)} event${run.missing === 1 ? "" : "s"} missing` : "",
      experiment: run.experiment_id,
      status,
      where,
      started: moment(from),
      took,
      spoke: ago(this.#now() - spoke),
      text: `${run.loop ?? ""} ${run.run} ${run.experiment_id} ${status} ${where}`.toLowerCase(),
    };
  }
}

function line({ href, loop, again, missing, experiment, status, where, started, took, spoke }) {
  const row = element("tr");
  const cell = (kind, ...inside) => {
    const made = element("td", kind);
    made.append(...inside);
    return made;
  };
  const link = element("a", "", loop, { href });
  row.append(
    cell("status", element("span", "tag", status, { "data-tone": shade(status) })),
    cell("loop", link, ...(again ? [element("small", "", ` ${again}`)] : [])),
    cell("of", experiment),
    cell("where", where, ...(missing ? [element("small", "missing", ` ${missing}`, { title: NEVER_CAME })] : [])),
    cell("started", started),
    cell("took", took),
    cell("spoke", spoke),
  );
  return row;
}
