"""Numbers in prose are those of the code: each stands in one module, and the page that says it is read here."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

NUMBERS = [
    ("docs/sdk.md", r"may have waiting, (\d+)", "loopcast.sdk.configuration.DEFAULT_BYTES", 1),
    ("docs/sdk.md", r"in batches of up to (\d+)", "loopcast.sdk.sender.BATCH_EVENTS", 1),
    ("docs/sdk.md", r"full jitter up to (\d+) s", "loopcast.sdk.verdicts.CAP_SECONDS", 1),
    ("docs/sdk.md", r"told so every (\d+) seconds", "loopcast.intervals.PULSE_SECONDS", 1),
    ("docs/architecture/events.md", r"post a heartbeat every (\d+) seconds", "loopcast.intervals.PULSE_SECONDS", 1),
    ("docs/architecture/events.md", r"neither pulse nor event for (\d+) seconds", "loopcast.pulse.SILENT_SECONDS", 1),
    ("docs/architecture/events.md", r"when nothing came for (\d+) seconds", "loopcast.broker.log.SILENT_SECONDS", 1),
    ("docs/protocol.md", r"no pulse and no event for (\d+) seconds", "loopcast.pulse.SILENT_SECONDS", 1),
    ("docs/sdk.md", r"shown as `silent` after (\d+) seconds", "loopcast.pulse.SILENT_SECONDS", 1),
    ("docs/relays.md", r"as is one over (\d+) MiB", "loopcast.relays.lines.MAX_LINE_BYTES", 1024 * 1024),
    ("docs/architecture/events.md", r"at most ([\d,]+) characters \|", "loopcast.coerce.MAX_REPR", 1),
    ("docs/architecture/events.md", r"nesting beyond (\d+)", "loopcast.coerce.MAX_DEPTH", 1),
    ("docs/protocol.md", r"a text of up to (\d+) characters", "loopcast_gateway.protocol.MAX_ID_LENGTH", 1),
    ("docs/protocol.md", r"`coalesce_ms` \(0 to (\d+)\)", "loopcast_gateway.protocol.MAX_COALESCE_MS", 1),
    ("docs/protocol.md", r"With a `limit` \(0 to ([\d,]+)\)", "loopcast_gateway.protocol.MAX_REPLAY", 1),
    ("docs/protocol.md", r"`limit` \(100; (\d+) at most\)", "loopcast_gateway.protocol.MAX_REPLAY", 1),
    (
        "docs/protocol.md",
        r"the newest `limit` events \((\d+) without one\)",
        "loopcast_gateway.protocol.DEFAULT_LAST",
        1,
    ),
    ("docs/protocol.md", r"up to (\d+) each\)", "loopcast_gateway.filters.MAX_PATTERNS", 1),
    ("services/gateway/README.md", r"`limit=` \(≤ (\d+)\)", "loopcast.history_query.MAX_LIMIT", 1),
    ("docs/architecture/recorder.md", r"in slices of ([\d,]+)", "loopcast_recorder.retention.SLICE", 1),
    (
        "docs/architecture/webhooks.md",
        r"`LOOPCAST_WEBHOOKS_HOLD_SECONDS` \((\d+) minutes\)",
        "loopcast.settings.WebhookForwarderSettings.webhooks_hold_seconds",
        60,
    ),
    (
        "docs/architecture/webhooks.md",
        r"Over ([\d,]+) events or about",
        "loopcast.settings.WebhookForwarderSettings.webhooks_max_backlog_events",
        1,
    ),
    ("docs/sizing.md", r"connections 100,000 / ([\d,]+)", "loopcast.settings.GatewaySettings.max_connections", 1),
    ("docs/sizing.md", r"ring: up to (\d+) MiB", "loopcast.settings.GatewaySettings.ring_total_bytes", 1024 * 1024),
    (
        "docs/sizing.md",
        r"\((\d+) GB a partition unless set\)",
        "loopcast.settings.ServiceSettings.log_max_bytes",
        10**9,
    ),
    (
        "docs/operations/runbooks.md",
        r"of\s+the SDKs \((\d+) MiB each unless set\)",
        "loopcast.sdk.configuration.DEFAULT_BYTES",
        1024 * 1024,
    ),
]


def value_of(name):
    """A constant of a module, or the default of a setting."""
    place, _, last = name.rpartition(".")
    if place.endswith("Settings"):
        module, _, settings = place.rpartition(".")
        return getattr(importlib.import_module(module), settings).model_fields[last].default
    return getattr(importlib.import_module(place), last)


@pytest.mark.parametrize(("page", "pattern", "name", "unit"), NUMBERS)
def test_a_number_in_prose_is_that_of_the_code(page, pattern, name, unit):
    """Who changes the one is shown the other."""
    found = re.findall(pattern, (ROOT / page).read_text(encoding="utf-8"))

    assert [value_of(name)] == [int(text.replace(",", "")) * unit for text in found]
