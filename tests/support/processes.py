"""A service of ours as a process of its own, and the log as an independent client reads it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aio_pika
import httpx
from environments import of_a_service


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(log: Path, begins=0):
    """Where a service listens, by the name of the port, from what it logged after byte `begins`."""
    lines = [line for line in log.read_bytes()[begins:].splitlines(keepends=True) if line.startswith(b"{")]
    entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return {entry["port"]: entry["address"] for entry in entries if entry["event"] == "listening"}


@contextlib.contextmanager
def stopped(broker):
    """The broker stands still, as a machine does whose disk hangs: connected, and silent."""
    if hasattr(broker, "stopped"):
        with broker.stopped():
            yield
        return
    # A node of the tests' own is a process of this machine; what another one calls itself is none here.
    server = int(broker.ctl("eval", "os:getpid().").strip().strip('"'))
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


class Producer:
    """A running producer; `environment` are more variables."""

    module = "loopcast_producer"

    def __init__(self, amqp_url, log: Path, **environment):
        self.port, self.ops_port = free_port(), free_port()
        self.url, self.ops_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.ops_port}"
        self.log = log
        ports = {"LOOPCAST_PORT": self.port, "LOOPCAST_OPS_PORT": self.ops_port}
        self._environment = of_a_service(**{"LOOPCAST_AMQP_URL": amqp_url, **ports, **environment})
        self.process: subprocess.Popen[bytes] | None = None

    def set(self, **environment):
        """Change variables, from its next start on; None takes one away."""
        self._environment |= environment
        self._environment = {name: value for name, value in self._environment.items() if value is not None}

    def start(self, *, ready=True):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], env=self._environment, stderr=log, stdout=log
            )
        self.wait("readyz" if ready else "livez")
        return self

    def wait(self, probe="readyz", status=200, seconds=60):
        """Wait until a probe answers with `status`, and return its sentence."""
        deadline = time.monotonic() + seconds
        answer = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"{self.ops_url}/{probe}", timeout=5)
                if status == answer.status_code:
                    return answer.text
            time.sleep(0.05)
        raise AssertionError(f"{probe} did not become {status}: {answer and answer.text}")

    def stop(self):
        """End it as Kubernetes does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()

    def post(self, body, experiment="exp-42", content_type="application/json", **headers):
        """POST to an experiment, or with `experiment=None` to /v1/events."""
        path = "/v1/events" if experiment is None else f"/v1/experiments/{experiment}/events"
        fields = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return httpx.post(f"{self.url}{path}", content=body, headers=fields, timeout=60)

    def metric(self, name):
        """The value of a metric, its labels written as Prometheus writes them."""
        text = httpx.get(f"{self.ops_url}/metrics", timeout=5).text
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " ")), 0.0)


async def read_log(url, stream="loopcast.log.0", *, count=None, quiet=1.0, seconds=30):
    """The messages of a stream from its beginning: `count` of them at least, or until nothing more comes."""
    connection = await aio_pika.connect(url)
    messages: list[aio_pika.abc.AbstractIncomingMessage] = []
    came = asyncio.Event()

    async def take(message):
        messages.append(message)
        came.set()
        await message.ack()

    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1000)
        queue = await channel.get_queue(stream)
        await queue.consume(take, arguments={"x-stream-offset": "first"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while count is None or len(messages) < count:
                    came.clear()
                    await asyncio.wait_for(came.wait(), quiet if count is None else seconds)
        await asyncio.sleep(0.1)
    return messages
