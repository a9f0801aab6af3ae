// What is known of the connections, and no more than that.

import { $ } from "./dom.js";

const WORDS = { connecting: "connecting", connected: "live" };
const BROKER = {
  connected: "broker connected",
  waiting: "broker away: nothing new until it is back",
  unknown: "broker: not known",
};

export class Pills {
  #state = "connecting";
  #retryAt = 0;
  #closedFor = "";
  #broker = "unknown";
  #lags = [];
  #gaps = 0;

  connection(state, detail) {
    this.#state = state;
    this.#retryAt = state === "waiting" ? Date.now() + detail : 0;
    this.#closedFor = state === "closed" ? (detail === "stopped" ? "signed out" : detail) : "";
    // Only the gateway knows of the broker, and whether it still does is not known now.
    if (state !== "connected") this.broker("unknown");
    if (state !== "connected") this.#lags = [];
    this.tell();
  }

  /** "connected", "waiting" or "unknown". */
  broker(state) {
    this.#broker = state;
    show($("broker"), state, BROKER[state]);
    this.#announce();
  }

  lag(ms) {
    this.#lags.push(ms);
    if (this.#lags.length > 50) this.#lags.shift();
  }

  gap() {
    this.#gaps += 1;
    $("gaps").hidden = false;
    $("gaps").textContent = `${this.#gaps} gap${this.#gaps === 1 ? "" : "s"}`;
  }

  /** Write what changes with time, too. */
  tell() {
    const left = Math.max(0, Math.ceil((this.#retryAt - Date.now()) / 1000));
    show($("state"), this.#state, WORDS[this.#state] ?? (this.#state === "waiting" ? `gateway lost, next try in ${left} s` : `closed: ${this.#closedFor}`));
    const sorted = [...this.#lags].sort((a, b) => a - b);
    const middle = sorted[Math.floor(sorted.length / 2)];
    $("lag").hidden = middle === undefined;
    if (middle !== undefined) $("lag").textContent = `lag ${Math.max(0, Math.round(middle))} ms`;
    this.#announce();
  }

  // Somebody who hears the page hears what changed, and not each second that passes.
  #announce() {
    const gateway = WORDS[this.#state] ?? (this.#state === "waiting" ? "gateway lost" : `closed: ${this.#closedFor}`);
    const words = this.#state === "connected" && this.#broker !== "unknown" ? `${gateway}, ${BROKER[this.#broker]}` : gateway;
    if ($("announce").textContent !== words) $("announce").textContent = words;
  }
}

function show(pill, state, words) {
  pill.dataset.state = state;
  if (pill.textContent !== words) pill.textContent = words;
}
