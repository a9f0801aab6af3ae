"""The parts of a node's life that need no server: greetings, ports, processes, explanations."""

import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import NodeError
from loopcast.node.control import Control
from loopcast.node.handshake import greeting, server_version
from loopcast.node.launch import Launch
from loopcast.node.layout import Layout
from loopcast.node.leftover import end_leftover
from loopcast.node.ports import free_ports, is_taken
from loopcast.node.processes import command_line, end, is_alive, kill
from loopcast.node.server import reason


def start_frame(version):
    """What a broker says first, cut down to what is read of it."""
    properties = b"\x07versionS" + len(version).to_bytes(4, "big") + version
    method = b"\x00\x0a\x00\x0a\x00\x09" + len(properties).to_bytes(4, "big") + properties
    return b"\x01\x00\x00" + len(method).to_bytes(4, "big") + method + b"\xce"


@pytest.fixture
def sleeper():
    """A process that does nothing until it is ended."""
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, "marked"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def serve_once(answer):
    """A port on which one peer gets one answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as peer:
            peer.recv(8)
            for at in range(len(answer)):
                peer.sendall(answer[at : at + 1])

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def test_a_brokers_version_is_read_from_its_first_frame():
    """The property `version` of `connection.start` is what the broker is."""
    assert "4.0.5" == server_version(start_frame(b"4.0.5"))


def test_a_frame_without_version_is_a_broker_all_the_same():
    """Some brokers do not say; they answer AMQP nevertheless."""
    assert "" == server_version(start_frame(b"").replace(b"version", b"vers1on"))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(received):
    """Whatever answers on a port, the reader says broker or none, and never fails."""
    assert server_version(received) is None or received.startswith(b"\x01")


def test_a_greeting_waits_for_the_whole_frame():
    """A frame that arrives byte by byte is read to its end."""
    assert "3.13.7" == greeting(serve_once(start_frame(b"3.13.7")))


def test_a_port_that_speaks_something_else_is_no_broker():
    """A web server, or nobody, is none."""
    with socket.create_server(("127.0.0.1", 0)) as unattended:
        closed = unattended.getsockname()[1]

    assert greeting(serve_once(b"HTTP/1.1 400 Bad Request\r\n\r\n")) is None
    assert greeting(closed) is None


def test_a_port_is_taken_while_somebody_listens():
    """And free again when they stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        while_listening = is_taken(port)

    assert (True, False) == (while_listening, is_taken(port))


def test_free_ports_differ_and_cannot_be_taken_by_outgoing_connections():
    """They lie below what operating systems give to outgoing connections."""
    ports = free_ports(6)

    assert 6 == len(set(ports))
    assert max(ports) < 32768


def test_no_free_port_is_said(monkeypatch):
    """A machine without free ports gets a sentence."""
    monkeypatch.setattr("loopcast.node.ports.is_taken", lambda _port: True)

    with pytest.raises(NodeError, match="No free port"):
        free_ports(1)


def test_a_process_is_known_by_its_command_line(sleeper):
    """An id alone proves nothing: the marker has to stand in the command line."""
    assert is_alive(sleeper.pid, "marked")
    assert not is_alive(sleeper.pid, "another")
    assert not is_alive(0)


@pytest.mark.skipif(shutil.which("ps") is None, reason="a bare container has no ps, and needs none")
def test_the_command_line_is_read_without_proc_too(sleeper, monkeypatch):
    """Where there is no /proc, as on macOS, `ps` says the same."""
    monkeypatch.setattr("loopcast.node.processes.Path.exists", lambda _path: False)

    assert "marked" in command_line(sleeper.pid)


def test_a_process_that_is_another_is_left_alone(sleeper):
    """Ids are given again: without the marker nothing is sent."""
    end(sleeper.pid, "another", 0.1)
    kill(sleeper.pid, "another")

    assert sleeper.poll() is None


def test_a_process_that_ignores_the_request_is_made_to_end():
    """Patience has an end."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        end(process.pid, "signal", 0.1)

        assert -9 == process.wait()


def test_a_record_of_processes_that_are_gone_is_nobodys(tmp_path):
    """An old record with ids that other programs have now ends none of them."""
    layout = Layout(tmp_path)
    pid = os.getpid()
    layout.record.write_text(f'{{"owner": {pid}, "guardian": {pid}, "server": {pid}, "epmd": {pid}}}')
    layout.pid.write_text(str(pid))

    end_leftover(layout)

    assert is_alive(pid)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Starting\nBOOT FAILED\n===\n[error] detail\n", "BOOT FAILED"),
        (
            "x\n2026 [error] <0.1.0> Failed to start Ranch listener\n",
            "2026 [error] <0.1.0> Failed to start Ranch listener",
        ),
        ("\n\nerl: not found\n", "erl: not found"),
        ("", "it printed nothing"),
    ],
)
def test_the_line_that_says_most_explains_a_failed_start(printed, expected):
    """A person gets one line, the most telling there is."""
    assert expected == reason(printed)


def answering(tmp_path, script):
    """A control whose quick way to ask is a shell script."""
    return Control(
        Launch(
            server=(),
            environment={"PATH": os.environ["PATH"]},
            folder=tmp_path,
            ctl=("sh", "-c", 'echo "ctl: $*" >&2; exit 64', "ctl"),
            call=("sh", "-c", script),
        )
    )


def test_the_answer_to_an_expression_is_unwrapped(tmp_path):
    """What `erl_call` wraps around a result is not part of it; the expression arrives as a whole form."""
    assert '<<"1 + 2.">>' == answering(tmp_path, """read form; echo "{ok, <<\\"$form\\">>}" """).eval("1 + 2.")


def test_a_failed_expression_is_an_error(tmp_path):
    """`erl_call` ends with success even then."""
    with pytest.raises(NodeError, match="badarith"):
        answering(tmp_path, "echo '{error, {badarith, []}}'").eval("1/0")


def test_a_refusal_carries_what_was_printed(tmp_path):
    """The error says the command, its status and its words."""
    with pytest.raises(NodeError, match=r"status 64: ctl: add_user x"):
        answering(tmp_path, "").ctl("add_user", "x")


@pytest.mark.parametrize("name", ["", "a b", 'a">>', "a/b", "ä"])
def test_a_virtual_hosts_name_cannot_be_an_expression(tmp_path, name):
    """Names go into Erlang code, so only plain words are taken."""
    with pytest.raises(NodeError, match="plain name"):
        answering(tmp_path, "echo '{ok, ok}'").add_vhost(name)
