/** Types of client.js: a client of the gateway's WebSocket, which comes back where it was. */

/** A place in the log: opaque, and sortable as text within a partition. */
export type Pos = string;

/** A CloudEvent 1.0; `data` is the loop's own object. */
export interface LoopEvent<Data = unknown> {
  specversion: "1.0";
  id: string;
  source: string;
  type: string;
  subject?: string;
  time?: string;
  experimentid: string;
  runid: string;
  attempt?: number;
  parentrunid?: string;
  recordedtime?: string;
  emitter?: string;
  sequence?: string;
  traceparent?: string;
  tracestate?: string;
  data: Data;
}

export interface EventFrame<Data = unknown> {
  type: "event";
  id?: number;
  pos: Pos;
  /** Its partition, where there are several. */
  p?: number;
  /** From before the subscription. */
  replay?: true;
  event: LoopEvent<Data>;
}

export interface SubscribedFrame {
  type: "subscribed";
  id?: number;
  experiment_id: string;
  pos?: Pos | Pos[];
  recovered?: boolean;
  reason?: Reason;
  earliest?: { pos: Pos; ts: number };
}

export interface CaughtUpFrame {
  type: "caught_up";
  experiment_id: string;
  pos?: Pos | Pos[];
  events: number;
}

export interface GapFrame {
  type: "gap";
  experiment_id: string;
  reason: Reason;
  pos?: Pos;
}

/** A run, as the events before a snapshot's `pos` left it. */
export interface Run {
  experiment_id: string;
  run: string;
  attempt?: number;
  loop?: string;
  status?: string;
  resumed?: boolean;
  parent_run?: string;
  started?: string;
  ended?: string;
  updated?: string;
  /** When its process last told that it lives, where it does so. */
  pulse?: string;
  /** It runs, as far as it said, and its process tells no more that it lives. */
  silent?: boolean;
  /** How many of its events were numbered and never came: dropped by a full spool, or refused for good. */
  missing?: number;
  /** The loops that run, the run's own first, each inside the one before. */
  loops?: { loop?: string; state?: string; iteration?: number; since?: string; started?: string }[];
}

export interface SnapshotFrame {
  type: "snapshot";
  experiment_id: string;
  pos: Pos | Pos[] | null;
  runs: Run[];
}

/** Any frame; those that are listed have types of their own, and later versions may have others. */
export type Frame =
  | EventFrame
  | SubscribedFrame
  | CaughtUpFrame
  | GapFrame
  | SnapshotFrame
  | { type: "welcome"; session: string; server_time: number; ping_ms: number; limits: Record<string, number> }
  | { type: "ping"; pos: (Pos | null)[] }
  | { type: "goaway"; code: number; reconnect_in_ms: number }
  | { type: "error"; id?: number; code: number; name: string; message: string; temporary: boolean }
  | { type: string; [field: string]: unknown };

/** Why events are missing. */
export type Reason = "truncated" | "epoch_changed" | "limit" | "unavailable" | (string & {});

export type State = "connecting" | "connected" | "waiting" | "closed";

export interface FollowOptions {
  /** Where to begin without a position. */
  from?: "now" | "earliest" | "last";
  /** Unix seconds: begin with what was recorded later. Counts more than `from`. */
  sinceTs?: number;
  /** With `from: "last"` so many of the newest; else the most that may have been missed. */
  limit?: number;
  /** Ask for the runs that go on, before the history. */
  snapshot?: boolean;
  onSnapshot?: (runs: Run[], frame: SnapshotFrame) => void;
  /** Positions that were kept: `Subscription.positions`. Counts more than the others. */
  resume?: Pos | Pos[] | null;
  /** Shell patterns of types that are wanted. */
  types?: string[];
  /** Shell patterns of types that are not. */
  exclude?: string[];
  /** Milliseconds that events may wait for others, 0 to 1000. */
  coalesceMs?: number;
  onEvent?: (event: LoopEvent, frame: EventFrame) => void;
  onGap?: (reason: Reason, frame: GapFrame | SubscribedFrame) => void;
}

export interface ReplayOptions {
  after?: Pos | Pos[];
  before?: Pos | Pos[];
  /** Unix seconds. */
  sinceTs?: number;
  untilTs?: number;
  /** 0 to 10000; 100 without. */
  limit?: number;
  order?: "oldest" | "newest";
}

export interface Replayed {
  events: { pos: Pos; event: LoopEvent }[];
  complete: boolean;
  /** The `after`, or for "newest" the `before`, to go on with; a list on `*` over several partitions. */
  next: Pos | Pos[] | null;
  /** "truncated": retention has taken some of what was asked for. */
  reason: Reason | null;
}

export interface ClientOptions {
  /** `detail`: for "waiting" the milliseconds until the next try, for "closed" why. */
  onState?: (state: State, detail?: number | string) => void;
  onFrame?: (frame: Frame) => void;
  onEvent?: (event: LoopEvent, frame: EventFrame) => void;
  onGap?: (reason: Reason, frame: GapFrame | SubscribedFrame) => void;
  /** Sent as the subprotocol `bearer.<token>`; a function is asked again at each connection. */
  token?: string | (() => string);
  /** A constructor, where there is no global one. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocket;
  /** Milliseconds. */
  min?: number;
  max?: number;
  random?: () => number;
}

export const EVERYTHING: "*";

/** Milliseconds before try number `tries`: full jitter. */
export function backoff(tries: number, options?: Pick<ClientOptions, "min" | "max" | "random">): number;

/** Whether a connection that was closed with `code` should be made again. */
export function reconnects(code: number): boolean;

export class LoopcastError extends Error {
  readonly code: number;
  readonly temporary: boolean;
}

export class Subscription {
  readonly experiment: string;
  readonly live: boolean;
  /** Keep them to go on in another page or process. */
  readonly positions: Pos[];
  stop(): void;
}

export class LoopcastClient {
  constructor(url: string | URL, options?: ClientOptions);
  readonly state: State;
  start(): this;
  stop(): void;
  /** Follow an experiment, or "*" for all; what was followed under that name before is ended. */
  follow(experiment: string, options?: FollowOptions): Subscription;
  unfollow(experiment: string): void;
  replay(experiment: string, options?: ReplayOptions): Promise<Replayed>;
  stats(): Promise<Record<string, unknown>>;
}
