// Which view is shown: of everything the runs or the events, of one experiment its run or the events; and the keys.

import { $ } from "./dom.js";

const OF_ALL = ["runs", "feed"];
const OF_ONE = ["run", "feed"];

export class Views {
  #names = OF_ALL;
  #wanted = new Map([[OF_ALL, "runs"], [OF_ONE, "run"]]); // what was chosen last
  #onTurn;

  constructor(onTurn) {
    this.#onTurn = onTurn;
    for (const name of new Set([...OF_ALL, ...OF_ONE])) $(`tab-${name}`).onclick = () => this.turn(name);
    $("tabs").addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      const other = this.#names.find((name) => name !== this.shown);
      this.turn(other);
      $(`tab-${other}`).focus();
    });
  }

  get shown() {
    return this.#names.find((name) => !$(`panel-${name}`).hidden);
  }

  /** Show what there is of everything, or of one; as it was left, or the events where there is nothing else. */
  of(all, some = true) {
    this.#names = all ? OF_ALL : OF_ONE;
    this.#show(some ? this.#wanted.get(this.#names) : "feed");
  }

  turn(name) {
    if (!this.#names.includes(name)) return;
    this.#wanted.set(this.#names, name);
    this.#show(name);
  }

  /** The first or the second. */
  nth(place) {
    this.turn(this.#names[place]);
  }

  #show(view) {
    for (const name of new Set([...OF_ALL, ...OF_ONE])) {
      const tab = $(`tab-${name}`);
      $(`panel-${name}`).hidden = name !== view;
      tab.hidden = !this.#names.includes(name);
      tab.setAttribute("aria-selected", String(name === view));
      tab.tabIndex = name === view ? 0 : -1;
    }
    this.#onTurn(view);
  }
}

/** Keys of the whole page: what each does. */
export function listen(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  $("help").onclick = () => $("keys").showModal();
  $("keys").onclick = ({ target }) => target === $("keys") && $("keys").close();
}
