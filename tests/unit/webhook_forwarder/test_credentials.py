"""Secrets come from files and are shown nowhere."""

import base64
from pathlib import Path

import pytest

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.credentials import read_credentials
from loopcast_webhook_forwarder.endpoints import Endpoint

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def endpoint(**more: object) -> Endpoint:
    return Endpoint.model_validate({"name": "a", "url": "http://x.example/", "bindings": ["#"], **more})


def test_url_keys_and_headers_are_read_beside_the_endpoints_file(tmp_path: Path):
    """A relative name is of the endpoints file's folder, and a trailing line end is no part of a secret."""
    (tmp_path / "url").write_text("https://hooks.example/T0/B0/xyz\n")
    (tmp_path / "key").write_text(f"{SECRET}\n")
    (tmp_path / "token").write_text("Bearer ghp_123\n")

    credentials = read_credentials(
        endpoint(url={"file": "url"}, secret=[{"file": "key"}], headers={"Authorization": {"file": "token"}}), tmp_path
    )

    assert credentials.url == "https://hooks.example/T0/B0/xyz"
    assert credentials.headers == {"Authorization": "Bearer ghp_123"}
    assert len(credentials.keys) == 1


def test_nothing_prints_a_secret(tmp_path: Path):
    """Neither the credentials nor the endpoint show what the files hold."""
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "token").write_text("hunter2")
    made = endpoint(secret={"file": "key"}, headers={"X-Token": {"file": "token"}})

    text = f"{read_credentials(made, tmp_path)!r} {made!r}"

    assert SECRET[6:] not in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b"whsec_short", "openssl rand"), (b"\xff\xfe", "no text")]
)
def test_a_bad_secret_names_its_file(tmp_path: Path, content, words):
    """Which file and what is wrong, without what it holds."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        read_credentials(endpoint(secret={"file": "key"}), tmp_path)

    assert "key" in str(caught.value)
    assert words in str(caught.value)


def test_a_header_from_a_file_cannot_smuggle_a_line(tmp_path: Path):
    """A line break inside a value would begin another header."""
    (tmp_path / "token").write_text("a\r\nX-Evil: 1")

    with pytest.raises(ConfigurationError, match="control characters"):
        read_credentials(endpoint(headers={"X-Token": {"file": "token"}}), tmp_path)
