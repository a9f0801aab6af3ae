"""
One RabbitMQ for all tests, and a virtual host of its own for each that asks.

`LOOPCAST_TEST_AMQP_URL` names a running one (and `LOOPCAST_TEST_CTL` the command that reaches its rabbitmqctl, for
the tests that need it); `LOOPCAST_TEST_CONTAINERS=1` asks for a container; else it is a private node.
"""

import contextlib
import functools
import json
import os
import re
import shlex
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import hypothesis
import pytest
from quick_node import QuickNode

from loopcast.node import NodeError
from loopcast.node.handshake import greeting
from loopcast.node.sources import find

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".loopcast" / "rabbitmq"

# How long an example takes is the machine's business, and whose else runs on it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


class Named:
    """A broker that somebody runs: it can be used and asked, not started or killed."""

    def __init__(self, url, command=""):
        parts = urlsplit(url)
        self.amqp_url = url
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or 5672
        self.user = parts.username or "guest"
        self.password = parts.password or "guest"
        self.command = shlex.split(command)

    def ctl(self, *args):
        if not self.command:
            pytest.skip("needs rabbitmqctl: set LOOPCAST_TEST_CTL to the command that reaches it")
        return subprocess.run([*self.command, *args], check=True, capture_output=True, text=True).stdout

    def add_vhost(self, name):
        if self.command:
            self.ctl("add_vhost", name)
            self.ctl("set_permissions", "-p", name, self.user, ".*", ".*", ".*")
        else:
            self._manage("PUT", f"vhosts/{quote(name)}")
        return f"{self.amqp_url.rstrip('/')}/{quote(name)}"

    def delete_vhost(self, name):
        if self.command:
            self.ctl("delete_vhost", name)
        else:
            self._manage("DELETE", f"vhosts/{quote(name)}")

    def start(self):
        pytest.skip("needs a broker of the tests' own: unset LOOPCAST_TEST_AMQP_URL")

    kill = stop = restart = stopped = start

    def _manage(self, method, path):
        """Through the management plugin, which lets the one who makes a virtual host use it."""
        request = urllib.request.Request(f"http://{self.host}:15672/api/{path}", method=method)
        request.add_header("Authorization", f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}")
        request.add_header("Content-Type", "application/json")
        try:
            urllib.request.urlopen(request, data=json.dumps({}).encode(), timeout=10).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise
        except OSError as error:
            pytest.skip(f"needs rabbitmqctl (LOOPCAST_TEST_CTL) or the management plugin on port 15672: {error}")


class Contained(Named):
    """A broker in a container that testcontainers runs."""

    def __init__(self, container):
        host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
        super().__init__(f"amqp://guest:guest@{host}:{port}/")
        self._container = container.get_wrapped_container()

    def ctl(self, *args):
        # Debian's image has the server's own scripts off the PATH, the official one has them on it.
        script = 'PATH="/opt/rabbitmq/sbin:/usr/lib/rabbitmq/bin:$PATH" exec rabbitmqctl --quiet "$@"'
        done = self._container.exec_run(["sh", "-c", script, "ctl", *args], demux=True)
        assert 0 == done.exit_code, done.output
        return (done.output[0] or b"").decode()

    def eval(self, expression):
        return self.ctl("eval", f"{expression.rstrip('. ')}.").strip()

    def add_vhost(self, name):
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, self.user, ".*", ".*", ".*")
        return self.amqp_url + name

    def delete_vhost(self, name):
        self.ctl("delete_vhost", name)

    def kill(self):
        self._container.kill()

    def stop(self):
        self._container.stop()

    def start(self):
        self._container.start()
        _await_greeting(self.port)

    def restart(self):
        self.stop()
        self.start()

    @contextlib.contextmanager
    def stopped(self):
        """It stands still, as a machine does whose disk hangs: connected, and silent."""
        self._container.pause()
        try:
            yield
        finally:
            self._container.unpause()


def pytest_sessionstart(session):
    """Have RabbitMQ at hand before the processes that share the tests begin: nobody sees what those say."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        _have_rabbitmq(session.config)


def pytest_collection_finish(session):
    """Have RabbitMQ at hand before the first test: fetching it must not count against a test's time limit."""
    if any({"integration", "e2e"} & set(item.path.parts) for item in session.items):
        _have_rabbitmq(session.config)


def _have_rabbitmq(config):
    if not config.option.collectonly and not os.environ.get("LOOPCAST_TEST_AMQP_URL"):
        # Whoever needs it and cannot have it says so itself.
        with contextlib.suppress(NodeError):
            find(CACHE, _teller(config))


@pytest.fixture(scope="session", autouse=True)
def _certificates_once():
    """
    Read the certificates of the public authorities once, not for each request: `httpx.get` does, which is 30 ms.

    With services that are asked twenty times a second whether they are ready, that was half of what the tests computed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(autouse=True)
def _own_spool(tmp_path, monkeypatch):
    """Each test, and what it starts, spools into a folder of its own, never into the user's."""
    monkeypatch.setenv("LOOPCAST_SPOOL_DIR", str(tmp_path / "spool"))


@pytest.fixture(scope="session")
def node_cache():
    """Where a fetched RabbitMQ is kept, shared with `loopcast up`."""
    return CACHE


@pytest.fixture(scope="session")
def broker(request, tmp_path_factory):
    """The session's RabbitMQ: `amqp_url`, `ctl(...)`, `add_vhost(name)`, `kill()`, `start()`, `stop()`, `restart()`."""
    if url := os.environ.get("LOOPCAST_TEST_AMQP_URL"):
        yield Named(url, os.environ.get("LOOPCAST_TEST_CTL", ""))
    elif os.environ.get("LOOPCAST_TEST_CONTAINERS") == "1":
        with _container() as contained:
            yield contained
    else:
        with QuickNode(tmp_path_factory.mktemp("broker"), cache=CACHE, log=_teller(request.config)) as node:
            yield node


@pytest.fixture(scope="session")
def amqp_url(broker):
    """The URL of the session's RabbitMQ, default virtual host."""
    return broker.amqp_url


@pytest.fixture
def vhost_url(broker):
    """The URL of a virtual host that only this test uses."""
    with _vhost(broker) as url:
        yield url


@pytest.fixture(scope="module")
def module_vhost_url(broker):
    """The URL of a virtual host that only this module uses."""
    with _vhost(broker) as url:
        yield url


@pytest.fixture
def broker_patience(broker):
    """What makes the broker close channels whose deliveries are unacknowledged for so many seconds, until the end."""
    if not hasattr(broker, "eval"):
        pytest.skip("needs a broker of the tests' own: unset LOOPCAST_TEST_AMQP_URL")
    names = ("consumer_timeout", "channel_tick_interval")
    before = {name: broker.eval(f"application:get_env(rabbit, {name}).") for name in names}

    def lower(seconds):
        for name, value in zip(names, (round(seconds * 1000), round(seconds * 1000 / 3)), strict=True):
            broker.eval(f"application:set_env(rabbit, {name}, {value}).")

    yield lower
    for name, value in before.items():
        found = re.search(r"\{ok,\s*(\d+)\}", value)
        broker.eval(
            f"application:set_env(rabbit, {name}, {found[1]})." if found else f"application:unset_env(rabbit, {name})."
        )


@pytest.fixture
def short_consumer_timeout(broker_patience):
    """The broker closes channels whose deliveries are unacknowledged for 3 s, and looks every second."""
    broker_patience(3)


@contextlib.contextmanager
def _vhost(broker):
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield broker.add_vhost(name)
    # A test that killed the broker and failed before it came back has nothing to delete.
    if getattr(broker, "running", True):
        broker.delete_vhost(name)


@contextlib.contextmanager
def _container():
    core = pytest.importorskip("testcontainers.core.container")
    image = os.environ.get("LOOPCAST_TEST_IMAGE", "rabbitmq:4-management")
    container = core.DockerContainer(image).with_exposed_ports(5672)
    # A port of its own that stays over a restart; the engine would choose another.
    container.with_bind_ports(5672, 25672 + os.getpid() % 5000)
    with container:
        contained = Contained(container)
        _await_greeting(contained.port)
        yield contained


def _await_greeting(port):
    deadline = time.monotonic() + 60
    while greeting(int(port)) is None:
        assert time.monotonic() < deadline, "the container's RabbitMQ does not answer"
        time.sleep(0.1)


def _teller(config):
    """What takes long at the first run is said at once, not kept with the captured output."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def tell(sentence):
        with capture.global_and_fixture_disabled():
            print(f"\n{sentence}", flush=True)

    return tell
