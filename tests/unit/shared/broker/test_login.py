"""A broker's login out of files: read again at each connection."""

import pytest

from loopcast.broker.login import current, follow
from loopcast.errors import BrokerUnavailable
from loopcast.settings import ServiceSettings, load, login_is_in_files


def test_a_password_that_changes_in_its_file_is_that_of_the_next_connection(monkeypatch, tmp_path):
    """The URL of the start stands for what the files say now; another broker's is left alone."""
    file = tmp_path / "password"
    file.write_text("first\n")
    monkeypatch.setenv("LOOPCAST_AMQP_URL", "amqp://service@one.example/")
    assert not login_is_in_files()
    monkeypatch.setenv("LOOPCAST_AMQP_PASSWORD_FILE", str(file))
    assert login_is_in_files()
    started = load(ServiceSettings).amqp_url
    follow(started, lambda: load(ServiceSettings).amqp_url)
    file.write_text("second\n")

    assert "amqp://service:first@one.example/" == started
    assert "amqp://service:second@one.example/" == current(started)
    assert "amqp://two.example/" == current("amqp://two.example/")


def test_a_file_that_cannot_be_read_is_tried_again_as_a_connection_is(monkeypatch, tmp_path):
    """While a secret is exchanged its file may be away for a moment: no connection, and why."""
    file = tmp_path / "password"
    file.write_text("first")
    monkeypatch.setenv("LOOPCAST_AMQP_URL", "amqp://service@three.example/")
    monkeypatch.setenv("LOOPCAST_AMQP_PASSWORD_FILE", str(file))
    started = load(ServiceSettings).amqp_url
    follow(started, lambda: load(ServiceSettings).amqp_url)
    file.unlink()

    with pytest.raises(BrokerUnavailable, match="LOOPCAST_AMQP_PASSWORD_FILE"):
        current(started)
