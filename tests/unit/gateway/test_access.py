"""Who comes in: addresses, credentials, deadlines, and what of everything may be seen."""

import pytest

from loopcast.auth import Patterns
from loopcast.auth.cookies import clear_cookie, cookie_token, set_cookie
from loopcast.errors import InvalidToken
from loopcast_gateway.credentials import shown
from loopcast_gateway.crowd import Crowd, client_address, networks
from loopcast_gateway.deadlines import Deadlines
from loopcast_gateway.entry import Entry
from loopcast_gateway.filters import filter_of

TRUSTED = networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("1.2.3.4", None, "1.2.3.4"),
        ("1.2.3.4", "9.9.9.9", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ("::1", "9.9.9.9", "9.9.9.9"),
        ("::ffff:10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ("10.0.0.1", "6.6.6.6, 9.9.9.9", "9.9.9.9"),
        ("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "9.9.9.9, ", "10.0.0.1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("", "9.9.9.9", ""),
    ],
)
def test_only_trusted_proxies_are_believed(peer, forwarded, expected):
    """The address is the last one that a trusted proxy saw, whatever the client wrote in front of it."""
    assert expected == client_address(peer, forwarded, TRUSTED)


def test_places_by_address_and_user():
    """Each has so many places, and one that leaves makes room; loopback and a limit of 0 have no end."""
    crowd = Crowd(per_address=2, per_user=1, handshakes=0)
    for _ in range(2):
        crowd.enter("1.1.1.1")
    assert not crowd.has_room("1.1.1.1")
    assert crowd.has_room("2.2.2.2")
    assert crowd.name("me")
    assert not crowd.name("me")
    crowd.leave("1.1.1.1", "me")
    assert crowd.has_room("1.1.1.1")
    assert crowd.name("me")
    for _ in range(9):
        crowd.enter("127.0.0.1")
    assert crowd.has_room("127.0.0.1")
    assert all(Crowd(per_address=0, per_user=0, handshakes=0).name("me") for _ in range(9))


def test_handshakes_have_a_rate():
    """Twice the rate at once, then the rate; a refused one is not counted."""
    crowd = Crowd(per_address=0, per_user=0, handshakes=10)
    assert [0.0] * 20 == [crowd.wait(0) for _ in range(20)]
    assert [pytest.approx(0.1)] * 3 == [crowd.wait(0) for _ in range(3)]
    assert 0 == crowd.wait(0.1)


def test_deadlines():
    """Each item is due once, at the last time that was set for it, and never once it was dropped."""
    deadlines = Deadlines()
    deadlines.set("a", 10.2)
    deadlines.set("b", 10.9)
    deadlines.set("c", 5)
    deadlines.set("c", 20)
    deadlines.set("d", 5)
    deadlines.set("d", None)

    assert [] == deadlines.pop(10.9)
    assert {"a", "b"} == set(deadlines.pop(11))
    assert [] == deadlines.pop(11)
    deadlines.drop("c")
    deadlines.drop("c")
    assert [] == deadlines.pop(100)
    assert 0 == len(deadlines)


@pytest.mark.parametrize(
    ("headers", "offered", "expected"),
    [
        ([], [], (None, "nowhere")),
        ([("Authorization", "Bearer a")], ["bearer.b"], ("a", "header")),
        ([("Cookie", "x=1; loopcast_session=c")], ["loopcast.v1.json", "bearer.b"], ("b", "subprotocol")),
        ([("Cookie", "x=1; loopcast_session=c; y=2")], ["bearer."], ("c", "cookie")),
        ([("Cookie", "my_loopcast_session=c")], [], (None, "nowhere")),
    ],
)
def test_where_a_token_is(headers, offered, expected):
    """A header counts before a subprotocol, and that before a cookie."""
    found = shown(headers, offered)

    assert expected == (found.token, found.where)
    assert found.token is None or f"'{found.token}'" not in repr(found)


def test_a_header_that_is_no_token_is_refused():
    """Whoever meant to show something is not let in as nobody."""
    with pytest.raises(InvalidToken):
        shown([("Authorization", "Basic x"), ("Cookie", "loopcast_session=c")], [])


def test_cookies():
    """What is set is read again, out of reach of scripts and other sites, and can be taken away."""
    made = set_cookie("a.b-c_d", seconds=60, secure=True)

    assert "a.b-c_d" == cookie_token([made.partition(";")[0]])
    assert {"HttpOnly", "SameSite=Strict", "Secure", "Max-Age=60"} <= set(made.split("; "))
    assert cookie_token([clear_cookie().partition(";")[0]]) is None


def entry(experiment, type_="state_enter"):
    return Entry(partition=0, offset=1, id="x", experiment=experiment, type=type_, recorded=0, envelope=b"{}")


def test_a_filter_has_a_scope():
    """Of everything, what may not be seen is not wanted, and scopes that differ are not sent the same bytes."""
    some = filter_of(None, ["noise"], Patterns(("exp-*",)))

    assert some.wants(entry("exp-1"))
    assert not some.wants(entry("prod"))
    assert not some.wants(entry("~"))
    assert not some.wants(entry("exp-1", "noise"))
    assert some == filter_of(None, ["noise"], Patterns(("exp-*",)))
    assert some != filter_of(None, ["noise"], Patterns(("prod",)))
    assert some != filter_of(None, ["noise"])
    assert filter_of(None, None, Patterns(("a",))) is not None
