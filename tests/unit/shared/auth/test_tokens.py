"""Tokens: what verifies, what does not, and that no header can choose how it is verified."""

import base64
import hashlib
import hmac
import json
from functools import cache

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from loopcast.auth.keys import BadKeys, KeyRing, read_jwks
from loopcast.auth.tokens import MAX_TOKEN_BYTES, Rules, make_token, verify
from loopcast.errors import InvalidToken

SECRET, OTHER = "s" * 40, "o" * 40
NOW = 1_800_000_000.0
RULES = Rules()


@cache
def rsa_key(bits=2048, number=0):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(curve=ec.SECP256R1):
    return ec.generate_private_key(curve())


def jwk(key, **more):
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **more}


def ring(*entries, secrets=()):
    public = read_jwks(json.dumps({"keys": list(entries)}).encode()) if entries else ()
    return KeyRing(KeyRing.of_secrets(secrets).secrets, public)


def claims(**more):
    found = {"sub": "me", "exp": NOW + 60, "subscribe": ["exp-*"], **more}
    return {name: value for name, value in found.items() if value is not ...}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header, payload, secret=SECRET):
    head = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload).encode())}"
    return f"{head}.{b64(hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest())}"


def signed(payload, key=SECRET, algorithm="HS256", **header):
    return jwt.encode(payload, key, algorithm=algorithm, headers=header)


def reason(token, keys, rules=RULES, now=NOW):
    with pytest.raises(InvalidToken) as caught:
        verify(token, keys, rules, now=now)
    return caught.value.reason


def test_a_made_token_permits_what_it_says():
    """`make_token` and `verify` agree on patterns, subject and time."""
    token = make_token(SECRET, publish=("a",), subscribe=("exp-*", "b"), now=NOW, ttl=60, subject="me")

    grants = verify(token, KeyRing.of_secrets([SECRET]), RULES, now=NOW)

    assert ("me", NOW + 60 + RULES.leeway) == (grants.user, grants.expires)
    assert grants.publish.permit("a")
    assert not grants.publish.permit("exp-1")
    assert grants.subscribe.permit("exp-1")
    assert not grants.subscribe.permit("a")


def test_a_previous_secret_still_verifies():
    """After a change of the secret, tokens of the one before are good until they expire."""
    token = signed(claims(), OTHER)

    assert "me" == verify(token, KeyRing.of_secrets([SECRET, OTHER]), RULES, now=NOW).user
    assert "signature" == reason(token, KeyRing.of_secrets([SECRET]))


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", rsa_key), ("ES256", ec_key)])
def test_published_keys_verify_by_their_id(algorithm, key):
    """A token is verified by the key of the set that it names; one that the set does not have is asked for."""
    keys = ring(jwk(key(), kid="k1"), jwk(rsa_key(number=1), kid="k2"))

    assert "me" == verify(signed(claims(), key(), algorithm, kid="k1"), keys, RULES, now=NOW).user
    assert "me" == verify(signed(claims(), key(), algorithm), keys, RULES, now=NOW).user
    assert "unknown_key" == reason(signed(claims(), key(), algorithm, kid="k3"), keys)
    assert "unknown_key" == reason(signed(claims(), rsa_key(number=2), "RS256"), keys)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": ...}, "claims"),
        ({"exp": "soon"}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": float("nan")}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"exp": 1e300}, "claims"),
        ({"nbf": NOW + 31}, "early"),
        ({"nbf": "now"}, "claims"),
        ({"nbf": None}, "claims"),
        ({"aud": "others"}, "audience"),
        ({"subscribe": "exp-*"}, "claims"),
        ({"subscribe": [1]}, "claims"),
        ({"publish": {"*": True}}, "claims"),
        ({"publish": None}, "claims"),
        ({"sub": 7}, "malformed"),
    ],
)
def test_claims_that_are_wrong(more, expected):
    """A signature is not enough: time, audience and the shape of each claim must be right."""
    assert expected == reason(signed_loosely(claims(**more)), KeyRing.of_secrets([SECRET]))


def signed_loosely(payload):
    return forged({"alg": "HS256", "typ": "JWT"}, payload)


@pytest.mark.parametrize("more", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 3600}, {"subscribe": ...}])
def test_claims_that_are_right(more):
    """Clocks may differ by the leeway; a list that is left out permits nothing of its kind and is no error."""
    grants = verify(signed_loosely(claims(**more)), KeyRing.of_secrets([SECRET]), RULES, now=NOW)

    assert not grants.publish


def test_audience_and_issuer():
    """Where the settings name them, a token must have them."""
    keys, rules = KeyRing.of_secrets([SECRET]), Rules(audience=("loopcast", "x"), issuer=("https://id",))
    good = claims(aud=["loopcast", "y"], iss="https://id")

    assert "https://id#me" == verify(signed(good), keys, rules, now=NOW).user
    assert "claims" == reason(signed({**good, "aud": []}), keys, rules)
    assert "audience" == reason(signed({**good, "aud": "z"}), keys, rules)
    assert "issuer" == reason(signed({**good, "iss": "https://evil"}), keys, rules)
    assert "claims" == reason(signed(claims(aud="loopcast")), keys, rules)


def test_other_names_of_claims():
    """An identity provider that cannot name a claim `subscribe` names it as the settings say."""
    rules = Rules(subscribe_claim="https://loopcast/see")
    token = signed(claims(**{"https://loopcast/see": ["b"]}))

    grants = verify(token, KeyRing.of_secrets([SECRET]), rules, now=NOW)

    assert ("b",) == grants.subscribe.texts


def test_a_public_key_is_no_secret():
    """A token signed by HMAC with the published RSA key as the secret, which everybody has, permits nothing."""
    pem = (
        rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": "k1"}, {"alg": "RS256", "kid": "k1"}):
        token = forged(header, claims(), pem.decode())

        assert reason(token, ring(jwk(rsa_key(), kid="k1"))) in {"algorithm", "signature"}
        assert "signature" == reason(token, ring(jwk(rsa_key(), kid="k1"), secrets=[SECRET]))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", "HS384", "HS512", "PS256", "ES512", None, 7, ["HS256"]]
)
def test_other_algorithms_are_refused(algorithm):
    """No header can ask for no signature, or for an algorithm that is not one of the three."""
    token = forged({"alg": algorithm}, claims())

    assert reason(token, KeyRing.of_secrets([SECRET])) in {"algorithm", "malformed"}
    assert reason(token.rsplit(".", 1)[0] + ".", KeyRing.of_secrets([SECRET])) in {"algorithm", "malformed"}


def test_keys_in_the_header_are_not_believed():
    """A token that brings its own key (`jwk`, `jku`, `x5c`) is verified by ours, or not at all."""
    header = {"kid": "k1", "jwk": jwk(rsa_key(number=1)), "jku": "https://evil/jwks", "x5c": ["MII"]}

    assert "signature" == reason(signed(claims(), rsa_key(number=1), "RS256", **header), ring(jwk(rsa_key(), kid="k1")))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}, {"crit": []}])
def test_extensions_are_refused(header):
    """A header that says "you must understand this" is not understood (RFC 7515, 4.1.11)."""
    token = forged({"alg": "HS256", **header}, claims())

    assert reason(token, KeyRing.of_secrets([SECRET])) in {"algorithm", "malformed"}


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "...", "a.b.c", "eyJhbGciOiJIUzI1NiJ9", "lck_x", "é.é.é", "x" * (MAX_TOKEN_BYTES + 1),
        b64(b"[]") + ".e30.", b64(b"[" * 4000) + ".e30.", b64(b'{"alg":"HS256"') + ".e30.x",
    ],
)  # fmt: skip
def test_what_is_no_token(token):
    """Any text is refused as what it is."""
    assert "malformed" == reason(token, KeyRing.of_secrets([SECRET]))


@given(
    st.text(st.characters(max_codepoint=0x7F), max_size=200) | st.binary(max_size=80).map(b64).map("{0}.{0}.{0}".format)
)
def test_any_text_is_refused_in_words(token):
    """Nothing that is sent as a token makes anything but a refusal."""
    with pytest.raises(InvalidToken):
        verify(token, ring(jwk(rsa_key(), kid="k1"), secrets=[SECRET]), RULES, now=NOW)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_every_bit_counts(place, bit):
    """A token with any bit of its text changed says the same or permits nothing."""
    keys = KeyRing.of_secrets([SECRET])
    token = make_token(SECRET, subscribe=("exp-*",), now=NOW, ttl=60, subject="me")
    data = bytearray(token.encode())
    data[place % len(data)] ^= 1 << bit
    changed = data.decode("latin-1")
    try:
        grants = verify(changed, keys, RULES, now=NOW)
    except InvalidToken:
        return
    # The last character of base64 may have bits that mean nothing.
    assert ("me", ("exp-*",)) == (grants.user, grants.subscribe.texts)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": b64(SECRET.encode()), "kid": "k1"},
        jwk(rsa_key(1024), kid="k1"),
        jwk(rsa_key(), kid="k1", use="enc"),
        jwk(rsa_key(), kid="k1", alg="RS512"),
        jwk(rsa_key(), kid="k1", alg="HS256"),
        jwk(rsa_key(), kid="k1", key_ops=["encrypt"]),
        jwk(rsa_key(), kid=7),
        jwk(ec_key(ec.SECP384R1), kid="k1"),
        {"kty": "RSA", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": ["RSA"]},
        {},
        7,
    ],
)
def test_keys_that_are_not_for_this(entry):
    """Symmetric, short, encrypting and broken keys of a set are left out; a set of nothing else is none."""
    with pytest.raises(BadKeys, match="None of the 1 keys"):
        ring(entry)

    assert ["k2"] == [key.id for key in ring(entry, jwk(rsa_key(), kid="k2")).public]


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set(document):
    """A provider's error page does not become keys."""
    with pytest.raises(BadKeys):
        read_jwks(document)


def test_nobody_sees_the_token_in_a_refusal():
    """The sentence of a refusal has no part of the token."""
    token = signed(claims(exp=NOW - 100))
    with pytest.raises(InvalidToken) as caught:
        verify(token, KeyRing.of_secrets([SECRET]), RULES, now=NOW)

    assert all(part not in str(caught.value) for part in token.split("."))
    assert SECRET not in repr(KeyRing.of_secrets([SECRET]))
