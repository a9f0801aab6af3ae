"""The tree of errors, and the names that others may rely on."""

import importlib

import pytest

from loopcast import errors

TREE = {
    "LoopcastError": "Exception",
    "ConfigurationError": "LoopcastError",
    "InvalidEvent": "LoopcastError",
    "InvalidExperiment": "InvalidEvent",
    "InvalidType": "InvalidEvent",
    "EventTooLarge": "InvalidEvent",
    "NotPermitted": "InvalidEvent",
    "InvalidPosition": "LoopcastError",
    "InvalidToken": "LoopcastError",
    "KeysUnavailable": "LoopcastError",
    "BrokerError": "LoopcastError",
    "BrokerUnavailable": "BrokerError",
    "BrokerBlocked": "BrokerError",
    "WindowFull": "BrokerError",
    "LogMissing": "BrokerError",
    "LogChanged": "BrokerError",
    "TopologyMismatch": "BrokerError",
    "StorageError": "LoopcastError",
    "NodeError": "LoopcastError",
}

PUBLIC = {
    "coerce": {"MAX_DEPTH", "encode"},
    "errors": set(TREE),
    "events": {
        "DEFAULT_TYPE",
        "Event",
        "MAX_EVENT_BYTES",
        "event_type",
        "format_time",
        "normalize_time",
        "one_line",
        "parse",
        "slice_data",
        "source_of",
        "splice",
        "to_microseconds",
    },
    "ids": {"new_emitter", "new_suffix", "uuid7"},
    "position": {"Anchor", "Position", "anchor_hash", "verify"},
    "repeats": {"Repeats"},
    "routing": {
        "ANYWHERE",
        "MAX_EXPERIMENT_BYTES",
        "MAX_TYPE_BYTES",
        "NOWHERE",
        "bind_experiment",
        "bind_type",
        "check_experiment",
        "check_type",
        "coerce_type",
        "experiment_word",
        "matches",
        "partition_of",
        "routing_key",
    },
    "runs": {"Change", "Frame", "Identity", "Runs", "State", "run_id", "source_run"},
    "topology": {
        "APP_ID",
        "Binding",
        "CLOUDEVENT",
        "EVENTS",
        "Exchange",
        "HEARTBEAT",
        "MAX_PARTITIONS",
        "OTEL_DEAD",
        "Queue",
        "Topology",
        "log_stream",
        "parse_age",
        "WEBHOOK_NAME",
        "checkpoint_stream",
        "lease_queue",
        "member_queue",
        "webhook_dead_letters",
        "webhook_names",
        "webhook_queue",
        "webhook_state",
    },
}


def test_tree() -> None:
    """Every error is where the module's docstring draws it."""
    drawn = {name: getattr(errors, name).__mro__[1].__name__ for name in errors.__all__}

    assert TREE == drawn


def test_docstring_names_all() -> None:
    """The drawing leaves no error out."""
    assert [] == [name for name in errors.__all__ if f":exc:`{name}`" not in (errors.__doc__ or "")]


@pytest.mark.parametrize("name", [name for name, parent in TREE.items() if parent == "BrokerError"])
def test_retry_after(name: str) -> None:
    """Whatever the broker refused can be tried again after a time that is said."""
    assert getattr(errors, name).retry_after > 0


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    """A pure module's public names change only on purpose: here and there together."""
    loaded = importlib.import_module(f"loopcast.{module}")

    assert PUBLIC[module] == set(loaded.__all__)
    assert [] == [name for name in loaded.__all__ if not hasattr(loaded, name)]
