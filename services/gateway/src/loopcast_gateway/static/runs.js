// Runs out of events: loops, sub-loops, states, output, verdicts, tokens. Pure: events in, a picture out.

const MAX_LINES = 400; // of output, for each state
const MAX_STATES = 1000; // of a run; the oldest are counted, not kept
const MAX_RUNS = 50;
const DONE = "completed";

const GOOD = new Set(["yes", "pass", "success", "ok", "true"]);
const BAD = new Set(["error", "fail", "failed"]);

/** "good", "bad" or "open": how a verdict is shown. Words that loops make up themselves are neither. */
export function tone(verdict) {
  const word = String(verdict).toLowerCase();
  return GOOD.has(word) ? "good" : BAD.has(word) ? "bad" : "open";
}

/** How a run ended, by its last event (little-loops' own mapping; the same as `loopcast.outcome`). */
export function finalStatus({ terminated_by: by = null, failure_terminal: failed, error }) {
  if (by === null) return failed || error ? "failed" : DONE;
  if (by === "terminal") return failed ? "failed" : DONE;
  if (by === "handoff") return "awaiting continuation";
  if (by === "timeout") return "timed out";
  if (["max_steps", "max_iterations_reached", "interrupted", "interrupted_force"].includes(by)) return "interrupted";
  return "failed";
}

class Run {
  constructor(id, time) {
    this.id = id;
    this.loop = null;
    this.attempt = 1;
    this.status = "running";
    this.started = time;
    this.ended = null;
    this.updated = time;
    this.iteration = null;
    this.states = []; // in the order in which they were entered
    this.forgotten = 0;
    this.open = []; // the open state of each depth
    this.loops = []; // the loop of each depth
    this.tokens = { input: 0, output: 0, cached: 0 };
    this.cost = null;
    this.verdicts = new Map();
    this.whole = false; // whether its beginning was seen
    this.error = null;
  }

  get live() {
    return this.ended === null;
  }

  get current() {
    return this.open.findLast(Boolean) ?? this.states.at(-1) ?? null;
  }

  close(depth, time) {
    for (let level = this.open.length - 1; level >= depth; level -= 1) {
      const state = this.open[level];
      if (state) state.ended = time;
    }
    this.open.length = Math.min(this.open.length, depth);
  }

  enter(data, depth, time) {
    this.close(depth, time);
    const { state: name, iteration = null } = data;
    const state = { name, iteration, depth, loop: this.loops[depth] ?? null, started: time, ended: null };
    Object.assign(state, { action: null, prompt: false, exit: null, ms: null, verdict: null, lines: [], cut: 0, notes: [] });
    Object.assign(state, { tokens: { input: 0, output: 0, cached: 0 }, cost: null });
    this.open[depth] = state;
    this.states.push(state);
    if (depth === 0) this.iteration = iteration;
    if (this.states.length > MAX_STATES) {
      this.states.shift();
      this.forgotten += 1;
    }
  }
}

const FOLD = {
  loop_start(run, data, depth, time) {
    run.loops[depth] = data.loop ?? null;
    run.loops.length = depth + 1;
    if (depth === 0) {
      run.loop ??= data.loop ?? null;
      run.status = "running";
      run.ended = null;
      run.whole = true;
    }
    run.close(depth, time);
  },
  loop_resume(run, data, depth, time) {
    run.loop ??= data.loop ?? null;
    run.status = "running";
    run.ended = null;
    run.close(0, time);
  },
  state_enter(run, data, depth, time) {
    run.enter(data, depth, time);
  },
  action_start(run, data, depth) {
    const state = run.open[depth];
    if (state) Object.assign(state, { action: data.action ?? data.skill ?? null, prompt: Boolean(data.is_prompt) });
  },
  action_output(run, data, depth) {
    const state = run.open[depth];
    if (!state) return;
    state.lines.push(String(data.line ?? ""));
    if (state.lines.length > MAX_LINES) {
      state.lines.shift();
      state.cut += 1;
    }
  },
  action_complete(run, data, depth) {
    const state = run.open[depth];
    if (state) Object.assign(state, { exit: data.exit_code ?? null, ms: data.duration_ms ?? null });
    for (const one of state ? [run, state] : [run]) {
      one.tokens.input += data.input_tokens ?? 0;
      one.tokens.output += data.output_tokens ?? 0;
      one.tokens.cached += data.cache_read_tokens ?? 0;
      if (typeof data.cost_usd === "number") one.cost = (one.cost ?? 0) + data.cost_usd;
    }
  },
  evaluate(run, data, depth) {
    const state = run.open[depth];
    if (state) state.verdict = data.verdict ?? null;
    if (data.verdict) run.verdicts.set(data.verdict, (run.verdicts.get(data.verdict) ?? 0) + 1);
  },
  handoff_detected(run, data, depth, time) {
    run.status = "awaiting continuation";
    run.close(0, time);
  },
  loop_complete(run, data, depth, time) {
    run.close(depth, time);
    if (depth > 0) return;
    run.status = finalStatus(data);
    run.error = data.error ?? null;
    if (run.status !== "awaiting continuation") run.ended = time;
  },
};

const NOTED = /^(action_error|retry_exhausted|cycle_detected|stall_detected|rate_limit_|api_error_|infra_retry|throttle_|host_pressure|prompt_size_warn|max_steps)/;

/** The runs of one experiment, the newest first; the one that is `wanted` is not forgotten. */
export class Runs {
  constructor(wanted = null) {
    this.byId = new Map();
    this.wanted = wanted;
  }

  get list() {
    return [...this.byId.values()].reverse();
  }

  /** Take the next event, in the order of the log; the run that it changed, if any. */
  add(event) {
    const data = event.data !== null && typeof event.data === "object" ? event.data : {};
    const known = this.byId.get(event.runid);
    const tells = FOLD[event.type];
    if (!known && !["loop_start", "loop_resume", "state_enter"].includes(event.type)) return null;
    const time = Date.parse(event.time ?? event.recordedtime) || known?.updated || 0;
    const run = known ?? new Run(event.runid, time);
    if (!known) this.#keep(run);
    const depth = Number.isInteger(data.depth) && data.depth >= 0 && data.depth < 64 ? data.depth : 0;
    run.attempt = Math.max(run.attempt, event.attempt ?? 1);
    tells?.(run, data, depth, time);
    if (NOTED.test(event.type)) run.open[depth]?.notes.push(event.type.replaceAll("_", " "));
    run.updated = Math.max(run.updated, time);
    return run;
  }

  #keep(run) {
    this.byId.set(run.id, run);
    if (this.byId.size <= MAX_RUNS) return;
    const others = [...this.byId.values()].filter((one) => one.id !== this.wanted);
    const old = others.find((one) => !one.live) ?? others[0];
    this.byId.delete(old.id);
  }
}
