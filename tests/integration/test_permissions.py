"""
The users of the Kubernetes manifests: each service works with its own, and may do nothing else.

Each runs with `LOOPCAST_TOPOLOGY=verify` and the permissions that `deploy/kubernetes/base/broker/users.yaml` gives it.
"""

import asyncio
import contextlib
import secrets
import subprocess
import sys
import time
from urllib.parse import urlsplit

import aio_pika
import httpx
import pytest
import yaml
from containers import Hook, Viewer, free_port, recorded, until
from environments import of_a_service
from manifests import FOLDER
from otel_receiver import Receiver

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.settings import SERVICES
from loopcast.settings.base import with_login
from loopcast.topology import APP_ID, EVENTS, Topology, log_stream

# Users are made by a command line that takes seconds for each, and nothing that changes in the code breaks one alone.
pytestmark = pytest.mark.slow

USERS = "base/broker/users.yaml"
PARTITIONS = 2


def permissions():
    """The permissions of each service, as the manifests have them: they are read as they are, nothing renders them."""
    resources = yaml.safe_load_all((FOLDER / USERS).read_text())
    found = [resource["spec"] for resource in resources if resource["kind"] == "Permission"]
    return {spec["userReference"]["name"].removeprefix("loopcast-"): spec["permissions"] for spec in found}


@pytest.fixture(scope="module")
def logins(broker, module_vhost_url):
    """The AMQP URL of each service's user, on a virtual host with a log that somebody made who may."""
    topology = Topology(partitions=PARTITIONS)
    asyncio.run(ensure(client_of("loopcast"), module_vhost_url, topology, mode="declare", name="test"))
    made, vhost = {}, urlsplit(module_vhost_url).path[1:]
    for service, allowed in permissions().items():
        user, password = f"{service}-{vhost}", secrets.token_hex(8)
        broker.ctl("add_user", user, password)
        broker.ctl("set_permissions", "-p", vhost, user, *(allowed[what] for what in ("configure", "write", "read")))
        made[service] = with_login(module_vhost_url, user, password)
    yield made
    for service in made:
        broker.ctl("delete_user", f"{service}-{vhost}")


class Services:
    """Every service as a process of its own."""

    def __init__(self, logins, folder, **settings):
        self.folder = folder
        self.ports = {service: (free_port(), free_port()) for service in SERVICES}
        self._processes = {}
        for service, (port, ops) in self.ports.items():
            given = {"amqp_url": logins[service], "topology": "verify", "partitions": PARTITIONS, "ops_port": ops}
            fields = SERVICES[service].model_fields
            own = {name: value for name, value in {**given, **settings, "port": port}.items() if name in fields}
            environment = of_a_service(**{f"LOOPCAST_{name.upper()}": value for name, value in own.items()})
            with self.log_of(service).open("wb") as log:
                self._processes[service] = subprocess.Popen(
                    [sys.executable, "-m", f"loopcast_{service.replace('-', '_')}"], env=environment, stderr=log
                )

    def log_of(self, service):
        return self.folder / f"{service}.log"

    def url(self, service):
        return f"http://127.0.0.1:{self.ports[service][0]}"

    def await_ready(self):
        deadline = time.monotonic() + 60
        for service, (_, ops) in self.ports.items():
            answer = None
            while answer is None or answer.status_code != 200:
                with contextlib.suppress(httpx.HTTPError):
                    answer = httpx.get(f"http://127.0.0.1:{ops}/readyz", timeout=5)
                assert time.monotonic() < deadline, (service, answer and answer.text, self.log_of(service).read_text())
                time.sleep(0.1)

    def close(self):
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(40)


def test_every_service_works_with_its_own_user(logins, tmp_path):
    """An event goes to a viewer, the database, a webhook and a trace, and no service asks for more than it may."""
    hook = Hook("127.0.0.1")
    (tmp_path / "endpoints.yaml").write_text(
        f"endpoints: [{{name: ci, url: '{hook.url}', bindings: ['#'], allow_private: true}}]\n"
    )
    with Receiver() as backend:
        services = Services(
            logins,
            tmp_path,
            otlp_endpoint=backend.grpc_endpoint,
            webhooks_file=tmp_path / "endpoints.yaml",
            recorder_sqlite=tmp_path / "recorder.db",
        )
        try:
            services.await_ready()
            viewer = Viewer(services.url("gateway"), "exp-42")
            events = [{"event": kind, "loop": "tune"} for kind in ("loop_start", "state_enter", "loop_complete")]
            address = f"{services.url('producer')}/v1/experiments/exp-42/events"
            answer = httpx.post(address, json=events, headers={"loopcast-run": "run-1"}, timeout=30)
            until(lambda: len(viewer.events) == len(events), why=services.log_of("gateway").read_text)
            until(lambda: len(hook.events) >= len(events), why=services.log_of("webhook-forwarder").read_text)
            until(lambda: backend.spans, why=services.log_of("otel-exporter").read_text)
            until(lambda: len(recorded(services.url("recorder"), "exp-42")) == len(events))
            viewer.close()
        finally:
            services.close()
            hook.close()
    said = [line for service in SERVICES for line in services.log_of(service).read_text().splitlines()]
    refused = [line for line in said if "ACCESS_REFUSED" in line or "access to" in line]

    assert 202 == answer.status_code
    assert [] == refused


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "producer"])
async def test_nobody_but_the_producer_may_publish_events(logins, service):
    """What has our `app_id` is trusted as it is, so only the producer's user may write to the exchange."""
    async with await aio_pika.connect(logins[service]) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(EVENTS, ensure=False)
        with pytest.raises(aio_pika.exceptions.AMQPError, match=r"ACCESS_REFUSED|refused"):
            await exchange.publish(aio_pika.Message(b"{}", app_id=APP_ID), routing_key="exp-42.note", mandatory=False)


@pytest.mark.parametrize("service", list(SERVICES))
async def test_nobody_may_change_the_log(logins, service):
    """No service's user can delete the log, the exchange, or bind something else to the log."""
    for wrong in (
        lambda channel: channel.queue_delete(log_stream("loopcast.log", 0)),
        lambda channel: channel.exchange_delete(EVENTS),
        lambda channel: channel.declare_queue("somebody.elses", durable=True),
    ):
        async with await aio_pika.connect(logins[service]) as connection:
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.AMQPError, match=r"ACCESS_REFUSED|refused"):
                await wrong(channel)


@pytest.mark.parametrize("service", ["producer", "webhook-forwarder"])
async def test_a_checkpoint_is_its_readers_own(logins, service):
    """Only the reader whose it is reads its checkpoint."""
    async with await aio_pika.connect(logins["otel-exporter"]) as connection:
        channel = await connection.channel()
        stream = await channel.declare_queue(
            "loopcast.checkpoint.otel.9", durable=True, arguments={"x-queue-type": "stream"}
        )
    async with await aio_pika.connect(logins[service]) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        with pytest.raises(aio_pika.exceptions.AMQPError, match=r"ACCESS_REFUSED|refused"):
            await (await channel.get_queue(stream.name, ensure=False)).consume(print)
