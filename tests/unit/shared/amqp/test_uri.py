"""AMQP URLs as RabbitMQ's documentation has them."""

import ssl

import pytest

from loopcast.amqp.uri import parse_url
from loopcast.errors import ConfigurationError


def parsed(url):
    return parse_url(url, name="n")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        # The appendix of https://www.rabbitmq.com/docs/uri-spec, where it does not differ by design.
        ("amqp://user:pass@host:10000/vhost", ("user", "pass", "host", 10000, "vhost")),
        ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", ("usera", "apass", "hoast", 10000, "v/host")),
        ("amqp://", ("guest", "guest", "localhost", 5672, "/")),
        ("amqp://:@/", ("", "", "localhost", 5672, "/")),
        ("amqp://user@", ("user", "guest", "localhost", 5672, "/")),
        ("amqp://user:pass@", ("user", "pass", "localhost", 5672, "/")),
        ("amqp://host", ("guest", "guest", "host", 5672, "/")),
        ("amqp://:10000", ("guest", "guest", "localhost", 10000, "/")),
        ("amqp:///vhost", ("guest", "guest", "localhost", 5672, "vhost")),
        ("amqp://host/", ("guest", "guest", "host", 5672, "/")),
        ("amqp://host/%2f", ("guest", "guest", "host", 5672, "/")),
        ("amqp://[::1]", ("guest", "guest", "::1", 5672, "/")),
        ("amqps://host/a%20b", ("guest", "guest", "host", 5671, "a b")),
        ("amqp://a%40b:p%3A%2F%3F%23@host/x", ("a@b", "p:/?#", "host", 5672, "x")),
    ],
)
def test_parts(url, parts):
    """Every part is percent-decoded once, and has its default where it is missing."""
    target = parsed(url)

    assert parts == (
        target.login.user,
        target.login.password,
        target.host,
        target.port,
        target.login.vhost,
    )


def test_defaults():
    """Without parameters: 10 s each for connecting and between heartbeats, a password, no TLS."""
    target = parsed("amqp://host")

    assert (10.0, 10, False, None, "n") == (
        target.connect_timeout,
        target.login.heartbeat,
        target.login.external,
        target.tls,
        target.login.name,
    )


def test_parameters():
    """The query parameters of https://www.rabbitmq.com/docs/uri-query-parameters; times to connect are milliseconds."""
    target = parsed("amqp://h?heartbeat=30&connection_timeout=2500&auth_mechanism=external&unknown=x&channel_max=7")

    assert (2.5, 30, True) == (target.connect_timeout, target.login.heartbeat, target.login.external)


def test_tls_verifies_by_default():
    """`amqps` checks the broker's certificate and its name."""
    tls = parsed("amqps://broker.example").tls
    context = tls.context()

    assert "broker.example" == tls.server_name
    assert context.check_hostname
    assert ssl.CERT_REQUIRED is context.verify_mode


def test_tls_can_be_told_otherwise():
    """The name to check, and not to check at all, are the URL's to say."""
    tls = parsed("amqps://10.0.0.1?server_name_indication=broker&verify=verify_none").tls
    context = tls.context()

    assert "broker" == tls.server_name
    assert not context.check_hostname
    assert ssl.CERT_NONE is context.verify_mode


def test_tls_files(tmp_path):
    """Files are percent-decoded and read at every connection; one that cannot be read is named."""
    tls = parsed("amqps://h?cacertfile=/etc/my%20ca.pem&certfile=/c.pem&keyfile=/k.pem").tls
    assert ("/etc/my ca.pem", "/c.pem", "/k.pem") == (tls.cacertfile, tls.certfile, tls.keyfile)

    with pytest.raises(ConfigurationError, match="certificate"):
        tls.context()
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigurationError, match="certificate"):
        parsed(f"amqps://h?cacertfile={tmp_path}/empty.pem").tls.context()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://host", "amqp://"),
        ("host:5672", "amqp://"),
        ("amqp://host:port", "port"),
        ("amqp://host:99999", "Port"),
        ("amqp://[::1", "cannot be read"),
        ("amqp://h?heartbeat=soon", "heartbeat"),
        ("amqp://h?heartbeat=-1", "heartbeat"),
        ("amqp://h?heartbeat=70000", "heartbeat"),
        ("amqp://h?connection_timeout=0", "connection_timeout"),
        ("amqp://h?auth_mechanism=kerberos", "auth_mechanism"),
        ("amqps://h?verify=perhaps", "verify"),
    ],
)
def test_what_is_no_amqp_url(url, word):
    """What cannot be meant is refused with the part that is wrong."""
    with pytest.raises(ConfigurationError, match=word):
        parsed(url)


def test_sentences_have_no_password():
    """A target is named in logs and errors."""
    assert "host:5672" == str(parsed("amqp://user:secret@host/"))
    assert "[::1]:7" == str(parsed("amqp://user:secret@[::1]:7/"))
