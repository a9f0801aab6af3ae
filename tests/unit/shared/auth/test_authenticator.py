"""What a service asks: by its settings, with keys that change while it runs."""

import asyncio
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from loopcast.auth import ANYBODY, Authenticator, bearer
from loopcast.auth.api_keys import entry_of, make_key
from loopcast.auth.tokens import make_token
from loopcast.errors import ConfigurationError, InvalidToken, KeysUnavailable
from loopcast.metrics import Metrics
from loopcast.settings import ProducerSettings

SECRET = "s" * 40


class Provider:
    """An identity provider: publishes keys, and signs tokens with them."""

    def __init__(self):
        self.keys = {}
        self.status, self.body = 200, None
        self.asked = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked += 1
                self.send_response(provider.status)
                if provider.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(provider.document() if provider.body is None else provider.body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"

    def publish(self, *names):
        self.keys = {name: self.keys.get(name) or ec.generate_private_key(ec.SECP256R1()) for name in names}

    def document(self):
        algorithm = jwt.algorithms.ECAlgorithm
        found = [{**algorithm.to_jwk(k.public_key(), as_dict=True), "kid": n} for n, k in self.keys.items()]
        return json.dumps({"keys": found}).encode()

    def token(self, name, key=None):
        claims = {"sub": "me", "exp": time.time() + 60, "publish": ["*"]}
        return jwt.encode(claims, key or self.keys[name], algorithm="ES256", headers={"kid": name})

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.close()


def authenticator(**settings):
    return Authenticator(ProducerSettings(**settings), Metrics("test", "0"))


def with_keys(provider, **more):
    return authenticator(jwks_url=provider.url, **{"jwks_refresh_seconds": 3600, "jwks_least_seconds": 0.1, **more})


async def refused(auth, credential):
    with pytest.raises(InvalidToken) as caught:
        await auth.authenticate(credential)
    return caught.value.reason


async def eventually(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for is another's
            await asyncio.sleep(0.02)


async def test_without_settings_nobody_is_asked():
    """A service that has nothing to verify with takes whatever a client shows, also nothing."""
    assert ANYBODY is await authenticator().authenticate(None)
    assert ANYBODY is await authenticator().authenticate("anything")


async def test_a_secret_makes_a_token_needed():
    """With a secret, a client must show a token, unless anybody is allowed; a bad one is refused either way."""
    good = make_token(SECRET, publish=("a",), now=time.time(), ttl=60)
    asking, lenient = authenticator(jwt_secret=SECRET), authenticator(jwt_secret=SECRET, allow_anonymous=True)

    assert "missing" == await refused(asking, None)
    assert ANYBODY is await lenient.authenticate(None)
    for auth in (asking, lenient):
        assert ("a",) == (await auth.authenticate(good)).publish.texts
        assert "malformed" == await refused(auth, "bad")


async def test_a_remembered_token_expires():
    """A token that was verified once is refused from its expiry on, like one that was never seen."""
    now = [1000.0]
    auth = Authenticator(ProducerSettings(jwt_secret=SECRET), Metrics("test", "0"), clock=lambda: now[0])
    token = make_token(SECRET, publish=("a",), now=1000, ttl=60)
    await auth.authenticate(token)

    now[0] = 1000 + 60 + 30
    assert "expired" == await refused(auth, token)


async def test_keys_rotate(provider):
    """A token with a key that was published a moment ago is taken; one whose key was withdrawn no longer is."""
    provider.publish("k1")
    old = provider.token("k1")
    auth = with_keys(provider)
    async with auth.running():
        assert "me" == (await auth.authenticate(old)).user
        provider.publish("k2")
        await asyncio.sleep(0.15)

        assert "me" == (await auth.authenticate(provider.token("k2"))).user
        assert "unknown_key" == await refused(auth, old)


async def test_unknown_keys_do_not_flood_the_provider(provider):
    """However many tokens with invented keys come, the provider is asked once in the least time."""
    provider.publish("k1")
    auth = with_keys(provider, jwks_least_seconds=3600)
    stranger = ec.generate_private_key(ec.SECP256R1())
    async with auth.running():
        await auth.authenticate(provider.token("k1"))
        for n in range(50):
            assert "unknown_key" == await refused(auth, provider.token(f"x{n}", stranger))

    assert 1 == provider.asked


async def test_many_at_once_wait_for_one_fetch(provider):
    """Tokens that come before the keys were fetched wait for them, all for the same fetch."""
    provider.publish("k1")
    auth = with_keys(provider)
    async with auth.running():
        found = await asyncio.gather(*(auth.authenticate(provider.token("k1")) for _ in range(20)))

    assert ["me"] * 20 == [grants.user for grants in found]
    assert 1 == provider.asked


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (200, b"<html>"), (200, b'{"keys":[]}'), (302, b""), (200, b" " * 2**21)]
)
async def test_a_provider_in_trouble_keeps_the_old_keys(provider, status, body):
    """While the provider is away, answers nonsense or sends somewhere else, the keys that were known stay."""
    provider.publish("k1")
    auth = with_keys(provider)
    async with auth.running():
        await auth.authenticate(provider.token("k1"))
        provider.status, provider.body = status, body
        await asyncio.sleep(0.15)

        assert "unknown_key" == await refused(auth, provider.token("k2", ec.generate_private_key(ec.SECP256R1())))
        assert "me" == (await auth.authenticate(provider.token("k1"))).user
    assert 2 == provider.asked


async def test_no_keys_yet_is_no_verdict(provider):
    """Before the provider was ever reached, a token is neither good nor bad: the client is to try again."""
    provider.status = 503
    provider.publish("k1")
    auth = with_keys(provider)
    async with auth.running():
        with pytest.raises(KeysUnavailable):
            await auth.authenticate(provider.token("k1"))
        assert "missing" == await refused(auth, None)
        assert "malformed" == await refused(auth, "bad")
        provider.status = 200
        await asyncio.sleep(0.15)
        assert "me" == (await auth.authenticate(provider.token("k1"))).user


async def test_api_keys_are_read_again(tmp_path, monkeypatch):
    """A key that is added to the file is good, one that is taken out is not; a bad file changes nothing."""
    monkeypatch.setattr("loopcast.auth.authenticator.LOOK_SECONDS", 0.02)
    file, first, second = tmp_path / "keys.toml", make_key(), make_key()
    file.write_text(entry_of(first, "first", publish=("*",)))
    auth = authenticator(api_keys_file=file)
    async with auth.running():
        grants = await auth.authenticate(first)
        assert not auth.revoked(grants)
        file.write_text("[[key]")
        await asyncio.sleep(0.1)
        assert "first" == (await auth.authenticate(first)).key
        file.write_text(entry_of(second, "second", publish=("*",)))
        await eventually(lambda: auth.revoked(grants))

        assert "unknown_key" == await refused(auth, first)
        assert "second" == (await auth.authenticate(second)).key


def test_a_file_of_keys_that_is_not_there_stops_the_start(tmp_path):
    """Who asks for API keys and has none is told at once."""
    with pytest.raises(ConfigurationError, match="No such file"):
        authenticator(api_keys_file=tmp_path / "none.toml")


@pytest.mark.parametrize(("values", "expected"), [([], None), (["Bearer abc"], "abc"), (["bearer  abc "], "abc")])
def test_bearer(values, expected):
    """The scheme's case and white space do not matter."""
    assert expected == bearer(values)


@pytest.mark.parametrize("values", [["Basic abc"], ["abc"], ["Bearer"], ["Bearer "], ["Bearer a", "Bearer a"], [""]])
def test_another_authorization_is_refused(values):
    """What is no bearer token is not taken for no token."""
    with contextlib.suppress(InvalidToken):
        pytest.fail(f"{bearer(values)}")
