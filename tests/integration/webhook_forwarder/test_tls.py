"""TLS to endpoints: every certificate is verified, and what fails is said and tried again, never posted."""

import ssl

import pytest
from certificates import Authority

from loopcast_webhook_forwarder.answers import Answer, Fault

from .test_egress import post


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """One whose certificates the endpoint's `ca_file` trusts."""
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Another authority of the same name."""
    return Authority(tmp_path_factory.mktemp("strangers"))


async def test_a_server_that_proves_itself_gets_the_events(receivers, authority):
    """With the authority trusted and the name right, the handshake and the call succeed."""
    receiver = await receivers(ssl_context=authority.server("IP:127.0.0.1"))
    outcome, _ = await post(receiver.url, body=b'[{"id": "1"}]', timeout=5, authorities=authority.pem)

    assert isinstance(outcome, Answer)
    assert (200, ["1"]) == (outcome.status, receiver.taken)


CASES = {
    "an authority nobody trusts": (["IP:127.0.0.1"], 1, None, "self-signed|unable to get local issuer"),
    "another authority of that name": (["IP:127.0.0.1"], 1, "stranger", "signature failure|local issuer|self-signed"),
    "another server's name": (["IP:127.0.0.2", "DNS:other.example"], 1, "authority", "IP address mismatch"),
    "expired": (["IP:127.0.0.1"], -1, "authority", "certificate has expired"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_server_that_does_not_prove_itself_gets_nothing(request, receivers, authority, case):
    """The handshake ends before a byte of the events is sent; the fault names the reason and heals by itself."""
    names, days, trusted, words = CASES[case]
    receiver = await receivers(ssl_context=authority.server(*names, days=days))
    trusts = None if trusted is None else request.getfixturevalue(trusted).pem
    outcome, _ = await post(receiver.url, timeout=5, authorities=trusts)

    assert isinstance(outcome, Fault)
    assert outcome.reason.startswith("TLS: ")
    assert any(word in outcome.reason for word in words.split("|")), outcome.reason
    assert not outcome.mendable_by_people_only
    assert [] == receiver.calls


async def test_an_old_protocol_is_not_spoken(receivers, authority):
    """A server that knows no TLS from 1.2 on gets nothing."""
    context = authority.server("IP:127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    receiver = await receivers(ssl_context=context)
    outcome, _ = await post(receiver.url, timeout=5, authorities=authority.pem)

    assert isinstance(outcome, Fault)
    assert outcome.reason.startswith("TLS: ")
    assert [] == receiver.calls


async def test_plain_http_where_tls_was_asked_for_is_a_fault(receivers):
    """A server that answers in clear text gets nothing of the events."""
    receiver = await receivers()
    outcome, _ = await post(receiver.url.replace("http:", "https:"), timeout=5)

    assert isinstance(outcome, Fault)
    assert "TLS: " in outcome.reason
    assert [] == receiver.calls


async def test_events_wait_until_the_certificate_is_right(bench, receivers, authority):
    """An endpoint whose authority is not trusted keeps its events; once `ca_file` names it they come, in order."""
    receiver = await receivers(ssl_context=authority.server("IP:127.0.0.1"))
    endpoint = bench.endpoint("ci", receiver.url)
    async with bench.forwarding(endpoint):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(30)])
        await bench.until_phase("ci", "open")
        assert [] == receiver.calls
        bench.write({**endpoint, "ca_file": str(authority.file)})
        await receiver.until(lambda: len(receiver.taken) >= 30)

    assert ids == receiver.taken
