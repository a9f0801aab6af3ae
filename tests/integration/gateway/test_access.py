"""Who may see what: tokens and keys at the handshake, by message and by cookie, over WebSocket and HTTP."""

import asyncio
import contextlib
import json
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from loopcast.auth.api_keys import entry_of, make_key
from loopcast.auth.tokens import make_token

SECRET = "integration-secret-of-more-than-32-bytes"
KEY = make_key()


def token(*subscribe, ttl=600, user="me"):
    return make_token(SECRET, subscribe=subscribe, now=time.time(), ttl=ttl, subject=user)


def bearer(value):
    return {"additional_headers": {"Authorization": f"Bearer {value}"}}


@pytest.fixture
def asking(request, tmp_path):
    """Starts a gateway that asks; with a broker, where the test has something to put into the log."""
    start_gateway = request.getfixturevalue("start_gateway" if "feed" in request.fixturenames else "start_lonely")

    def start(**settings):
        (tmp_path / "keys.toml").write_text(entry_of(KEY, "dash", subscribe=("exp-*",)))
        given = {"jwt_secret": SECRET, "api_keys_file": tmp_path / "keys.toml", "jwt_leeway_seconds": 0, **settings}
        return start_gateway(**given)

    return start


async def code_of(viewer, timeout=10):
    """The code that a viewer's connection is closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await viewer.frame(timeout)
    return closed.value.rcvd.code


async def test_first_message(asking, feed, watch):
    """Without a token nothing but `auth` is taken; with it, what the token permits is."""
    gateway = asking()
    async with feed() as sender, watch(gateway) as viewer:
        assert (False, 10_000) == (viewer.welcome["authenticated"], viewer.welcome["auth_ms"])
        assert "unauthorized" == (await viewer.follow("exp-1"))["name"]
        assert "unauthorized" == (await viewer.ask(action="stats"))["name"]
        assert "pong" == (await viewer.ask(action="ping"))["type"]

        answer = await viewer.ask(action="auth", token=token("exp-*"))

        assert ("authenticated", ["exp-*"]) == (answer["type"], answer["subscribe"])
        assert 590 < answer["expires"] - time.time() <= 600
        assert "permission_denied" == (await viewer.follow("prod"))["name"]
        assert "subscribed" == (await viewer.follow("exp-1"))["type"]
        await sender.send("exp-1", {"n": 1})
        assert {"n": 1} == (await viewer.frame())["event"]["data"]


async def test_commands_right_behind_the_token_wait_for_it(asking, feed, watch):
    """A client need not wait for the answer: what it sends after `auth` is carried out after it, in order."""
    async with watch(asking()) as viewer:
        for command in (
            {"id": 1, "action": "auth", "token": token("exp-*")},
            {"id": 2, "action": "subscribe", "experiment_id": "exp-1"},
            {"id": 3, "action": "unsubscribe", "experiment_id": "exp-1"},
        ):
            await viewer.socket.send(json.dumps(command))

        kinds = [(await viewer.frame())["type"] for _ in range(3)]

    assert ["authenticated", "subscribed", "unsubscribed"] == kinds


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_at_the_handshake(asking, feed, watch, kind):
    """A header or a subprotocol lets in at once, and the answer never has the token."""
    gateway, credential = asking(), KEY if kind == "key" else token("exp-*")
    for options in (bearer(credential), {"subprotocols": ["loopcast.v1.json", f"bearer.{credential}"]}):
        async with watch(gateway, "exp-1", **options) as viewer:
            assert "authenticated" not in viewer.welcome
            assert "subscribed" == (await viewer.frame())["type"]
            assert "loopcast.v1.json" == viewer.socket.subprotocol
            assert credential not in str(viewer.socket.response.headers)


async def test_everything_is_all_that_is_permitted(asking, feed, watch):
    """`*` shows the experiments of the token alone: live, from history, in stats, in lists and on request."""
    gateway = asking()
    async with feed() as sender:
        for experiment in ("exp-1", "prod", "exp-2"):
            await sender.send(experiment, {"of": experiment, "old": True})
        async with watch(gateway, **bearer(token("exp-*"))) as some, watch(gateway, **bearer(token("*"))) as all_:
            seen = {}
            for viewer in (some, all_):
                assert "subscribed" == (await viewer.follow("*", **{"from": "earliest"}))["type"]
                history = await viewer.until("caught_up")
                seen[viewer] = [f["event"]["data"]["of"] for f in history if f["type"] == "event"]
            for experiment in ("prod", "exp-3", "exp-1"):
                await sender.send(experiment, {"of": experiment})
            live = [frame["event"]["data"]["of"] for frame in await some.frames(2)]
            stats = (await some.ask(action="stats"))["data"]

            assert (["exp-1", "exp-2"], ["exp-1", "prod", "exp-2"]) == (seen[some], seen[all_])
            assert ["exp-3", "exp-1"] == live
            assert {"exp-1", "exp-2", "exp-3"} == set(stats["replay_buffer_sizes"])
            assert await some.quiet()


@pytest.mark.parametrize("partitions", [1, 3])
async def test_everything_beside_one_of_its_own(asking, feed, watch, partitions):
    """A viewer of `*` and of an experiment sees each permitted event once, and no other."""
    gateway = asking(partitions=partitions)
    async with feed(partitions) as sender, watch(gateway, **bearer(token("exp-*"))) as viewer:
        await viewer.follow("*")
        await viewer.follow("exp-1")
        for experiment in ("prod", "exp-1", "exp-2", "prod"):
            await sender.send(experiment, {"of": experiment})

        assert {"exp-1", "exp-2"} == {frame["event"]["data"]["of"] for frame in await viewer.frames(2)}
        assert await viewer.quiet()


# Tokens are made when a test runs, not when it is collected: a long run would outlast them.
@pytest.mark.parametrize(
    ("credential", "experiment", "expected"),
    [
        (lambda: "bad", None, 4500),
        (lambda: "lck_bad", None, 4500),
        (lambda: token("exp-*", ttl=-5), None, 4003),
        (token, None, 4507),
        (lambda: token("exp-*"), "prod", 4507),
        (lambda: make_token("x" * 40, subscribe=("*",), now=time.time(), ttl=60), None, 4500),
    ],
    ids=["no token", "no key", "expired", "of nothing", "of others", "another secret"],
)
async def test_a_page_is_told_by_a_close_code(asking, watch, credential, experiment, expected):
    """A token of a subprotocol or of a message that is not good ends the connection with the code that says why."""
    gateway, credential = asking(), credential()
    async with watch(gateway, experiment, subprotocols=["loopcast.v1.json", f"bearer.{credential}"]) as viewer:
        assert expected == await code_of(viewer)
    async with watch(gateway, experiment) as viewer:
        await viewer.socket.send(json.dumps({"action": "auth", "token": credential}))
        assert expected == await code_of(viewer)


@pytest.mark.parametrize("value", ["Bearer bad", "Basic dXNlcjpwYXNz", "Bearer", f"Bearer {token('*', ttl=-5)}"])
async def test_a_program_is_told_before_the_upgrade(asking, watch, value):
    """A header that is not good is refused with 401, a challenge and words."""
    with pytest.raises(InvalidStatus) as refused:
        async with watch(asking(), additional_headers={"Authorization": value}):
            pass

    response = refused.value.response
    assert (401, 'Bearer realm="loopcast"') == (response.status_code, response.headers["www-authenticate"])
    assert "urn:loopcast:problem:token" == json.loads(response.body)["type"]


async def test_no_token_in_time(asking, watch):
    """Who says nothing is closed with 4502 when its time is up, and counted."""
    gateway = asking(auth_seconds=1)
    began = time.monotonic()
    async with watch(gateway) as viewer:
        assert 4502 == await code_of(viewer)

    assert 0.9 < time.monotonic() - began < 5
    await asyncio.sleep(1.2)
    assert 1 == gateway.metric('loopcast_gateway_closes_total{code="4502"}')


async def test_expiry_and_renewal(asking, watch):
    """A connection ends with its token, unless a newer one of the same user came before."""
    gateway = asking()
    async with (
        watch(gateway, **bearer(token("exp-*", ttl=3))) as renewed,
        watch(gateway, **bearer(token("exp-*", ttl=3))) as left,
    ):
        assert "permission_denied" == (await renewed.ask(action="auth", token=token("exp-*", user="you")))["name"]
        assert "authenticated" == (await renewed.ask(action="auth", token=token("exp-*")))["type"]

        assert 4003 == await code_of(left)
        await asyncio.sleep(1.5)
        assert "stats" == (await renewed.ask(action="stats"))["type"]


async def test_a_narrower_token_ends_what_it_does_not_permit(asking, feed, watch):
    """After a renewal with fewer permissions, nothing of what was lost is sent any more, and that is said."""
    gateway = asking()
    async with feed() as sender, watch(gateway, **bearer(token("a", "b"))) as viewer:
        for experiment in ("a", "b", "*"):
            await viewer.follow(experiment)
        await viewer.socket.send(json.dumps({"id": 9, "action": "auth", "token": token("a")}))
        frames = await viewer.frames(3)
        for experiment in ("b", "a"):
            await sender.send(experiment, {"of": experiment})

        assert "authenticated" == frames[0]["type"]
        assert {("b", 2003), ("*", 2503)} == {(f["experiment_id"], f["code"]) for f in frames[1:]}
        assert "a" == (await viewer.frame())["event"]["data"]["of"]
        assert await viewer.quiet()


async def test_a_key_that_is_taken_back_ends_its_connections(asking, watch, tmp_path):
    """Who takes a key out of the file does not have to wait for anything to expire."""
    async with watch(asking(), **bearer(KEY)) as viewer:
        (tmp_path / "keys.toml").write_text("")

        assert 4500 == await code_of(viewer)


async def test_connections_of_a_user_are_limited(asking, watch):
    """One more than the limit is closed with 4504; another user's is not, and one that left makes room."""
    gateway = asking(max_connections_per_user=2)
    async with watch(gateway, **bearer(token("*"))), watch(gateway, **bearer(token("*"))):
        async with watch(gateway, **bearer(token("*"))) as third:
            assert 4504 == await code_of(third)
        async with watch(gateway, **bearer(token("*", user="you"))) as other:
            assert "stats" == (await other.ask(action="stats"))["type"]
    await asyncio.sleep(0.2)
    async with watch(gateway, **bearer(token("*"))) as again:
        assert "stats" == (await again.ask(action="stats"))["type"]


async def test_connections_of_an_address_are_limited(asking, watch):
    """Behind a trusted proxy, it is the client's address that counts, and none that the client made up."""
    gateway = asking(max_connections_per_address=1, trusted_proxies="127.0.0.1")
    first = {"additional_headers": {"X-Forwarded-For": "6.6.6.6, 10.0.0.1"}}
    async with watch(gateway, **first):
        with pytest.raises(InvalidStatus) as refused:
            async with watch(gateway, additional_headers={"X-Forwarded-For": "7.7.7.7, 10.0.0.1"}):
                pass
        async with watch(gateway, additional_headers={"X-Forwarded-For": "10.0.0.2"}):
            pass

    assert (503, "5") == (refused.value.response.status_code, refused.value.response.headers["retry-after"])


async def test_handshakes_are_limited(asking, watch):
    """Over the rate, handshakes are refused with 503 and a time, and counted."""
    gateway = asking(handshakes_per_second=1)
    for _ in range(2):
        async with watch(gateway):
            pass
    with pytest.raises(InvalidStatus) as refused:
        async with watch(gateway):
            pass

    assert (503, "1") == (refused.value.response.status_code, refused.value.response.headers["retry-after"])
    await asyncio.sleep(1.2)
    assert 1 == gateway.metric('loopcast_gateway_handshakes_rejected_total{reason="rate"}')


async def test_commands_are_limited(asking, watch):
    """Who sends more commands than it may is closed with 4013, before it has said who it is, too."""
    gateway = asking(commands_per_second=1, max_subscriptions=1)
    for more in ({}, bearer(token("*"))):
        async with watch(gateway, **more) as viewer:
            for n in range(20):
                await viewer.socket.send(json.dumps({"id": n, "action": "ping"}))
            assert 4013 == await code_of(viewer)


def http(gateway, path, credential=None, method="GET", **headers):
    given = {} if credential is None else {"authorization": f"Bearer {credential}"}
    return httpx.request(method, gateway.http + path, headers={**given, **headers})


async def test_http_asks_too(asking, feed):
    """Each route wants a token, an experiment that it permits, and lists what it permits; the page is for all."""
    gateway = asking()
    async with feed() as sender:
        await sender.send("exp-1", {"n": 1})
        await sender.send("prod", {"n": 1})
        await asyncio.sleep(0.5)
    mine = token("exp-*")

    for path in ("/v1/experiments", "/v1/experiments/exp-1/events", "/v1/stats", "/v1/session", "/v1/none"):
        assert (401, 'Bearer realm="loopcast"') == (
            http(gateway, path).status_code,
            http(gateway, path).headers["www-authenticate"],
        )
    assert 200 == http(gateway, "/").status_code == http(gateway, "/v1/openapi.json").status_code
    assert ["exp-1"] == [e["experiment_id"] for e in http(gateway, "/v1/experiments", mine).json()["experiments"]]
    assert 1 == len(http(gateway, "/v1/experiments/exp-1/events", mine).json()["events"])
    assert {"exp-1": 1} == http(gateway, "/v1/stats", mine).json()["replay_buffer_sizes"]
    for path in ("prod/events", "prod", "%70rod/events", "pro%64/events", "prod%2F/events", "%FF/events"):
        assert 403 == http(gateway, f"/v1/experiments/{path}", mine).status_code
    assert {"exp-1", "prod"} == {
        e["experiment_id"] for e in http(gateway, "/v1/experiments", token("*")).json()["experiments"]
    }


async def test_a_session_of_a_browser(asking, feed, watch):
    """A token becomes a cookie that no script reads; it opens routes and WebSockets for pages of this origin alone."""
    gateway = asking()
    origin = {"origin": gateway.http}
    assert 401 == http(gateway, "/v1/session", method="POST", **origin).status_code
    begun = http(gateway, "/v1/session", token("exp-*"), "POST", **origin)
    cookie = begun.headers["set-cookie"]
    assert 200 == begun.status_code
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    jar = {"cookie": cookie.partition(";")[0]}

    assert ("me", ["exp-*"]) == tuple(http(gateway, "/v1/session", **jar).json()[n] for n in ("user", "subscribe"))
    assert 200 == http(gateway, "/v1/experiments", **jar).status_code
    assert 403 == http(gateway, "/v1/experiments", **jar, origin="https://evil.example").status_code
    assert 401 == http(gateway, "/v1/session", method="POST", **jar).status_code
    async with watch(gateway, "exp-1", origin=gateway.http, additional_headers=jar) as viewer:
        assert "subscribed" == (await viewer.frame())["type"]
    for more in ({}, {"origin": "https://evil.example"}):
        with pytest.raises(InvalidStatus) as refused:
            async with watch(gateway, additional_headers=jar, **more):
                pass
        assert 403 == refused.value.response.status_code
    ended = http(gateway, "/v1/session", method="DELETE", **origin)
    assert (204, True) == (ended.status_code, "Max-Age=0" in ended.headers["set-cookie"])


async def test_a_session_behind_tls_is_secure(asking):
    """Where the page came by https, the cookie is never sent without it."""
    gateway = asking(allowed_origins="https://dash.example")

    begun = http(gateway, "/v1/session", token("*"), "POST", origin="https://dash.example")

    assert "Secure" in begun.headers["set-cookie"]
    assert ("https://dash.example", "true") == tuple(
        begun.headers[f"access-control-allow-{name}"] for name in ("origin", "credentials")
    )


async def test_cors_is_the_list_of_origins(asking):
    """A page that is on the list may ask first and read; one that is not is told nothing."""
    gateway = asking(allowed_origins="https://dash.example")
    asked = http(gateway, "/v1/experiments", method="OPTIONS", origin="https://dash.example")
    evil = http(gateway, "/v1/experiments", method="OPTIONS", origin="https://evil.example")

    assert (204, "https://dash.example") == (asked.status_code, asked.headers["access-control-allow-origin"])
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert (403, False) == (evil.status_code, "access-control-allow-origin" in evil.headers)


async def test_names_that_are_not_listed(start_gateway, watch):
    """Beyond loopback, LOOPCAST_ALLOWED_HOSTS keeps names that somebody let point here from being answered."""
    gateway = start_gateway(host="0.0.0.0", allow_anonymous="true", allowed_hosts="gate.example")

    assert 200 == http(gateway, "/v1/experiments", host="gate.example").status_code
    assert 403 == http(gateway, "/v1/experiments", host="evil.example").status_code
    with pytest.raises(InvalidStatus):
        async with watch(gateway):
            pass


async def test_no_token_is_in_the_log(asking, watch):
    """Whatever way a token came, the log at its most talkative has no part of it."""
    gateway = asking(log_level="debug")
    mine, wrong = token("exp-*"), make_token("x" * 40, subscribe=("*",), now=time.time(), ttl=60)
    for credential in (mine, wrong, KEY):
        http(gateway, "/v1/experiments", credential)
        http(gateway, "/v1/session", credential, "POST", origin=gateway.http)
        # The wrong one is closed at once.
        with contextlib.suppress(ConnectionClosed):
            async with watch(gateway, subprotocols=["loopcast.v1.json", f"bearer.{credential}"]) as viewer:
                await viewer.socket.send(json.dumps({"action": "auth", "token": credential, "x": 1}))
                await viewer.socket.send(json.dumps({"action": "auth", "token": [credential]}))
    written = gateway.stop()

    for secret in (mine, mine.split(".")[1], wrong.split(".")[2], KEY, SECRET):
        assert secret not in written


async def test_strangers_are_not_served_by_accident(start_gateway):
    """Beyond loopback without a decision, the gateway ends with one line."""
    gateway = start_gateway(wait=False, host="0.0.0.0")

    errors = gateway.wait_end(20)
    gateway.process.returncode, gateway.errors = 0, ""
    assert "LOOPCAST_JWT_SECRET" in errors.strip().splitlines()[-1]


async def test_a_peer_that_vanished_is_noticed(asking, watch):
    """A connection whose peer says nothing, not even a pong, is closed with 4012; one that answers pings stays."""
    gateway = asking(ping_seconds=0.3, pong_seconds=0.5)
    async with watch(gateway, **bearer(token("*"))) as there:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        request = (
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: loopcast.v1.json\r\nAuthorization: Bearer {token('*')}\r\n\r\n"
        )
        writer.write(request.encode())
        async with asyncio.timeout(10):
            received = await reader.read(-1)
        writer.close()

        assert b"\x89\x00" in received, "a ping of the wire was sent"
        assert (4012).to_bytes(2, "big") + b"no pong" in received
        await asyncio.sleep(2)
        assert "pong" == (await there.ask(action="ping"))["type"]
    assert 1 == gateway.metric('loopcast_gateway_closes_total{code="4012"}')
