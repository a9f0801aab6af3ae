// A client of the gateway's WebSocket (docs/protocol.md): follows experiments, comes back where it was, says what it
// missed. No dependencies; browsers, workers, and Node (from 22, or with a WebSocket given). Types: client.d.ts.

const PROTOCOLS = ["loopcast.v1.ndjson", "loopcast.v1.json"];
const MIN_WAIT = 500;
const MAX_WAIT = 20_000;
const STEADY = 10_000; // A connection that lasted so long was a good one.
const CONNECT = 10_000; // How long a connection may take to be made.
const OPEN = 1;
export const EVERYTHING = "*";

/** How long to wait before the next try: full jitter, so that viewers that lost a gateway together come back apart. */
export function backoff(tries, { min = MIN_WAIT, max = MAX_WAIT, random = Math.random } = {}) {
  return min / 2 + random() * Math.min(max, min * 2 ** tries);
}

/** Whether a connection that was closed with `code` should be made again. */
export function reconnects(code) {
  return !(code >= 4500 && code < 5000) && ![1000, 1002, 1003, 1007, 1009, 1010].includes(code);
}

export class LoopcastError extends Error {
  constructor({ code, name, message, temporary }) {
    super(message);
    this.code = code;
    this.name = name;
    this.temporary = temporary;
  }
}

/** What is followed: where it is, and whether it is live. */
export class Subscription {
  #client;

  constructor(client, experiment, { from = "now", resume = null, onEvent = null, onGap = null, onSnapshot = null, ...wanted }) {
    this.#client = client;
    this.experiment = experiment;
    this.from = from;
    this.wanted = wanted;
    this.onEvent = onEvent;
    this.onGap = onGap;
    this.onSnapshot = onSnapshot;
    this.live = false;
    this.places = new Map(); // version and partition, the first four characters of a pos -> pos
    this.note(resume);
  }

  /** The positions to resume from later: keep them to go on in another page or process. */
  get positions() {
    return [...this.places.values()];
  }

  /** Whether it goes live at once, without history before it. */
  get immediate() {
    return this.from === "now" && this.wanted.sinceTs === undefined;
  }

  stop() {
    this.#client.unfollow(this.experiment);
  }

  note(pos) {
    for (const one of [pos ?? []].flat()) if (one) this.places.set(one.slice(0, 4), one);
  }

  advance(pos) {
    const key = pos.slice(0, 4);
    if (!(this.places.get(key) >= pos)) this.places.set(key, pos);
  }

  get command() {
    const { types, exclude, snapshot, coalesceMs } = this.wanted;
    return { action: "subscribe", experiment_id: this.experiment, ...this.#place, types, exclude, snapshot, coalesce_ms: coalesceMs };
  }

  get #place() {
    const { sinceTs, limit } = this.wanted;
    if (!this.places.size) return { from: this.from, since_ts: sinceTs, limit: this.immediate ? undefined : limit };
    // Of partitions of which nothing came yet, all is wanted where all was.
    const all = this.from === "earliest" && { from: this.from };
    // So many of the newest were wanted once; whatever was missed since then is.
    return { resume: this.positions, ...all, limit: this.from === "last" ? undefined : limit };
  }
}

/** One connection, kept up. */
export class LoopcastClient {
  #followed = new Map();
  #asked = new Map();
  #number = 0;
  #tries = 0;
  #hint = null;
  #opened = null;
  #timer = null;
  #watch = null;
  #stopped = true;
  #wake = () => this.#hurry();

  constructor(url, { onState = () => {}, onFrame = () => {}, onEvent = () => {}, onGap = () => {}, ...options } = {}) {
    this.url = url;
    this.onState = onState;
    this.onFrame = onFrame;
    this.onEvent = onEvent;
    this.onGap = onGap;
    this.options = options;
    this.state = "closed";
    this.socket = null;
  }

  start() {
    if (!this.#stopped) return this;
    this.#stopped = false;
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    this.#connect();
    return this;
  }

  stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    clearTimeout(this.#timer);
    const { socket } = this;
    this.socket = null; // What it still has to say is nobody's any more.
    socket?.close(1000);
    this.#closed(1000, "stopped");
  }

  /** Follow `experiment` ("*" is all): from "now", from "earliest", or from behind `resume`, a pos or a list of them. */
  follow(experiment, options = {}) {
    if (this.#followed.has(experiment)) this.unfollow(experiment);
    const subscription = new Subscription(this, experiment, options);
    this.#followed.set(experiment, subscription);
    if (this.#connected) this.#subscribe(subscription);
    return subscription;
  }

  unfollow(experiment) {
    if (this.#followed.delete(experiment) && this.#connected) {
      this.#send({ action: "unsubscribe", experiment_id: experiment });
    }
  }

  /** History: resolves to `{events: [{pos, event}], complete, next}`. */
  replay(experiment, { sinceTs, untilTs, ...bounds } = {}) {
    const command = { action: "replay", experiment_id: experiment, since_ts: sinceTs, until_ts: untilTs, ...bounds };
    return this.#ask(command, "replay_end", ({ complete, next = null, reason = null }, events) => ({ events, complete, next, reason }));
  }

  /** The numbers of `GET /v1/stats`. */
  stats() {
    return this.#ask({ action: "stats" }, "stats", ({ data }) => data);
  }

  get #connected() {
    return this.socket?.readyState === OPEN;
  }

  #turn(state, detail) {
    this.state = state;
    this.onState(state, detail);
  }

  #send(command) {
    this.#number += 1;
    this.socket.send(JSON.stringify({ id: this.#number, ...command }));
    return this.#number;
  }

  #ask(command, answer, read) {
    if (!this.#connected) return Promise.reject(new Error("There is no connection now."));
    const id = this.#send(command);
    return new Promise((resolve, reject) => this.#asked.set(id, { answer, read, events: [], resolve, reject }));
  }

  #connect() {
    this.#turn("connecting");
    const { WebSocket = globalThis.WebSocket, token } = this.options;
    const bearer = token ? [`bearer.${typeof token === "function" ? token() : token}`] : [];
    const socket = new WebSocket(this.url, [...PROTOCOLS, ...bearer]);
    this.socket = socket;
    // A gateway that hangs accepts, and never answers.
    this.#watch = setTimeout(() => this.#lost(), CONNECT);
    socket.onopen = () => {
      this.#opened = Date.now();
      this.#turn("connected");
      for (const subscription of this.#followed.values()) this.#subscribe(subscription);
    };
    socket.onmessage = ({ data }) => {
      for (const line of data.split("\n")) if (line && socket === this.socket) this.#received(JSON.parse(line));
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.socket) this.#closed(code, reason);
    };
  }

  #subscribe(subscription) {
    const id = this.#send(subscription.command);
    this.#asked.set(id, {
      answer: "subscribed",
      read: () => null,
      events: [],
      resolve: () => {},
      // Resubscribing may be too early after an unsubscribe.
      reject: (error) => error.temporary && setTimeout(() => this.#again(subscription), MIN_WAIT),
    });
  }

  #again(subscription) {
    if (this.#connected && this.#followed.get(subscription.experiment) === subscription) this.#subscribe(subscription);
  }

  #received(frame) {
    if (frame.type === "welcome") this.pingMs = frame.ping_ms;
    // A browser does not notice a connection that is half open: pings that stop coming tell.
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#lost(), 3 * (this.pingMs ?? 10_000));
    const asked = this.#asked.get(frame.id);
    if (asked) this.#answered(asked, frame);
    if (frame.type === "event" && frame.id === undefined) this.#event(frame);
    else if (["subscribed", "caught_up", "gap"].includes(frame.type)) this.#placed(frame);
    else if (frame.type === "snapshot") this.#followed.get(frame.experiment_id)?.onSnapshot?.(frame.runs, frame);
    else if (frame.type === "ping") this.#pinged(frame);
    else if (frame.type === "goaway") this.#hint = frame.reconnect_in_ms;
    this.onFrame(frame);
  }

  #answered(asked, frame) {
    if (frame.type === "event") {
      asked.events.push({ pos: frame.pos, event: frame.event });
      return;
    }
    this.#asked.delete(frame.id);
    if (frame.type === asked.answer) asked.resolve(asked.read(frame, asked.events));
    else asked.reject(new LoopcastError(frame));
  }

  #event(frame) {
    const own = this.#followed.get(frame.event.experimentid);
    const everything = this.#followed.get(EVERYTHING);
    // A frame does not say which subscription sent it. While both of a viewer's send history, neither may be moved by
    // what was the other's; what comes again after that is better than what never comes.
    if (!own) everything?.advance(frame.pos);
    else if (!everything || everything.live || own === everything) own.advance(frame.pos);
    own?.onEvent?.(frame.event, frame);
    if (everything !== own) everything?.onEvent?.(frame.event, frame);
    this.onEvent(frame.event, frame);
  }

  #placed(frame) {
    const subscription = this.#followed.get(frame.experiment_id);
    if (!subscription) return;
    if (frame.recovered === false) subscription.places.clear(); // They were of a log that is not there any more.
    subscription.note(frame.pos);
    if (frame.type === "caught_up" || (frame.type === "subscribed" && subscription.immediate && frame.recovered === undefined)) {
      subscription.live = true;
    }
    if (frame.type === "gap" || frame.recovered === false) {
      subscription.onGap?.(frame.reason, frame);
      this.onGap(frame.reason, frame);
    }
  }

  #pinged(frame) {
    for (const subscription of this.#followed.values()) {
      for (const pos of subscription.live ? frame.pos : []) {
        if (pos && subscription.places.has(pos.slice(0, 4))) subscription.advance(pos);
      }
    }
  }

  #lost() {
    const { socket } = this;
    socket.onclose = null; // It may take minutes to tell.
    socket.close();
    this.#closed(1006, "nothing came any more");
  }

  #hurry() {
    if (this.state !== "waiting" || globalThis.document?.visibilityState === "hidden") return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  #closed(code, reason) {
    clearTimeout(this.#watch);
    for (const subscription of this.#followed.values()) subscription.live = false;
    for (const { reject } of this.#asked.values()) reject(new Error("The connection was lost."));
    this.#asked.clear();
    if (this.#stopped || !reconnects(code)) {
      this.#stopped = true;
      this.#turn("closed", reason || `code ${code}`);
      return;
    }
    if (this.#opened !== null && Date.now() - this.#opened > STEADY) this.#tries = 0;
    this.#opened = null;
    const wait = this.#hint ?? backoff(this.#tries, this.options);
    this.#hint = null;
    this.#tries += 1;
    this.#turn("waiting", wait);
    this.#timer = setTimeout(() => this.#connect(), wait);
  }
}
