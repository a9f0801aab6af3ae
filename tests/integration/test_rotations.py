"""
Secrets are rotated as deploy/README.md says, while a loop runs and somebody watches: nothing is lost, nobody notices.

The services are configured as the manifests have them, by files.
"""

import secrets
import time
from urllib.parse import urlsplit

import pytest
from containers import Viewer, recorded, until
from load import RATE, Load
from processes import Producer

from loopcast.auth.api_keys import entry_of, make_key
from loopcast.auth.tokens import make_token

# Three restarts under load each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXPERIMENT = "exp-42"


class Gateway(Producer):
    """A running gateway."""

    module = "loopcast_gateway"


class Recorder(Producer):
    """A running recorder."""

    module = "loopcast_recorder"


@pytest.fixture
def login(broker, vhost_url):
    """A broker's user, its name and password."""
    user, password = f"service-{secrets.token_hex(4)}", secrets.token_hex(8)
    broker.ctl("add_user", user, password)
    broker.ctl("set_permissions", "-p", urlsplit(vhost_url).path[1:], user, ".*", ".*", ".*")
    yield user, password
    broker.ctl("delete_user", user)


@pytest.fixture
def system(login, vhost_url, tmp_path):
    """Producer, gateway and recorder, whose logins and tokens lie in files, running."""
    user, password = login
    address = urlsplit(vhost_url)
    write(tmp_path, username=user, password=password)
    files = {"LOOPCAST_AMQP_USERNAME_FILE": "username", "LOOPCAST_AMQP_PASSWORD_FILE": "password"}
    environment = {name: str(tmp_path / file) for name, file in files.items()}
    url = f"amqp://{address.hostname}:{address.port}{address.path}"
    made = [kind(url, tmp_path / f"{kind.__name__}.log", **environment) for kind in (Producer, Gateway, Recorder)]
    made[2].set(LOOPCAST_RECORDER_SQLITE=str(tmp_path / "recorder.db"))
    yield made
    for service in made:
        if service.process is not None:
            service.__exit__()


def write(folder, **files):
    """Put secrets where the pods have them mounted."""
    for name, content in files.items():
        (folder / name).write_text(content + "\n")


def restart(service):
    """End it as Kubernetes does, and start it with the files as they are now."""
    assert 0 == service.stop()
    service.start()


def flows(viewer):
    """Wait until events come that were not there before."""
    mark = len(viewer.events)
    until(lambda: len(viewer.events) > mark + RATE)


def assert_complete(load, viewer, recorder):
    """Everything that was emitted is on the screen and in the rows, once and in order."""
    load.end()
    expected = list(range(load.sent))
    until(lambda: len(viewer.events) >= load.sent, why=lambda: f"{len(viewer.events)} of {load.sent}")
    until(lambda: len(recorded(recorder.url, EXPERIMENT)) >= load.sent)
    viewer.close()

    assert expected == [event["data"]["number"] for event in viewer.events]
    assert [] == viewer.faults
    assert expected == [event["data"]["number"] for event in recorded(recorder.url, EXPERIMENT)]


def test_a_services_login(system, broker, login, vhost_url, tmp_path):
    """
    A new password leaves connections alone; who reconnects before its file has it waits, says what for, and goes on.

    Deleting the user, instead, would cut everybody off at once.
    """
    producer, gateway, recorder = system
    for service in system:
        service.start()
    load, viewer = Load(producer.url, EXPERIMENT), Viewer(gateway.url, EXPERIMENT)
    flows(viewer)

    user, renewed = login[0], secrets.token_hex(8)
    broker.ctl("change_password", user, renewed)
    flows(viewer)
    kept = "broker_unavailable" not in producer.log.read_text()
    broker.ctl("close_all_connections", "--vhost", urlsplit(vhost_url).path[1:], "a network that was away")
    waits = producer.wait(status=503)
    write(tmp_path, password=renewed)
    flows(viewer)
    assert_complete(load, viewer, recorder)

    assert kept
    assert "login" in waits
    broker.ctl("delete_user", user)
    producer.wait(status=503)
    broker.ctl("add_user", user, renewed)


def test_what_tokens_are_signed_with(system, tmp_path):
    """With the old secret as the previous one both tokens are good; without it the old one is refused."""
    producer, gateway, recorder = system
    before, after = secrets.token_hex(24), secrets.token_hex(24)
    old, new = (make_token(s, publish=("*",), subscribe=("*",), now=time.time(), ttl=900) for s in (before, after))
    write(tmp_path, secret=before)
    public = (producer, gateway)
    for service in public:
        service.set(LOOPCAST_JWT_SECRET_FILE=str(tmp_path / "secret"), LOOPCAST_HOST="0.0.0.0")
    for service in system:
        service.start()
    load, viewer = Load(producer.url, EXPERIMENT, token=old), Viewer(gateway.url, EXPERIMENT, token=old)
    flows(viewer)

    write(tmp_path, secret=after, previous=before)
    for service in public:
        service.set(LOOPCAST_JWT_PREVIOUS_SECRET_FILE=str(tmp_path / "previous"))
        restart(service)
    flows(viewer)
    both = [status(producer, token) for token in (old, new)]
    assert_complete(load, viewer, recorder)
    for service in public:
        service.set(LOOPCAST_JWT_PREVIOUS_SECRET_FILE=None)
        restart(service)

    assert [202, 202] == both
    assert [401, 202] == [status(producer, token) for token in (old, new)]


def test_api_keys(system, tmp_path):
    """A key is good soon after it is in the file, and no longer soon after it is out of it: nothing is restarted."""
    producer, gateway, recorder = system
    old, new = make_key(), make_key()
    kept = {key: entry_of(key, name, publish=("*",), subscribe=("*",)) for key, name in ((old, "old"), (new, "new"))}
    write(tmp_path, keys=kept[old])
    for service in (producer, gateway):
        service.set(LOOPCAST_API_KEYS_FILE=str(tmp_path / "keys"), LOOPCAST_HOST="0.0.0.0")
    for service in system:
        service.start()
    started = [service.process.pid for service in system]
    load, viewer = Load(producer.url, EXPERIMENT, token=old), Viewer(gateway.url, EXPERIMENT, token=old)
    flows(viewer)

    write(tmp_path, keys=kept[old] + "\n" + kept[new])
    until(lambda: 202 == status(producer, new))
    flows(viewer)
    assert_complete(load, viewer, recorder)
    write(tmp_path, keys=kept[new])
    until(lambda: 401 == status(producer, old))

    assert 202 == status(producer, new)
    assert started == [service.process.pid for service in system]


def status(producer, token):
    """What a producer answers to who has this token."""
    return producer.post(b'{"event":"note"}', "other", authorization=f"Bearer {token}").status_code
