"""Relays and the extension with little-loops itself: its socket, its files, its command, its configuration."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from little_loops.config.features import EventsConfig
from little_loops.events import EventBus
from little_loops.extension import wire_extensions
from little_loops.fsm.executor import derive_run_id
from little_loops.fsm.persistence import LoopState
from little_loops.transport import UnixSocketTransport, wire_transports
from scripted import ScriptedProducer

from loopcast import LoopcastTransport, extension
from loopcast.errors import ConfigurationError
from loopcast.relays.little_loops_config import KNOWN, translate
from loopcast.relays.unix import UnixSource, own_run
from loopcast_webhook_forwarder.endpoints_file import parse_endpoints

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from agent import LOOPS  # noqa: E402

BIN = Path(sys.executable).parent


@pytest.fixture
def producer():
    """A producer that takes everything."""
    with ScriptedProducer() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    """A project with two loops, at a path that is short enough for a socket."""
    made = tmp_path / "p"
    (made / ".loops").mkdir(parents=True)
    for name, text in LOOPS.items():
        (made / ".loops" / f"{name}.yaml").write_text(text)
    return made


def sent(producer):
    """The envelopes that came, each once."""
    events = [event for path, _, batch, _ in producer.requests if path.endswith("/events") for event in batch]
    return list({event["id"]: event for event in events}.values())


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ll_loop(folder, url, *command, env=None):
    """Run little-loops' own command in the project, with the extension that it finds by itself."""
    environment = {
        **os.environ,
        "LOOPCAST_EXPERIMENT": "loops",
        **({"LOOPCAST_URL": url} if url else {}),
        **(env or {}),
    }
    return subprocess.run([BIN / "ll-loop", *command], cwd=folder, env=environment, capture_output=True, timeout=90)


def has_client(transport):
    """Whether somebody is connected, and not only asked whether anybody listens, as little-loops itself does."""
    return any(not transport._peer_closed(client.conn) for client in list(transport._clients))


class Reader:
    """A relay of a socket that is stepped until what is waited for has come."""

    def __init__(self, producer, path):
        self.transport = LoopcastTransport(producer.url, "e")
        self.source = UnixSource(self.transport, path)

    def until(self, condition):
        def step():
            self.source._scan_at = 0
            self.source.step()
            return condition()

        wait_for(step)
        return self

    def stop(self):
        self.source.close()
        assert self.transport.close(10).complete


def test_little_loops_socket_is_read(producer, tmp_path):
    """Events of the real transport arrive in order, over a restart of it, and of the sockets beside it."""
    path = tmp_path / "e.sock"
    reader = Reader(producer, path)
    expected = []
    for n in range(2):
        transport = UnixSocketTransport(path)
        beside = UnixSocketTransport(path)
        reader.until(lambda: has_client(transport) and has_client(beside))  # noqa: B023
        for k in range(50):
            transport.send({"event": "x", "run_id": "a", "n": (n, k)})
            beside.send({"event": "x", "run_id": "b", "n": (n, k)})
            expected.append([n, k])
        reader.until(lambda: reader.source.counts.relayed == 100 * (n + 1))  # noqa: B023
        transport.close()
        beside.close()
    reader.stop()

    found = sent(producer)
    for own in "ab":
        assert expected == [event["data"]["n"] for event in found if event["data"]["run_id"] == own]
    assert all(event["data"]["producer_pid"] == os.getpid() for event in found)


def test_a_seed_names_the_run_that_follows(producer, tmp_path, folder):
    """The state of a loop that runs is relayed once, as of the run that its events are of; ended loops are no news."""
    state = LoopState(
        loop_name="l",
        current_state="work",
        iteration=3,
        captured={},
        prev_result=None,
        last_result=None,
        started_at="2026-11-21T12:35:24.131063+00:00",
        updated_at="2026-11-21T12:35:25+00:00",
        status="running",
    )

    def seed(client):
        for status in ("running", "completed"):
            client.queue.put(
                (json.dumps({"event": "state_change", **state.to_dict(), "status": status}) + "\n").encode()
            )

    path = tmp_path / "e.sock"
    reader = Reader(producer, path)
    for n in (1, 2):
        transport = UnixSocketTransport(path, on_connect=seed)
        reader.until(lambda: has_client(transport))  # noqa: B023
        transport.send({"event": "state_enter", "loop": "l", "run_id": derive_run_id(state.started_at, "l")})
        reader.until(lambda: reader.source.counts.relayed == n + 1)  # noqa: B023
        transport.close()
    reader.stop()

    assert ["state_change", "state_enter", "state_enter"] == [event["type"] for event in sent(producer)]
    assert 1 == len({event["runid"] for event in sent(producer)})
    assert "run_id" not in sent(producer)[0]["data"]
    assert 3 == reader.source.counts.stale
    assert derive_run_id(state.started_at, "l") == own_run(state.started_at, "l")


def test_a_socket_with_nonsense(producer, tmp_path):
    """What is no event is counted, and a line that is cut off by the end too."""
    path = tmp_path / "e.sock"
    transport = UnixSocketTransport(path)
    reader = Reader(producer, path).until(lambda: has_client(transport))
    transport._clients[0].queue.put(b'nonsense\n{"n":1}\n[1]\n{"n":')
    reader.until(lambda: reader.source.counts.bad == 2)
    transport.close()
    reader.until(lambda: reader.source.counts.bad == 3)
    reader.stop()

    assert [{"n": 1}] == [event["data"] for event in sent(producer)]


def test_the_extension_sends_a_real_run(producer, folder):
    """`ll-loop run`, unchanged, with LOOPCAST_URL set: the run is in the log as it is in little-loops' own file."""
    done = ll_loop(folder, producer.url, "run", "parent")
    resumed = ll_loop(folder, producer.url, "resume", "parent")

    events = sent(producer)
    own = archived(folder, done, resumed)
    assert own == [event["data"] for event in events]
    assert 1 == len({event["runid"] for event in events})
    assert [1, 2] == sorted({event["attempt"] for event in events})
    assert {"loops"} == {event["experimentid"] for event in events}


def archived(folder, *runs):
    """What little-loops itself wrote down, over its file and its archive."""
    found = {}
    for path in sorted((folder / ".loops").rglob("*events.jsonl")):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            found.setdefault((event["ts"], line), event)
    assert found, [run.stderr.decode()[-2000:] for run in runs]
    return [found[key] for key in sorted(found)]


def test_without_a_url_the_extension_does_nothing(folder, tmp_path):
    """Installed and not asked for, it makes no folder, no thread and no connection."""
    ll_loop(folder, "", "run", "parent")

    assert archived(folder)
    assert not (tmp_path / "spool").exists()


def test_a_wrong_url_stops_no_loop(folder):
    """A mistake in a variable is logged by little-loops, and the loop runs."""
    ll_loop(folder, "nonsense", "run", "parent")

    assert archived(folder)


def deliver_left_overs(producer):
    """As the next process does with what one could not deliver in the two seconds that it has at its end."""
    transport = LoopcastTransport(producer.url, "loops")
    transport.send({"event": "after"})
    assert transport.close(20).complete


def test_parallel_runs_are_each_sent_once(producer, folder):
    """Two loops in one project at the same time, each process with the extension: every event once."""
    for name, scope in (("one", "a"), ("other", "b")):
        text = LOOPS["child"].replace("child", name).replace('scope: ["."]', f'scope: ["{scope}"]')
        (folder / ".loops" / f"{name}.yaml").write_text(text)
    environment = {**os.environ, "LOOPCAST_EXPERIMENT": "loops", "LOOPCAST_URL": producer.url}
    together = [
        subprocess.Popen(
            [BIN / "ll-loop", "run", name],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("one", "other")
    ]
    for process in together:
        process.wait(60)
    deliver_left_overs(producer)
    batches = [batch for path, _, batch, _ in producer.requests if path.endswith("/events")]
    events = [event for batch in batches for event in batch if event["type"] != "after"]

    own = archived(folder)
    assert {json.dumps(event, sort_keys=True) for event in own} == {
        json.dumps(event["data"], sort_keys=True) for event in events
    }
    assert len(own) == len({event["id"] for event in events})
    assert 2 == len({event["runid"] for event in events})


@pytest.fixture
def fresh(monkeypatch):
    """As if no extension had been loaded in this process."""
    monkeypatch.setattr(extension, "_active", {})


def test_loaded_twice_it_sends_once(producer, fresh, monkeypatch, tmp_path):
    """By its entry point and by the configuration: one is active, and forwards what is in no file, unchanged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPCAST_URL", producer.url)
    bus = EventBus()
    loaded = wire_extensions(bus, ["loopcast.extension:LittleLoopsExtension"])
    ours = [e for e in loaded if isinstance(e, extension.LittleLoopsExtension)]
    event = {"event": "issue.completed", "ts": "2026-11-21T12:00:00+00:00", "issue_id": "FEAT-1", "file_path": "x"}
    bus.emit({"event": "state_enter", "ts": "2026-11-21T12:00:00+00:00"})
    bus.emit(event)
    feed = next(e._feed for e in ours if e._feed is not None)
    feed._end(os.getpid())

    assert 2 == len(ours)
    assert 1 == sum(e._feed is not None for e in ours)
    assert [event] == [e["data"] for e in sent(producer)]


def translated(**events):
    """The translation of an `events` section, which little-loops itself reads too."""
    EventsConfig.from_dict(events)
    return translate({"events": events, "other": 1})


def test_every_transport_has_a_translation():
    """Each name that little-loops knows becomes settings or endpoints, with little-loops' own defaults."""
    found = translated(
        transports=["jsonl", "socket", "otel", "webhook", "sqlite"],
        webhook={"url": "https://ci.example.com/hook", "batch_ms": 250, "headers": {"X-Team": "a"}},
        socket={"path": ".ll/other.sock", "max_clients": 4},
    )

    assert {
        "LOOPCAST_RECORDER_JSONL": ".ll/events",
        "LOOPCAST_RECORDER_SOCKET": ".ll/other.sock",
        "LOOPCAST_RECORDER_SOCKET_CLIENTS": "4",
        "LOOPCAST_OTLP_ENDPOINT": EventsConfig().otel.endpoint,
        "LOOPCAST_OTEL_SERVICE_NAME": EventsConfig().otel.service_name,
        "LOOPCAST_RECORDER_SQLITE": ".ll/loopcast.db",
    } == found.settings
    assert ["recorder", "otel-exporter", "webhook-forwarder"] == found.services
    (endpoint,) = parse_endpoints(json.dumps({"endpoints": found.endpoints}), "webhooks.yaml").endpoints
    assert ("https://ci.example.com/hook", 250, "little-loops") == (
        str(endpoint.url),
        endpoint.batch.max_ms,
        endpoint.format,
    )


def test_what_little_loops_warns_of_is_said(caplog):
    """Unknown names, a webhook without an address and settings without effect: a sentence each, as little-loops has."""
    with caplog.at_level(logging.WARNING):
        wire_transports(EventBus(), EventsConfig.from_dict({"transports": ["kafka", "webhook"]}))
    found = translated(
        transports=["kafka", "webhook"],
        sqlite={"path": "x"},
        bridge={},
        otel={"endpoint": "http://x", "colour": 1},
        mystery={},
    )

    assert 2 == len(caplog.records)
    assert ({}, []) == (found.settings, found.endpoints)
    for words in ("'kafka'", "url is not set", "events.sqlite", "bridge", "events.otel.colour", "events.mystery"):
        assert any(words in note for note in found.notes), words


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ({"transports": "jsonl"}, "list of names"),
        ({"transports": ["webhook"], "webhook": {"url": 5}}, "events.webhook.url"),
        ({"transports": ["webhook"], "webhook": {"url": "x", "headers": []}}, "events.webhook.headers"),
        ({"transports": ["webhook"], "webhook": {"url": "x", "batch_ms": "1"}}, "events.webhook.batch_ms"),
        ({"transports": ["socket"], "socket": []}, "events.socket"),
    ],
)
def test_a_wrong_value_is_named(events, words):
    """What cannot be translated is said, with its name."""
    with pytest.raises(ConfigurationError, match=words):
        translate({"events": events})


def test_the_list_of_transports_is_little_loops():
    """Each transport that this version of little-loops wires is known here."""
    from little_loops.transport import _TRANSPORT_REGISTRY

    assert set(_TRANSPORT_REGISTRY) == set(KNOWN)


def run_cli(*command, cwd):
    return subprocess.run([BIN / "loopcast", *command], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_import_config_prints_or_writes(tmp_path):
    """The command prints what it found, or writes it where it is told, for its owner alone."""
    (tmp_path / ".ll").mkdir()
    config = {"events": {"transports": ["webhook", "jsonl"], "webhook": {"url": "https://x.example"}}}
    (tmp_path / ".ll" / "ll-config.json").write_text(json.dumps(config))
    shown = run_cli("import-config", cwd=tmp_path)
    written = run_cli("import-config", "--write", "made", cwd=tmp_path)
    missing = run_cli("import-config", "no.json", cwd=tmp_path)

    assert (0, 0, 2) == (shown.returncode, written.returncode, missing.returncode)
    assert "LOOPCAST_RECORDER_JSONL=.ll/events" in shown.stdout
    assert "LOOPCAST_WEBHOOKS_FILE=made/webhooks.yaml" in (tmp_path / "made" / "loopcast.env").read_text()
    assert 0o600 == (tmp_path / "made" / "webhooks.yaml").stat().st_mode & 0o777
    assert "no.json cannot be read" in missing.stderr
