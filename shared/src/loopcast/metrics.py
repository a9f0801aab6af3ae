"""
Every metric of every service, with its kind, labels and meaning: the only list of them.

The names follow Prometheus (https://prometheus.io/docs/practices/naming/). No label ever holds an experiment id: their
number has no bound. `docs/metrics.md` is written from this module.
"""

from __future__ import annotations

import contextlib

import prometheus_client as prometheus

from loopcast.metric_definition import WORK_BUCKETS, Definition

__all__ = ["INVENTORY", "Definition", "Metrics"]


# Every service

BUILD = Definition("loopcast_build_info", "gauge", "1, with the version as a label.", ("service", "version"))
BROKER_CONNECTED = Definition(
    "loopcast_broker_connected",
    "gauge",
    "1 while the connection stands: publish-N of a producer, log.N of a gateway, lease.N of an otel-exporter, watch of "
    "a recorder or webhook-forwarder.",
    ("connection",),
)
BROKER_RECONNECTS = Definition(
    "loopcast_broker_reconnects_total", "counter", "Connections to the broker that were lost.", ("connection",)
)
LOOP_LAG = Definition(
    "loopcast_event_loop_lag_seconds", "gauge", "How late the event loop last was for its own heartbeat."
)
REPEAT_KEYS_EVICTED = Definition(
    "loopcast_repeat_keys_evicted_total",
    "counter",
    "Emitters and ids that a gateway or otel-exporter forgot for newer ones: a repeat of theirs is not known for one.",
)

# Services with a public port

AUTH_FAILURES = Definition(
    "loopcast_auth_failures_total",
    "counter",
    "Tokens and API keys that were refused: missing, malformed, algorithm, unknown_key, signature, expired, early, "
    "audience, issuer, claims.",
    ("reason",),
)
AUTH_JWKS = Definition(
    "loopcast_auth_jwks_fetches_total", "counter", "Fetches of the key set by result: taken, failed.", ("result",)
)
AUTH_API_KEYS = Definition(
    "loopcast_auth_api_key_reloads_total",
    "counter",
    "Readings of a changed file of API keys: taken, refused.",
    ("result",),
)

# Producer

PRODUCER_EVENTS = Definition(
    "loopcast_producer_events_total",
    "counter",
    "Events by what became of them: accepted, duplicate, invalid, refused (503).",
    ("status",),
)
PRODUCER_REQUESTS = Definition(
    "loopcast_producer_requests_total", "counter", "Requests by the status of the answer.", ("status",)
)
PRODUCER_NOT_READ = Definition(
    "loopcast_producer_answers_not_read_total",
    "counter",
    "Connections that were closed because the client did not take its answer; its events were dealt with.",
)
PRODUCER_CONFIRM_SECONDS = Definition(
    "loopcast_producer_confirm_seconds", "histogram", "From publishing a request's events to their confirm."
)
PRODUCER_UNCONFIRMED_BYTES = Definition(
    "loopcast_producer_unconfirmed_bytes", "gauge", "Bytes in the windows of unconfirmed messages."
)
PRODUCER_BLOCKED = Definition(
    "loopcast_producer_blocked", "gauge", "1 while the broker takes nothing because of an alarm."
)
PRODUCER_REDIS_MESSAGES = Definition(
    "loopcast_producer_redis_messages_total",
    "counter",
    "Messages of the Redis channel by what became of them: accepted, invalid, dropped (the broker was away too long).",
    ("result",),
)
PRODUCER_REDIS_CONNECTED = Definition(
    "loopcast_producer_redis_connected", "gauge", "1 while this replica listens to the Redis channel."
)
PRODUCER_REDIS_ACTIVE = Definition(
    "loopcast_producer_redis_active", "gauge", "1 while it is this replica that publishes what it hears there."
)
PRODUCER_REDIS_LOSSES = Definition(
    "loopcast_producer_redis_losses_total",
    "counter",
    "Connections to Redis that were lost: what was published until the next one, nobody heard.",
)

# Gateway

GATEWAY_CONNECTIONS = Definition("loopcast_gateway_connections", "gauge", "WebSocket connections.")
GATEWAY_SUBSCRIPTIONS = Definition(
    "loopcast_gateway_subscriptions", "gauge", "Subscriptions: to one experiment, or to all.", ("kind",)
)
GATEWAY_EVENTS = Definition("loopcast_gateway_events_total", "counter", "Events read from the log.")
GATEWAY_REPEATS = Definition(
    "loopcast_gateway_repeats_total", "counter", "Events that the log has twice and viewers saw once."
)
GATEWAY_DELIVERIES = Definition("loopcast_gateway_deliveries_total", "counter", "Event frames put into outboxes.")
GATEWAY_SENT_BYTES = Definition("loopcast_gateway_sent_bytes_total", "counter", "Bytes handed to sockets.")
GATEWAY_CLOSES = Definition("loopcast_gateway_closes_total", "counter", "WebSocket closes by code.", ("code",))
GATEWAY_SLOW = Definition(
    "loopcast_gateway_slow_disconnects_total",
    "counter",
    "Viewers closed with 4008: by bytes left unread, or by time without progress.",
    ("reason",),
)
GATEWAY_REJECTED = Definition(
    "loopcast_gateway_handshakes_rejected_total", "counter", "Handshakes refused before the upgrade.", ("reason",)
)
GATEWAY_COMMANDS = Definition("loopcast_gateway_commands_total", "counter", "Commands of clients.", ("action",))
GATEWAY_COMMAND_SECONDS = Definition(
    "loopcast_gateway_command_seconds",
    "histogram",
    "Carrying out a command. Of one with a history, until that is begun: what it takes is in the replays' own.",
    ("action",),
    buckets=WORK_BUCKETS,
)
GATEWAY_ERRORS = Definition("loopcast_gateway_errors_total", "counter", "Error frames by name.", ("name",))
GATEWAY_RESUMES = Definition(
    "loopcast_gateway_resumes_total", "counter", "Resumes by result: recovered, or why not.", ("result",)
)
GATEWAY_LATENCY = Definition(
    "loopcast_gateway_delivery_seconds", "histogram", "From the producer's taking an event to its dispatch here."
)
GATEWAY_BROADCAST_SECONDS = Definition(
    "loopcast_gateway_broadcast_seconds",
    "histogram",
    "From a batch of the log to the last write of it to a socket that takes it; several batches may be one.",
    buckets=WORK_BUCKETS,
)
GATEWAY_COALESCED = Definition(
    "loopcast_gateway_coalesced_events_total",
    "counter",
    "Events put into outboxes for subscriptions whose coalesce_ms lets them wait for others.",
)
GATEWAY_PING_SECONDS = Definition(
    "loopcast_gateway_ping_seconds",
    "histogram",
    "From a ping to its pong, of a few connections each time; behind what waits for a viewer, so as it sees it.",
)
GATEWAY_LAG = Definition(
    "loopcast_gateway_log_lag_seconds",
    "gauge",
    "How long the gateway's own heartbeat took through the log, or takes that is not back yet.",
    ("partition",),
)
GATEWAY_SILENCES = Definition(
    "loopcast_gateway_silent_consumers_total",
    "counter",
    "Consumers that were dead though their connection stood; they were opened anew.",
    ("partition",),
)
GATEWAY_WHOLE = Definition(
    "loopcast_gateway_log_known",
    "gauge",
    "1 where the whole log is known, by the checkpoint or by reading it; 0 while that goes on.",
    ("partition",),
)
GATEWAY_CHECKPOINTS = Definition(
    "loopcast_gateway_checkpoints_total", "counter", "Checkpoints written by this gateway.", ("partition",)
)
GATEWAY_CHECKPOINT_BYTES = Definition(
    "loopcast_gateway_checkpoint_bytes", "gauge", "Size of the last checkpoint written.", ("partition",)
)
GATEWAY_REPLAYS = Definition(
    "loopcast_gateway_replays_total",
    "counter",
    "Histories sent to subscriptions, by where from: ring (memory alone) or stream.",
    ("source",),
)
GATEWAY_REPLAYED = Definition("loopcast_gateway_replayed_events_total", "counter", "Events of such histories.")
GATEWAY_REPLAY_SECONDS = Definition(
    "loopcast_gateway_replay_seconds", "histogram", "From a subscription with history to its caught_up.", ("source",)
)
GATEWAY_BLOCKS = Definition(
    "loopcast_gateway_history_reads_total", "counter", "Blocks of the log that were read again, shared by who asked."
)
GATEWAY_READING = Definition(
    "loopcast_gateway_history_reading", "gauge", "Blocks that are being read again, or wait for their turn."
)
GATEWAY_CONGESTED = Definition(
    "loopcast_gateway_congested_connections", "gauge", "Connections whose sockets take nothing more for now."
)
GATEWAY_OUTBOX = Definition(
    "loopcast_gateway_outbox_bytes", "gauge", "Bytes that wait in the outboxes of congested connections."
)
GATEWAY_GAPS = Definition(
    "loopcast_gateway_gaps_total", "counter", "Times that a subscription was told of missing events.", ("reason",)
)
GATEWAY_MISSING = Definition(
    "loopcast_gateway_missing_events_total",
    "counter",
    "Events that their emitters numbered and that never came: dropped by a full spool, or refused for good.",
)
GATEWAY_DRAINING = Definition("loopcast_gateway_draining", "gauge", "1 while viewers are asked to leave.")
GATEWAY_EXPERIMENTS = Definition(
    "loopcast_gateway_experiments", "gauge", "Experiments that are known of the log.", ("partition",)
)
GATEWAY_RUNS = Definition("loopcast_gateway_open_runs", "gauge", "Runs that go on, or wait to.", ("partition",))
GATEWAY_OFFSET = Definition("loopcast_gateway_log_offset", "gauge", "The last offset read.", ("partition",))

# Otel-exporter

OTEL_EVENTS = Definition("loopcast_otel_events_total", "counter", "Events read from the log.")
OTEL_REPEATS = Definition("loopcast_otel_repeats_total", "counter", "Events that the log has twice.")
OTEL_MISSING = Definition(
    "loopcast_otel_missing_total", "counter", "Sequence numbers that never came, and were waited for."
)
OTEL_EXPORTED = Definition(
    "loopcast_otel_exported_total", "counter", "Spans and log records that the backend took.", ("signal",)
)
OTEL_REQUESTS = Definition(
    "loopcast_otel_requests_total",
    "counter",
    "Requests to the backend by its answer: taken, again (it was away), never (it refused).",
    ("signal", "status"),
)
OTEL_EXPORT_SECONDS = Definition("loopcast_otel_export_seconds", "histogram", "How long the backend took to answer.")
OTEL_DEAD_ITEMS = Definition(
    "loopcast_otel_dead_items_total", "counter", "Items that the backend refused for good.", ("signal",)
)
OTEL_OPEN_SPANS = Definition(
    "loopcast_otel_open_spans", "gauge", "Spans that have begun and not ended.", ("partition",)
)
OTEL_WAITING = Definition("loopcast_otel_waiting_events", "gauge", "Events that wait for earlier ones.", ("partition",))
OTEL_LAG = Definition(
    "loopcast_otel_lag_seconds",
    "gauge",
    "How old the oldest event is that the backend does not have; 0 where it has all.",
    ("partition",),
)
OTEL_LEASE = Definition(
    "loopcast_otel_lease_held", "gauge", "1 while this replica reads the partition.", ("partition",)
)
OTEL_RECOVERIES = Definition(
    "loopcast_otel_recoveries_total",
    "counter",
    "Partitions taken over, from a checkpoint or from the log.",
    ("source",),
)
OTEL_CHECKPOINTS = Definition("loopcast_otel_checkpoints_total", "counter", "Checkpoints written.")
OTEL_CHECKPOINT_BYTES = Definition("loopcast_otel_checkpoint_bytes", "gauge", "Size of the last checkpoint's state.")

# Recorder

RECORDER_EVENTS = Definition("loopcast_recorder_events_total", "counter", "Events that a sink kept.", ("sink",))
RECORDER_REPEATS = Definition(
    "loopcast_recorder_repeats_total", "counter", "Events that the log has twice and a sink kept once.", ("sink",)
)
RECORDER_MISSING = Definition(
    "loopcast_recorder_missing_events_total",
    "counter",
    "Events that their emitters numbered and that never came: dropped by a full spool, or refused for good.",
    ("sink",),
)
RECORDER_FAILURES = Definition(
    "loopcast_recorder_failures_total", "counter", "Writes that a sink did not take; they are tried again.", ("sink",)
)
RECORDER_FAILING = Definition(
    "loopcast_recorder_failing", "gauge", "1 while a sink does not take what it is given.", ("sink",)
)
RECORDER_GAPS = Definition(
    "loopcast_recorder_gaps_total",
    "counter",
    "Times that the log had lost events before a sink kept them: truncated, or the log made anew.",
    ("sink", "reason"),
)
RECORDER_OFFSET = Definition(
    "loopcast_recorder_log_offset", "gauge", "The last offset that a sink kept.", ("sink", "partition")
)
RECORDER_LAG = Definition(
    "loopcast_recorder_lag_seconds",
    "gauge",
    "How old the oldest event is that a sink has not kept; 0 where it has all.",
    ("sink", "partition"),
)
RECORDER_WRITE_SECONDS = Definition(
    "loopcast_recorder_write_seconds", "histogram", "How long a sink took to keep a batch.", ("sink",)
)
RECORDER_SOCKET_CLIENTS = Definition("loopcast_recorder_socket_clients", "gauge", "Clients of the Unix socket.")
RECORDER_SOCKET_DROPPED = Definition(
    "loopcast_recorder_socket_dropped",
    "gauge",
    "Events that clients of the socket were not given: too slow, or closed.",
)
RECORDER_SOCKET_REJECTED = Definition(
    "loopcast_recorder_socket_rejected", "gauge", "Clients of the socket that found no place."
)
RECORDER_DELETED = Definition("loopcast_recorder_deleted", "gauge", "Events that retention deleted from the database.")
RECORDER_FILES_DELETED = Definition("loopcast_recorder_files_deleted", "gauge", "JSONL files that retention deleted.")

# Webhook-forwarder. Endpoints are those of its file, so their number is bounded.

WEBHOOK_EVENTS = Definition(
    "loopcast_webhook_events_total",
    "counter",
    "Events by what became of them: delivered, dead, unwanted (no binding matches, or the log's copy was delivered).",
    ("endpoint", "result"),
)
WEBHOOK_CALLS = Definition(
    "loopcast_webhook_calls_total",
    "counter",
    "Calls by what the answer meant: delivered, retry, slowly, refused, gone.",
    ("endpoint", "result"),
)
WEBHOOK_CALL_SECONDS = Definition(
    "loopcast_webhook_call_seconds", "histogram", "From sending a call to its answer.", ("endpoint",)
)
WEBHOOK_DELIVERY_SECONDS = Definition(
    "loopcast_webhook_delivery_seconds",
    "histogram",
    "From the producer's taking an event, the first of its batch, to its delivery.",
    ("endpoint",),
)
WEBHOOK_QUEUE = Definition(
    "loopcast_webhook_queue_messages", "gauge", "Events that wait in an endpoint's queue.", ("endpoint",)
)
WEBHOOK_DEAD = Definition("loopcast_webhook_dead_messages", "gauge", "Dead letters of an endpoint.", ("endpoint",))
WEBHOOK_PHASE = Definition(
    "loopcast_webhook_phase",
    "gauge",
    "1 for what an endpoint is: closed, open, half-open, misconfigured, paused, stopped, removed.",
    ("endpoint", "phase"),
)
WEBHOOK_FAILING = Definition(
    "loopcast_webhook_failing_seconds", "gauge", "For how long each try has failed; 0 while none does.", ("endpoint",)
)
WEBHOOK_SPILLED = Definition(
    "loopcast_webhook_spilled", "gauge", "1 while an endpoint's backlog is in the log alone.", ("endpoint",)
)
WEBHOOK_LOST = Definition(
    "loopcast_webhook_lost_to_retention_total",
    "counter",
    "Offsets of the log that retention took before an endpoint's catch-up had read them.",
    ("endpoint",),
)
WEBHOOK_RELOADS = Definition(
    "loopcast_webhook_reloads_total", "counter", "Readings of a changed endpoints file: taken, refused.", ("result",)
)

INVENTORY: dict[str, Definition] = {v.name: v for v in list(globals().values()) if isinstance(v, Definition)}
"""All of them by name, in the order of this file."""


class Metrics:
    """The metrics of one process, on a registry of their own."""

    def __init__(self, service: str, version: str) -> None:
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        prometheus.GCCollector(registry=self.registry)
        self._made: dict[str, prometheus.Counter | prometheus.Gauge | prometheus.Histogram] = {}
        self.gauge(BUILD, service=service, version=version).set(1)

    def counter(self, definition: Definition, **labels: str) -> prometheus.Counter:
        """The counter, or its child with these labels: keep it where it is used often."""
        made = self._made.get(definition.name) or self._make(prometheus.Counter, definition)
        assert isinstance(made, prometheus.Counter)
        return made.labels(**labels) if labels else made

    def gauge(self, definition: Definition, **labels: str) -> prometheus.Gauge:
        """The gauge, or its child with these labels; `set_function` makes it read a value when scraped."""
        made = self._made.get(definition.name) or self._make(prometheus.Gauge, definition)
        assert isinstance(made, prometheus.Gauge)
        return made.labels(**labels) if labels else made

    def histogram(self, definition: Definition, **labels: str) -> prometheus.Histogram:
        """The histogram, or its child with these labels."""
        made = self._made.get(definition.name)
        if made is None:
            made = prometheus.Histogram(
                definition.name, definition.help, definition.labels, registry=self.registry, buckets=definition.buckets
            )
            self._made[definition.name] = made
        assert isinstance(made, prometheus.Histogram)
        return made.labels(**labels) if labels else made

    def remove(self, definition: Definition, **labels: str) -> None:
        """Forget the child with these labels, so that a scrape no longer has it; harmless where there is none."""
        made = self._made.get(definition.name)
        if made is not None:
            with contextlib.suppress(KeyError):
                made.remove(*(labels[name] for name in definition.labels))

    def render(self) -> bytes:
        """All of them as Prometheus' text format."""
        return prometheus.generate_latest(self.registry)

    def _make(
        self, kind: type[prometheus.Counter] | type[prometheus.Gauge], definition: Definition
    ) -> prometheus.Counter | prometheus.Gauge:
        made = kind(definition.name, definition.help, definition.labels, registry=self.registry)
        self._made[definition.name] = made
        return made
