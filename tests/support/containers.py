"""Containers of a test: the compose stack, single ones, and receivers on this machine that containers reach."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"
STOP_SECONDS = 60


def docker(*arguments, check=True):
    """What the engine prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).strip()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bridge_address():
    """The address of this machine that containers reach, and nobody else."""
    found = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    return found or "172.17.0.1"


class Stack:
    """The compose files as a user starts them, on ports that are free."""

    def __init__(self, project, tag, webhooks, otlp_endpoint, *, files=("compose.yaml",), **variables):
        self.ports = {name: free_port() for name in ("PRODUCER", "GATEWAY", "RECORDER", "AMQP", "MANAGEMENT")}
        self.project, self.files = project, files
        self.environment = {
            **os.environ,
            **{f"{name}_PORT": str(port) for name, port in self.ports.items()},
            "IMAGE_TAG": tag,
            "WEBHOOKS_DIR": str(webhooks),
            "LOOPCAST_OTLP_ENDPOINT": otlp_endpoint,
            **variables,
        }

    def url(self, service):
        return f"http://127.0.0.1:{self.ports[service.upper()]}"

    @property
    def amqp_url(self):
        return f"amqp://loopcast:loopcast@127.0.0.1:{self.ports['AMQP']}/"

    def run(self, *arguments):
        """The command behind `make compose-up` and `make compose-down`."""
        command = [sys.executable, str(COMPOSE / "run.py"), *arguments, "--project", self.project]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + self.logs()
        return done.stdout

    def compose(self, *arguments):
        sys.path.insert(0, str(COMPOSE))
        try:
            from run import program
        finally:
            sys.path.remove(str(COMPOSE))
        files = [part for file in self.files for part in ("--file", file)]
        command = [*program(), "--project-name", self.project, *files, *arguments]
        done = subprocess.run(command, cwd=COMPOSE, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def container(self, service):
        return self.compose("ps", "-q", service).strip()

    def logs(self, *services):
        with contextlib.suppress(AssertionError):
            return self.compose("logs", "--no-color", "--tail", "60", *services)
        return ""

    def roll(self, service):
        """Put a new container in the place of a service's, and say how the old one ended."""
        old = self.container(service)
        docker("stop", "--time", str(STOP_SECONDS), old)
        code = int(docker("inspect", "--format", "{{.State.ExitCode}}", old))
        self.compose("up", "--detach", "--no-deps", "--force-recreate", service)
        assert self.container(service) != old
        self.await_healthy(service)
        return code

    def await_healthy(self, service, seconds=90):
        deadline = time.monotonic() + seconds
        box = self.container(service)
        while docker("inspect", "--format", "{{.State.Health.Status}}", box) != "healthy":
            assert time.monotonic() < deadline, self.logs(service)
            time.sleep(0.5)


class Hook:
    """A webhook's receiver that answers 200 and keeps every event."""

    def __init__(self, host):
        self.events = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.events.extend(events if isinstance(events, list) else [events])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def ids(self):
        return [event["id"] for event in self.events]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Viewer:
    """A WebSocket client that comes back with its last position whenever it is cut off, as the protocol says."""

    def __init__(self, url, experiment, token=None):
        self.events, self.pos, self.resumes, self.faults = [], None, 0, []
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url, self._experiment = url.replace("http://", "ws://") + "/ws", experiment
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def ids(self):
        return [event["id"] for event in self.events]

    def close(self):
        self._leave.set()
        self._thread.join(20)

    def _follow(self):
        while not self._leave.is_set():
            with contextlib.suppress(OSError, WebSocketException):
                self._once()
            time.sleep(0.2)

    def _once(self):
        given = {"subprotocols": ["loopcast.v1.json"], "additional_headers": self._headers, "open_timeout": 5}
        with connect(self._url, **given) as ws:
            command = {"id": 1, "action": "subscribe", "experiment_id": self._experiment}
            ws.send(json.dumps({**command, **({"resume": self.pos} if self.pos else {"from": "earliest"})}))
            while not self._leave.is_set():
                try:
                    frame = json.loads(ws.recv(timeout=0.5))
                except TimeoutError:
                    continue
                self._take(frame)

    def _take(self, frame):
        match frame["type"]:
            case "event":
                self.events.append(frame["event"])
                self.pos = frame["pos"]
            case "subscribed" if self.pos:
                self.resumes += 1
                if frame.get("recovered") is not True:
                    self.faults.append(frame)
            case "gap" | "error":
                self.faults.append(frame)


def until(what, seconds=60, why=lambda: ""):
    """Wait until `what()` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)


def recorded(url, experiment):
    """Every event of an experiment, oldest first, as the recorder's history has it."""
    events, after = [], ""
    while True:
        query = {"limit": 1000, "order": "oldest", **({"after": after} if after else {})}
        answer = httpx.get(f"{url}/v1/experiments/{experiment}/events", params=query, timeout=10)
        if answer.status_code == 404:
            return events
        page = answer.raise_for_status().json()
        events += [entry["event"] for entry in page["events"]]
        if page["complete"] or not page["events"]:
            return events
        after = page["next"]
