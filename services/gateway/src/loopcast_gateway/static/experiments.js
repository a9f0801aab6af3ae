// The list of experiments: what each one's newest run does, found by words.

import { ALL } from "./address.js";
import { $, ago, count, element, roving, shade } from "./dom.js";

const NOWHERE = "~";
const MAX_SHOWN = 300;
const FEW = 8; // So many are found without a search.

export class Experiments {
  #list = [];
  #runs = new Map(); // an experiment -> its run that spoke last
  #chosen = null;
  #drawn = "";
  #now;
  #onChoose;

  constructor(now, onChoose) {
    this.#now = now;
    this.#onChoose = onChoose;
    $("experiments").addEventListener("keydown", (event) => roving($("experiments"), "button", event));
    $("find").addEventListener("input", () => this.#draw());
  }

  /** The answers of `/v1/experiments` and the list of their runs. */
  take(list, runs) {
    this.#list = list.experiments.filter((one) => one.experiment_id !== NOWHERE);
    this.#runs = new Map(runs.toReversed().map((run) => [run.experiment_id, run]));
    $("count").textContent = this.#list.length ? count(this.#list.length) : "";
    $("find").hidden = this.#list.length <= FEW && !$("find").value;
    $("partial").hidden = list.complete;
    this.#draw();
  }

  clear() {
    this.#list = [];
    this.#drawn = "";
    $("find").value = $("count").textContent = "";
    $("find").hidden = true;
    $("experiments").replaceChildren();
  }

  choose(experiment) {
    this.#chosen = experiment;
    this.#draw();
    document.querySelector('#experiments [aria-current="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #draw() {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#list.filter(({ experiment_id: id }) => words.every((word) => id.toLowerCase().includes(word)));
    const rows = [{ id: ALL, name: "All experiments", events: "", last: "", tone: "" }];
    // Somebody may have followed a link to what is not here yet.
    if (this.#chosen && this.#chosen !== ALL && !this.#list.some((one) => one.experiment_id === this.#chosen)) {
      rows.push({ id: this.#chosen, name: this.#chosen, events: "", last: "", tone: "" });
    }
    rows.push(...found.slice(0, MAX_SHOWN).map((one) => this.#row(one)));
    const key = JSON.stringify([rows, this.#chosen]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    const box = $("experiments");
    const [focused, top, left] = [document.activeElement?.dataset?.experiment, box.scrollTop, box.scrollLeft];
    box.replaceChildren(...rows.map((row) => this.#entry(row)));
    if (focused !== undefined) box.querySelector(`[data-experiment="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    box.scrollTo(left, top);
    const more = found.length - Math.min(found.length, MAX_SHOWN);
    $("others").textContent = words.length && !found.length ? "No experiment has such a name." : more ? `${count(more)} more: find them by name.` : "";
  }

  #row({ experiment_id: id, events, last }) {
    const run = this.#runs.get(id);
    const when = ago(this.#now() - Date.parse(last.recordedtime));
    const inner = run?.status === "running" ? run.loops?.at(-1)?.state : null;
    const status = run?.silent ? "silent" : run?.status;
    const words = run ? [status.replaceAll("_", " "), inner].filter(Boolean).join(" · ") : last.type;
    return { id, name: id, events: count(events), last: `${words} · ${when}`, tone: run ? shade(status) : "" };
  }

  #entry({ id, name, events, last, tone }) {
    const item = element("li");
    const button = element("button", "", "", { type: "button", title: name, "aria-current": String(id === this.#chosen) });
    button.tabIndex = id === (this.#chosen ?? ALL) ? 0 : -1;
    button.dataset.experiment = id;
    if (tone) button.dataset.tone = tone;
    button.append(element("span", "name", name), element("small", "events", events), element("small", "last", last));
    button.onclick = () => this.#onChoose(id);
    item.append(button);
    return item;
  }
}
