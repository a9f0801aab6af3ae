"""Signatures, verified by the independent `standardwebhooks` package."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.signing import Key, call_id, sign


def secret(byte: int, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes([byte]) * size).decode()


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5), st.binary(min_size=24, max_size=64))
def test_an_independent_verifier_accepts_every_call(data, raw):
    """What is signed here verifies there, whatever the body and the key."""
    text = "whsec_" + base64.b64encode(raw).decode()
    body = json.dumps(data).encode()

    headers = sign([Key.parse(text)], id=call_id(["a"]), timestamp=int(time.time()), body=body)

    assert Webhook(text).verify(body, headers) == data


def test_during_a_rotation_the_old_and_the_new_key_both_verify():
    """A receiver that knows either key accepts the call, and one that knows neither does not."""
    keys = [Key.parse(secret(2)), Key.parse(secret(1))]
    headers = sign(keys, id="msg_x", timestamp=int(time.time()), body=b"{}")

    for known in (1, 2):
        Webhook(secret(known)).verify(b"{}", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(3)).verify(b"{}", headers)
    assert headers["webhook-signature"].split(" ")[0] == keys[0].signature(
        f"msg_x.{headers['webhook-timestamp']}.{{}}".encode()
    )


@pytest.mark.parametrize("change", [b'{"a":2}', b'{"a":1} '])
def test_a_changed_body_does_not_verify(change):
    """The signature covers the exact bytes."""
    headers = sign([Key.parse(secret(1))], id="msg_x", timestamp=int(time.time()), body=b'{"a":1}')

    with pytest.raises(WebhookVerificationError):
        Webhook(secret(1)).verify(change, headers)


def test_without_a_key_a_call_still_has_its_id():
    """A receiver can drop repeats although it cannot verify."""
    assert sign([], id="msg_x", timestamp=5, body=b"") == {"webhook-id": "msg_x", "webhook-timestamp": "5"}


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5))
def test_an_id_is_of_its_events_and_has_no_dot(ids):
    """The same events give the same id, others another, and the separator never occurs in it."""
    assert call_id(ids) == call_id(list(ids))
    assert call_id(ids) != call_id([*ids, "another"])
    assert "." not in call_id(ids)


@pytest.mark.parametrize(
    "text",
    ["", "secret", "whsec_", "whsec_***", secret(1, 23), secret(1, 65), secret(1)[6:], "whsec_ä" + "A" * 40],
)
def test_what_is_no_secret_is_refused_without_being_shown(text):
    """The complaint says how to make one and shows nothing of what was there."""
    with pytest.raises(ConfigurationError) as caught:
        Key.parse(text)

    assert "openssl rand" in str(caught.value)
    assert len(text) < 8 or text not in str(caught.value)


def test_a_key_does_not_print_itself():
    """Neither repr nor str nor an f-string shows a key."""
    key = Key.parse(secret(1))

    assert {repr(key), str(key), f"{key}"} == {"Key(***)"}
