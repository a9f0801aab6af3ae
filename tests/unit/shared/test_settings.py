"""Settings: read once, refused in words, and never mixed up with what Kubernetes injects."""

import pytest

from loopcast.errors import ConfigurationError
from loopcast.settings import (
    SERVICES,
    GatewaySettings,
    ProducerSettings,
    ServiceSettings,
    is_injected,
    load,
    unknown_names,
)
from loopcast.topology import Topology


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """No `LOOPCAST_*` variable of the shell's reaches a test."""
    import os

    for name in list(os.environ):
        if name.startswith("LOOPCAST_"):
            monkeypatch.delenv(name)


def test_defaults_make_the_default_topology():
    """Without any variable, the settings describe the topology that the topology module has by default."""
    assert Topology() == load(ServiceSettings).broker_topology


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_the_documented_ones(name):
    """Each service has an ops port of its own, 1000 above its public one where it has one."""
    fields = SERVICES[name].model_fields
    number = list(SERVICES).index(name)

    assert 9700 + number == fields["ops_port"].default
    assert "port" not in fields or fields["port"].default == 8700 + number


def test_lists_are_comma_separated(monkeypatch):
    """A variable that holds several values has them with commas, white space ignored."""
    monkeypatch.setenv("LOOPCAST_LOG_BINDINGS", "exp-42.#, *.loop_complete")

    assert ("exp-42.#", "*.loop_complete") == load(ServiceSettings).log_bindings


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("LOOPCAST_PARTITIONS", "many", "valid integer"),
        ("LOOPCAST_PARTITIONS", "0", "greater than or equal to 1"),
        ("LOOPCAST_LOG_MAX_AGE", "7 days", "such as 7D"),
        ("LOOPCAST_AMQP_URL", "localhost:5672", "amqp://user:password@host:5672/vhost"),
        ("LOOPCAST_PORT", "87000", "less than or equal to 65535"),
    ],
)
def test_a_bad_value_is_named_with_what_to_do(monkeypatch, name, value, hint):
    """The sentence names the variable, its value, and what is right."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        load(GatewaySettings)

    assert name in str(caught.value)
    assert value in str(caught.value)
    assert hint in str(caught.value)


def test_every_bad_value_is_named_at_once(monkeypatch):
    """Two wrong variables are two clauses of one sentence, so that nobody mends them one start at a time."""
    monkeypatch.setenv("LOOPCAST_PARTITIONS", "x")
    monkeypatch.setenv("LOOPCAST_LOG_LEVEL", "loud")

    with pytest.raises(ConfigurationError, match=r"LOOPCAST_PARTITIONS.*LOOPCAST_LOG_LEVEL"):
        load(GatewaySettings)


def test_what_kubernetes_injects_is_ignored(monkeypatch):
    """A Service called loopcast puts LOOPCAST_PORT=tcp://… into every pod; the gateway keeps its own port."""
    monkeypatch.setenv("LOOPCAST_PORT", "tcp://10.0.0.7:8701")
    monkeypatch.setenv("LOOPCAST_SERVICE_HOST", "10.0.0.7")

    assert 8701 == load(GatewaySettings).port
    assert {} == unknown_names()


@pytest.mark.parametrize(
    ("name", "value", "injected"),
    [
        ("LOOPCAST_PORT", "tcp://10.0.0.7:8701", True),
        ("LOOPCAST_PORT", "8701", False),
        ("LOOPCAST_PORT_8701_TCP_ADDR", "10.0.0.7", True),
        ("LOOPCAST_GATEWAY_SERVICE_PORT_HTTP", "8701", True),
        ("LOOPCAST_SERVICE_HOST", "10.0.0.7", True),
        ("LOOPCAST_LOG_LEVEL", "debug", False),
    ],
)
def test_injected_names_are_told_from_ours(name, value, injected):
    """Only names and values that Kubernetes makes for a Service count as injected."""
    assert injected == is_injected(name, value)


def test_an_unknown_name_gets_the_nearest_known_one():
    """A misspelt variable is not ignored in silence."""
    environ = {"LOOPCAST_PARTITONS": "3", "LOOPCAST_QWERTYUIOP": "1", "LOOPCAST_URL": "http://x", "OTHER": "1"}

    found = unknown_names(environ)

    assert {"LOOPCAST_PARTITONS", "LOOPCAST_QWERTYUIOP"} == set(found)
    assert "LOOPCAST_PARTITIONS" == found["LOOPCAST_PARTITONS"]


def test_settings_do_not_change():
    """Settings are frozen: what the start read is what holds."""
    settings = load(ServiceSettings)

    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 2


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "example.com"])
def test_strangers_are_not_served_unasked(monkeypatch, host):
    """An address that others reach is refused unless somebody said that anybody may use it."""
    monkeypatch.setenv("LOOPCAST_HOST", host)

    with pytest.raises(ConfigurationError, match="LOOPCAST_ALLOW_ANONYMOUS=true"):
        load(ProducerSettings).check_exposure()

    monkeypatch.setenv("LOOPCAST_ALLOW_ANONYMOUS", "true")
    load(ProducerSettings).check_exposure()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_permission(monkeypatch, host):
    """On loopback nothing is asked for."""
    monkeypatch.setenv("LOOPCAST_HOST", host)

    load(ProducerSettings).check_exposure()
