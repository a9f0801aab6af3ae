"""What every service logs: JSON lines on stderr, whatever made the logger and whenever, and nothing on stdout."""

import contextlib
import json
import socket
import subprocess
import sys
import time

import pytest
from environments import of_a_service

from loopcast.node.ports import free_ports

SERVICES = ("producer", "gateway", "otel_exporter", "webhook_forwarder", "recorder")
WAITING = "amqp://guest:guest@127.0.0.1:1/"
ENDPOINTS = "endpoints: [{name: ci, url: 'http://127.0.0.1:1/', bindings: ['#'], allow_private: true}]"


def run(service, folder, url, **more):
    """Standard output and error of a service that is ended once it serves."""
    (folder / "endpoints.yaml").write_text(ENDPOINTS)
    settings = {
        "AMQP_URL": url,
        "OPS_PORT": str(free_ports(1)[0]),
        "PORT": "0",
        "LOG_LEVEL": "debug",
        "RECORDER_SQLITE": str(folder / "r.db"),
        "RECORDER_JSONL": str(folder / "lines"),
        "RECORDER_SOCKET": str(folder / "socket"),
        "WEBHOOKS_FILE": str(folder / "endpoints.yaml"),
        **more,
    }
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"loopcast_{service}"],
            env=of_a_service(**{f"LOOPCAST_{name}": value for name, value in settings.items()}),
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    await_port(process, int(settings["OPS_PORT"]), log)
    time.sleep(1)
    process.terminate()
    out, _ = process.communicate(timeout=30)
    return out, log.read_text()


def await_port(process, port, log):
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("broker_there", [False, True], ids=["without a broker", "with one"])
@pytest.mark.parametrize("service", SERVICES)
def test_each_line_is_json_on_stderr(request, tmp_path, service, broker_there):
    """Loggers that were made before logging was set up write as the others do: with a time, a level and the service."""
    url = request.getfixturevalue("vhost_url") if broker_there else WAITING
    out, lines = run(service, tmp_path, url)

    assert b"" == out
    read = [json.loads(line) for line in lines.splitlines()]
    assert len(read) > 3
    for line in read:
        assert {"event", "level", "timestamp"} <= line.keys(), line
    # Lines from worker threads too.
    assert {service.replace("_", "-")} == {line.get("service") for line in read}


@pytest.mark.parametrize("service", SERVICES)
def test_a_level_holds_for_every_logger(tmp_path, service):
    """With `warning`, a line from `debug` or `info` is not told, and that the broker is away is."""
    (tmp_path / "probe").mkdir()
    _, all_of_them = run(service, tmp_path / "probe", WAITING)
    assert {"debug", "info"} & levels(all_of_them)
    _, told = run(service, tmp_path, WAITING, LOG_LEVEL="warning")

    assert levels(told) <= {"warning", "error"}


def levels(lines):
    return {json.loads(line)["level"] for line in lines.splitlines()}
