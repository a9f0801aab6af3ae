"""Settings: read once, refused in words, and never mixed up with what Kubernetes injects."""

import pytest

from loopcast.errors import ConfigurationError
from loopcast.settings import (
    SERVICES,
    GatewaySettings,
    OtelExporterSettings,
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


def test_an_event_that_brokers_refuse_cannot_be_allowed(monkeypatch):
    """RabbitMQ 4 takes 16 MiB a message; one over it would end its channel, come first on the next, and hold up all."""
    monkeypatch.setenv("LOOPCAST_MAX_EVENT_BYTES", str(16 * 1024 * 1024))

    with pytest.raises(ConfigurationError, match=r"LOOPCAST_MAX_EVENT_BYTES.*less than or equal to 15728640"):
        load(ProducerSettings)


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
    environ = {"LOOPCAST_PARTITONS": "3", "LOOPCAST_FOO": "1", "LOOPCAST_URL": "http://x", "OTHER": "1"}

    found = unknown_names(environ)

    # What all names begin with makes no two of them alike.
    assert {"LOOPCAST_PARTITONS": "LOOPCAST_PARTITIONS", "LOOPCAST_FOO": None} == found


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


def test_a_file_may_hold_a_value(monkeypatch, tmp_path):
    """`LOOPCAST_X_FILE` is read as the value of `LOOPCAST_X`, without the newline that an editor leaves."""
    file = tmp_path / "url"
    file.write_text("amqp://a:b@broker/\n")
    monkeypatch.setenv("LOOPCAST_AMQP_URL_FILE", str(file))

    assert "amqp://a:b@broker/" == load(ServiceSettings).amqp_url
    assert {} == unknown_names()


def test_a_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    """The sentence names the variable and the file."""
    monkeypatch.setenv("LOOPCAST_AMQP_PASSWORD_FILE", str(tmp_path / "none"))

    with pytest.raises(ConfigurationError, match=r"LOOPCAST_AMQP_PASSWORD_FILE=.*none.*cannot be read"):
        load(ServiceSettings)


def test_a_value_and_a_file_at_once_are_refused(monkeypatch, tmp_path):
    """Nobody has to guess which of the two holds."""
    monkeypatch.setenv("LOOPCAST_PARTITIONS", "2")
    monkeypatch.setenv("LOOPCAST_PARTITIONS_FILE", str(tmp_path / "partitions"))

    with pytest.raises(ConfigurationError, match="both set"):
        load(ServiceSettings)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://rabbit:5672/team", "amqp://gate%2Fway:p%40ss%3A1@rabbit:5672/team"),
        ("amqps://guest:guest@rabbit/?verify=verify_none", "amqps://gate%2Fway:p%40ss%3A1@rabbit/?verify=verify_none"),
        ("amqp://[::1]:5672/", "amqp://gate%2Fway:p%40ss%3A1@[::1]:5672/"),
    ],
)
def test_the_login_goes_into_the_url(monkeypatch, tmp_path, url, expected):
    """User and password from files replace those of the URL, whatever characters they have."""
    for name, value in {"username": "gate/way", "password": "p@ss:1"}.items():
        (tmp_path / name).write_text(value)
        monkeypatch.setenv(f"LOOPCAST_AMQP_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("LOOPCAST_AMQP_URL", url)

    assert expected == load(ServiceSettings).amqp_url


def test_a_password_alone_keeps_the_urls_user(monkeypatch):
    """Only what is given is replaced."""
    monkeypatch.setenv("LOOPCAST_AMQP_URL", "amqp://me@rabbit/")
    monkeypatch.setenv("LOOPCAST_AMQP_PASSWORD", "secret")

    assert "amqp://me:secret@rabbit/" == load(ServiceSettings).amqp_url


SECRET = "s" * 40


@pytest.mark.parametrize("name", [name for name, s in SERVICES.items() if getattr(s, "asks", False)])
def test_strangers_are_served_by_decision_only(monkeypatch, name):
    """Beyond loopback, a service starts only where something says who may do what, or that anybody may."""
    monkeypatch.setenv("LOOPCAST_HOST", "0.0.0.0")
    with pytest.raises(ConfigurationError, match=r"LOOPCAST_JWT_SECRET.*LOOPCAST_ALLOW_ANONYMOUS=true"):
        load(SERVICES[name]).check_exposure()

    for variable, value in (
        ("LOOPCAST_JWT_SECRET", SECRET),
        ("LOOPCAST_JWKS_URL", "https://id/jwks"),
        ("LOOPCAST_API_KEYS_FILE", "keys.toml"),
        ("LOOPCAST_ALLOW_ANONYMOUS", "true"),
    ):
        with monkeypatch.context() as context:
            context.setenv(variable, value)
            load(SERVICES[name]).check_exposure()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOOPCAST_JWT_SECRET", "hunter2"),
        ("LOOPCAST_JWT_PREVIOUS_SECRET", "hunter2"),
        ("LOOPCAST_JWT_PREVIOUS_SECRET", "hunter2" * 9),
        ("LOOPCAST_AMQP_URL", "http://guest:hunter2@host"),
        ("LOOPCAST_AMQP_URL", "guest:hunter2@host"),
        ("LOOPCAST_PRODUCER_REDIS_URL", "http://user:hunter2@host"),
    ],
)
def test_a_secret_is_not_shown(monkeypatch, name, value):
    """The sentence about a wrong value has no secret in it."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=name) as caught:
        load(ProducerSettings if "PRODUCER" in name else GatewaySettings)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("LOOPCAST_JWKS_URL", "id/jwks", "https://host/path"),
        ("LOOPCAST_JWKS_URL", "file:///etc/passwd", "https://host/path"),
        ("LOOPCAST_ALLOWED_ORIGINS", "example.com", "https://host"),
        ("LOOPCAST_ALLOWED_ORIGINS", "*", "https://host"),
        ("LOOPCAST_ALLOWED_ORIGINS", "https://example.com/path", "https://host"),
    ],
)
def test_addresses_are_checked(monkeypatch, name, value, hint):
    """What could never match or be fetched is refused at the start."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=hint):
        load(GatewaySettings)


@pytest.mark.parametrize(
    ("protocol", "endpoint", "sentence"),
    [
        ("grpc", "localhost:4317", ""),
        ("grpc", "https://host", ""),
        ("grpc", "ftp://host", "write it as http://host:4317"),
        ("grpc", "http://host:4317/v1/traces", "leave /v1/traces out"),
        ("http/protobuf", "http://host:4318/otlp/", ""),
        ("http/protobuf", "localhost:4318", "write it as http://host:4318"),
        ("http/protobuf", "http://host:4318/v1/traces/", "leave /v1/traces out"),
    ],
)
def test_the_address_of_an_otlp_backend(monkeypatch, protocol, endpoint, sentence):
    """What would fail at every request is refused at the start, with how to write it."""
    monkeypatch.setenv("LOOPCAST_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("LOOPCAST_OTLP_ENDPOINT", endpoint)
    if not sentence:
        assert endpoint == load(OtelExporterSettings).otlp_endpoint
        return

    with pytest.raises(ConfigurationError, match=sentence):
        load(OtelExporterSettings)


def test_a_certificate_that_is_not_there(monkeypatch):
    """A file of authorities that cannot be read stops the start, by its name."""
    monkeypatch.setenv("LOOPCAST_OTLP_CERTIFICATE", "/nowhere/ca.pem")

    with pytest.raises(ConfigurationError, match=r"LOOPCAST_OTLP_CERTIFICATE='/nowhere/ca\.pem': it cannot be read"):
        load(OtelExporterSettings)
