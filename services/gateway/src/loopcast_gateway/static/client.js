// A client of the gateway's WebSocket (docs/protocol.md): follows experiments, comes back where it was, says what it missed.

const PROTOCOL = "loopcast.v1.json";
const MIN_WAIT = 500;
const MAX_WAIT = 20_000;
const STEADY = 10_000; // A connection that lasted so long was a good one.

/**
 * One connection, kept up.
 *
 * onState(state, detail): "connecting", "connected", "waiting" (detail: milliseconds until the next try), "closed"
 * (detail: why; it does not come back). onFrame(frame): every frame, after positions were noted.
 */
export class LoopcastClient {
  constructor(url, { onState = () => {}, onFrame = () => {} } = {}) {
    this.url = url;
    this.onState = onState;
    this.onFrame = onFrame;
    this.followed = new Map(); // experiment -> {from, positions: Map(partition key -> pos), live}
    this.tries = 0;
    this.number = 0;
    this.hint = null;
    this.socket = null;
    this.timer = null;
  }

  start() {
    this.stopped = false;
    this.#connect();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    this.socket?.close(1000);
  }

  /** Follow `experiment` ("*" is all) from "now" or "earliest", or from behind `resume`, a pos or a list of them. */
  follow(experiment, { from = "now", resume = null } = {}) {
    const positions = new Map();
    this.followed.set(experiment, { from, positions, live: false });
    this.#note(experiment, resume);
    if (this.#open()) this.#subscribe(experiment);
  }

  unfollow(experiment) {
    if (this.followed.delete(experiment) && this.#open()) {
      this.#send({ action: "unsubscribe", experiment_id: experiment });
    }
  }

  #open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  #send(command) {
    this.number += 1;
    this.socket.send(JSON.stringify({ id: this.number, ...command }));
  }

  #connect() {
    this.onState("connecting");
    const socket = new WebSocket(this.url, PROTOCOL);
    this.socket = socket;
    socket.onopen = () => {
      this.opened = Date.now();
      this.onState("connected");
      for (const experiment of this.followed.keys()) this.#subscribe(experiment);
    };
    socket.onmessage = (message) => this.#received(JSON.parse(message.data));
    socket.onclose = (event) => {
      if (socket === this.socket) this.#closed(event.code, event.reason);
    };
  }

  #subscribe(experiment) {
    const { from, positions } = this.followed.get(experiment);
    const resume = [...positions.values()];
    const place = resume.length ? { resume } : { from };
    this.#send({ action: "subscribe", experiment_id: experiment, ...place });
  }

  #received(frame) {
    if (frame.type === "welcome") this.pingMs = frame.ping_ms;
    // A browser does not notice a connection that is half open: pings that stop coming tell.
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.#lost(), 3 * (this.pingMs ?? 10_000));
    switch (frame.type) {
      case "event":
        this.#note(frame.event.experimentid, frame.pos);
        this.#note("*", frame.pos);
        break;
      case "subscribed":
      case "gap":
      case "caught_up": {
        this.#note(frame.experiment_id, frame.pos);
        const followed = this.followed.get(frame.experiment_id);
        if (followed && frame.type === "caught_up") followed.live = true;
        break;
      }
      case "ping":
        for (const [experiment, followed] of this.followed) {
          if (followed.live) for (const pos of frame.pos) this.#advance(experiment, pos);
        }
        break;
      case "goaway":
        this.hint = frame.reconnect_in_ms;
        break;
    }
    this.onFrame(frame);
  }

  // The first four characters of a pos are its version and partition.
  #note(experiment, pos) {
    const followed = this.followed.get(experiment);
    if (!followed || !pos) return;
    for (const one of [pos].flat()) followed.positions.set(one.slice(0, 4), one);
  }

  #advance(experiment, pos) {
    const { positions } = this.followed.get(experiment);
    const mine = positions.get(pos?.slice(0, 4));
    if (mine && pos > mine) positions.set(pos.slice(0, 4), pos);
  }

  #lost() {
    const socket = this.socket;
    socket.onclose = null; // It may take minutes to tell.
    socket.close();
    this.#closed(1006, "nothing came any more");
  }

  #closed(code, reason) {
    clearTimeout(this.watch);
    for (const followed of this.followed.values()) followed.live = false;
    if (this.stopped || (code >= 4500 && code < 5000)) {
      this.onState("closed", reason || `code ${code}`);
      return;
    }
    if (Date.now() - (this.opened ?? Date.now()) > STEADY) this.tries = 0;
    this.opened = undefined;
    // Full jitter, so that viewers that lost a gateway together do not come back together.
    const ceiling = Math.min(MAX_WAIT, MIN_WAIT * 2 ** this.tries);
    const wait = this.hint ?? MIN_WAIT / 2 + Math.random() * ceiling;
    this.hint = null;
    this.tries += 1;
    this.onState("waiting", wait);
    this.timer = setTimeout(() => this.#connect(), wait);
  }
}
