"""Who may send to a producer: tokens, API keys, pages, and how much."""

import gzip
import json
import time

import httpx
import pytest
from processes import Producer

from loopcast.auth.api_keys import entry_of, make_key
from loopcast.auth.tokens import make_token

SECRET = "integration-secret-of-more-than-32-bytes"
KEY, SLOW = make_key(), make_key()
LEEWAY = 1


def token(*publish, ttl=600, **more):
    return make_token(SECRET, publish=publish, now=time.time(), ttl=ttl, **more)


@pytest.fixture(scope="module")
def producer(module_vhost_url, tmp_path_factory):
    """A producer that asks, and the log that it writes."""
    folder = tmp_path_factory.mktemp("access")
    (folder / "secret").write_text(SECRET + "\n")
    entries = [entry_of(KEY, "ci", publish=("ci-*",)), entry_of(SLOW, "slow", publish=("*",), rate=2) + "burst = 3\n"]
    (folder / "keys.toml").write_text("\n".join(entries))
    environment = {
        "LOOPCAST_HOST": "0.0.0.0",
        "LOOPCAST_JWT_SECRET_FILE": str(folder / "secret"),
        "LOOPCAST_API_KEYS_FILE": str(folder / "keys.toml"),
        "LOOPCAST_ALLOWED_ORIGINS": "https://dash.example",
        "LOOPCAST_LOG_LEVEL": "debug",
        "LOOPCAST_JWT_LEEWAY_SECONDS": str(LEEWAY),
    }
    with Producer(module_vhost_url, folder / "log", **environment) as running:
        yield running


EVENT = b'{"event":"loop_start"}'


def post(producer, credential, body=EVENT, experiment="ci-1", **more):
    headers = {} if credential is None else {"authorization": f"Bearer {credential}"}
    return producer.post(body, experiment, **{**headers, **more})


def test_nobody_sends_without_a_token(producer):
    """401 as problem details, with the challenge that RFC 6750 asks for, and nothing is published."""
    answer = post(producer, None)

    assert (401, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert 'Bearer realm="loopcast"' == answer.headers["www-authenticate"]
    assert "Authorization: Bearer" in answer.json()["detail"]


@pytest.mark.parametrize(
    "authorization",
    ["Bearer bad", "Bearer lck_bad", "Basic dXNlcjpwYXNz", "Bearer", "Bearer a.b.c", "Bearer STRANGERS"],
)
def test_a_bad_token_sends_nothing(producer, authorization):
    """Whatever is wrong with it, the answer is 401 and names no part of it."""
    strangers = make_token("x" * 40, publish=("*",), now=time.time(), ttl=60)
    authorization = authorization.replace("STRANGERS", strangers)
    answer = producer.post(EVENT, "ci-1", authorization=authorization)

    assert 401 == answer.status_code
    assert "invalid_token" in answer.headers["www-authenticate"]
    assert authorization.partition(" ")[2] not in answer.text or not authorization.partition(" ")[2]


def test_an_expired_token_sends_nothing(producer):
    """After its time and the leeway, a token is refused in these words."""
    answer = post(producer, token("*", ttl=-31))

    assert (401, True) == (answer.status_code, "expired" in answer.json()["detail"])


@pytest.mark.parametrize("patterns", [None, ["ci-*"], ["x", "ci-1"]])
def test_what_is_permitted_is_taken(producer, patterns):
    """A key or token sends to the experiments that its patterns match."""
    credential = KEY if patterns is None else token(*patterns)
    assert 202 == post(producer, credential).status_code
    assert 202 == post(producer, credential, b'{"event":"a","experiment_id":"ci-1"}', None).status_code


@pytest.mark.parametrize("patterns", [None, ["ci-*"], []])
def test_what_is_not_permitted_is_403(producer, patterns):
    """Another experiment is refused, in the path or in the event."""
    credential = KEY if patterns is None else token(*patterns)
    for answer in (
        post(producer, credential, experiment="prod"),
        post(producer, credential, b'{"event":"a","experiment_id":"prod"}', None),
        post(producer, credential, EVENT, None),
    ):
        assert (403, "urn:loopcast:problem:not-permitted") == (answer.status_code, answer.json()["type"])


def test_one_event_of_another_experiment_refuses_itself(producer):
    """In a batch, what is not permitted is invalid, and the rest is taken."""
    body = json.dumps([{"event": "a", "experiment_id": e} for e in ("ci-1", "prod", "ci-2")]).encode()

    answer = post(producer, KEY, body, None)

    assert 202 == answer.status_code
    assert ["accepted", "invalid", "accepted"] == [event["status"] for event in answer.json()["events"]]
    assert "not permit" in answer.json()["events"][1]["error"]


def test_too_much_is_429(producer):
    """A key that sent its burst has to wait, and is told how long; another key is not held up."""
    batch = json.dumps([{"event": "a"}] * 9).encode()
    assert 202 == post(producer, SLOW, batch).status_code

    answer = post(producer, SLOW)

    assert (429, "urn:loopcast:problem:rate-limited") == (answer.status_code, answer.json()["type"])
    assert 1 <= int(answer.headers["retry-after"]) <= 4
    assert 202 == post(producer, KEY).status_code


def test_a_stream_of_lines_is_ended_where_it_is_too_much(producer):
    """Lines over the rate are refused with the number of those that were taken before."""
    time.sleep(4.5)
    answer = httpx.post(
        f"{producer.url}/v1/experiments/ci-1/events",
        content=iter([EVENT + b"\n"] * 5000),
        headers={"authorization": f"Bearer {SLOW}", "content-type": "application/x-ndjson"},
        timeout=30,
    )

    assert 429 == answer.status_code
    assert 0 < answer.json()["accepted"] < 5000


@pytest.mark.slow
def test_a_stream_ends_with_the_token_that_opened_it(producer):
    """Lines that come after the token's time are refused, however long their stream is; those before are counted."""
    short = token("ci-*", ttl=2)

    def lines():
        for _ in range(10):
            yield EVENT + b"\n"
        # The token's time and the leeway for clocks that differ.
        deadline = time.time() + 2 + LEEWAY + 10
        while time.time() < deadline:
            time.sleep(0.25)
            yield EVENT + b"\n"

    began = time.time()
    answer = httpx.post(
        f"{producer.url}/v1/experiments/ci-1/events",
        content=lines(),
        headers={"authorization": f"Bearer {short}", "content-type": "application/x-ndjson"},
        timeout=30,
    )

    assert (401, "urn:loopcast:problem:unauthorized") == (answer.status_code, answer.json()["type"])
    assert 10 <= answer.json()["accepted"] <= 10 + 4 * (time.time() - began)


@pytest.mark.slow
def test_a_stream_ends_with_the_key_that_opened_it(module_vhost_url, tmp_path):
    """A key that is taken out of the file, or may send less now, ends the stream that it opened."""
    keys, key = tmp_path / "keys.toml", make_key()
    keys.write_text(entry_of(key, "agent", publish=("ci-*",)))
    refused = []
    with Producer(module_vhost_url, tmp_path / "log", LOOPCAST_API_KEYS_FILE=str(keys)) as producer:
        for entry in (entry_of(key, "agent", publish=("other-*",)), ""):

            def lines(entry=entry):
                yield EVENT + b"\n"
                keys.write_text(entry)
                for _ in range(80):
                    time.sleep(0.1)
                    yield EVENT + b"\n"

            keys.write_text(entry_of(key, "agent", publish=("ci-*",)))
            for _ in range(100):
                if producer.post(EVENT, "ci-1", authorization=f"Bearer {key}").status_code == 202:
                    break
                time.sleep(0.1)
            answer = httpx.post(
                f"{producer.url}/v1/experiments/ci-1/events",
                content=lines(),
                headers={"authorization": f"Bearer {key}", "content-type": "application/x-ndjson"},
                timeout=30,
            )
            refused.append((answer.status_code, answer.json()["accepted"] >= 1))

    assert [(403, True), (401, True)] == refused


def test_pages_of_elsewhere_send_nothing(producer):
    """A page that is not on the list is refused with a good token, too; one that is may ask first and read."""
    good = {"authorization": f"Bearer {KEY}"}
    evil = producer.post(EVENT, "ci-1", origin="https://evil.example", **good)
    listed = producer.post(EVENT, "ci-1", origin="https://dash.example", **good)
    asked = httpx.options(f"{producer.url}/v1/experiments/ci-1/events", headers={"origin": "https://dash.example"})

    assert (403, None) == (evil.status_code, evil.headers.get("access-control-allow-origin"))
    assert (202, "https://dash.example") == (listed.status_code, listed.headers["access-control-allow-origin"])
    assert (204, "POST") == (asked.status_code, asked.headers["access-control-allow-methods"])
    assert "authorization" in asked.headers["access-control-allow-headers"]


def test_a_bomb_is_refused_before_it_is_unpacked_for_nobody(producer):
    """Who is not permitted costs no unpacking; who is, gets 413 for a body that unpacks without end."""
    bomb = gzip.compress(b" " * (70 * 1024 * 1024))

    assert 401 == post(producer, None, bomb, content_encoding="gzip").status_code
    assert 413 == post(producer, KEY, bomb, content_encoding="gzip").status_code


def test_refusals_are_counted(producer):
    """Each reason is a number that an operator sees."""
    post(producer, None)
    text = httpx.get(f"{producer.ops_url}/metrics").text

    assert 'loopcast_auth_failures_total{reason="missing"}' in text
    assert 'loopcast_producer_requests_total{status="401"}' in text


def test_no_secret_is_in_the_log(producer):
    """Even at debug, the log has no token, key or secret."""
    mine = token("ci-*")
    post(producer, mine)
    post(producer, KEY)
    text = producer.log.read_text()

    assert all(secret not in text for secret in (mine, mine.split(".")[1], KEY, SLOW, SECRET))


def test_a_page_cannot_rename_itself_to_loopback(module_vhost_url, tmp_path):
    """On loopback, where nobody is asked, a name that somebody let point here is refused."""
    with Producer(module_vhost_url, tmp_path / "log") as running:
        assert 202 == running.post(EVENT).status_code
        assert 403 == running.post(EVENT, host="evil.example:8700").status_code
        assert 403 == running.post(EVENT, origin="http://evil.example").status_code
        assert 202 == running.post(EVENT, origin="http://localhost:3000").status_code


def test_strangers_are_not_served_by_accident(module_vhost_url, tmp_path):
    """Beyond loopback without a decision, the producer ends with one line and exit code 2."""
    running = Producer(module_vhost_url, tmp_path / "log", LOOPCAST_HOST="0.0.0.0")
    with pytest.raises(AssertionError):
        running.start()

    assert 2 == running.process.wait(10)
    assert "LOOPCAST_JWT_SECRET" in running.log.read_text().splitlines()[-1]
