"""`loopcast token` and `loopcast api-key`: what they print is what services take."""

import pytest
from typer.testing import CliRunner

from loopcast.auth.api_keys import read_api_keys
from loopcast.auth.keys import KeyRing
from loopcast.auth.tokens import Rules, verify
from loopcast.cli.access import parse_ttl
from loopcast.cli.commands import make_app
from loopcast.errors import ConfigurationError

SECRET = "s" * 40


def run(*arguments, **environment):
    return CliRunner().invoke(make_app(), arguments, env=environment)


def test_token_by_a_secret_in_a_file(tmp_path):
    """The token on standard output permits what the options say, for the audience and issuer of the settings."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    done = run(
        *("token", "--subscribe", "exp-*", "--subscribe", "b", "--publish", "c", "--ttl", "2h", "--subject", "me"),
        LOOPCAST_JWT_SECRET_FILE=str(file), LOOPCAST_JWT_AUDIENCE="loopcast,x", LOOPCAST_JWT_ISSUER="us",
    )  # fmt: skip
    rules = Rules(audience=("loopcast",), issuer=("us",))
    import time

    grants = verify(done.stdout.strip(), KeyRing.of_secrets([SECRET]), rules, now=time.time())

    assert ("us#me", ("b", "exp-*"), ("c",)) == (grants.user, grants.subscribe.texts, grants.publish.texts)
    assert 7200 + 30 - 60 < grants.expires - time.time() <= 7200 + 30


@pytest.mark.parametrize(
    ("arguments", "environment", "hint"),
    [
        (("token", "--subscribe", "a"), {}, "openssl rand"),
        (("token",), {"LOOPCAST_JWT_SECRET": SECRET}, "--subscribe"),
        (("token", "--subscribe", ""), {"LOOPCAST_JWT_SECRET": SECRET}, "no pattern"),
        (("token", "--subscribe", "a", "--ttl", "8"), {"LOOPCAST_JWT_SECRET": SECRET}, "such as 8h"),
        (("token", "--subscribe", "a"), {"LOOPCAST_JWT_SECRET": "short"}, "32 bytes"),
        (("api-key", "ci"), {}, "--publish"),
        (("api-key", "c i", "--publish", "*"), {}, "name"),
    ],
)
def test_what_is_missing_is_said(arguments, environment, hint):
    """A person who forgot something reads what, and never the secret."""
    done = run(*arguments, **environment)

    assert isinstance(done.exception, ConfigurationError)
    assert hint in str(done.exception)
    assert "short" not in str(done.exception)


def test_api_keys_are_added_to_a_file(tmp_path):
    """Each key that is made is good by the file that it was added to; a name that is taken changes nothing."""
    file = tmp_path / "keys.toml"
    first = run("api-key", "a", "--publish", "x-*", "--rate", "5", "--file", str(file)).stdout.strip()
    second = run("api-key", "b", "--subscribe", "y", "--file", str(file)).stdout.strip()
    before = file.read_text()

    assert isinstance(run("api-key", "b", "--publish", "*", "--file", str(file)).exception, ConfigurationError)
    keys = read_api_keys(file.read_text(), path=str(file))
    assert ("a", 5.0) == (keys.check(first, now=0).key, keys.check(first, now=0).rate.events)
    assert ("y",) == keys.check(second, now=0).subscribe.texts
    assert before == file.read_text()


@pytest.mark.parametrize(("text", "expected"), [("45s", 45), ("30m", 1800), ("8h", 28800), ("7d", 604800)])
def test_ttl(text, expected):
    """A time is a number and a unit."""
    assert expected == parse_ttl(text)
