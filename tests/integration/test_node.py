"""A private node, for real: what it answers, what it keeps, what it leaves behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import aio_pika
import pytest

from loopcast.node import Node, NodeError, debian
from loopcast.node.handshake import greeting
from loopcast.node.installed import find_installed
from loopcast.node.processes import command_line, is_alive

OWNER = """
import sys, time
from pathlib import Path
from loopcast.node import Node
node = Node(Path(sys.argv[1]), cache=Path(sys.argv[2]))
node.start()
print(node.port, flush=True)
time.sleep(120)
"""


@pytest.fixture(scope="module")
def module_node(tmp_path_factory, node_cache):
    """One node for the tests of this module, with a port for streams."""
    with Node(tmp_path_factory.mktemp("node"), stream_port=0, cache=node_cache) as node:
        yield node


@pytest.fixture
def node(module_node):
    """A running node, whatever the test before did to it."""
    module_node.start()
    return module_node


@pytest.fixture
def owner(tmp_path, node_cache):
    """Another process that owns a node: the process, the node's data folder and its port."""
    data = tmp_path / "owned"
    command = [sys.executable, "-c", OWNER, str(data), str(node_cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process, data, int(process.stdout.readline())
        process.kill()


def processes_of(data):
    """Every process that was recorded for a data folder, by its role."""
    return {role: pid for role, pid in json.loads((data / "node.json").read_text()).items() if role != "owner"}


def await_true(condition, seconds=20):
    """Wait for something that takes a while, and say whether it came."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def accepts(host, port):
    """Whether a connection is taken."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 2):
        return True
    return False


async def put(url, body):
    """Publish a message, confirmed, to a durable queue of its own."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue("kept", durable=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")


async def get(url):
    """Take the message out again."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)
        return (await queue.get(no_ack=True)).body


def test_a_node_answers_the_amqp_handshake_with_its_version(node):
    """A started node greets on the port that its URL names, and says which release it is."""
    assert f"amqp://guest:guest@127.0.0.1:{node.port}/" == node.amqp_url
    assert node.version == greeting(node.port)
    assert (3, 10) <= tuple(int(part) for part in node.version.split(".")[:2])


def test_a_node_listens_on_nothing_but_the_loopback_address(node):
    """Nobody else reaches it: not even another address of this machine."""
    ports = (node.port, node.stream_port)

    assert [(True, False)] * 2 == [(accepts("127.0.0.1", port), accepts("127.0.0.2", port)) for port in ports]


def test_everything_of_a_node_lies_under_its_data_folder(node):
    """The log, the database, the cookie and the pid file are in the folder that was given."""
    assert node.log_file.is_relative_to(node.data)
    assert {"database", "home", "log", "name", "rabbitmq.pid"} <= {entry.name for entry in node.data.iterdir()}


async def test_a_restart_keeps_the_port_and_what_was_confirmed(node):
    """A stop and a start on the same folder lose nothing, and clients find the node where it was."""
    port = node.port
    await put(node.amqp_url, b"over a restart")

    node.restart()

    assert port == node.port
    assert b"over a restart" == await get(node.amqp_url)


async def test_a_killed_node_comes_back_with_what_was_confirmed(node):
    """SIGKILL of the server is survived by what it confirmed, and `start` brings it back on its port."""
    port = node.port
    await put(node.amqp_url, b"over a power cut")
    # A confirm is for the message; what is declared reaches the disk a moment after its declare-ok.
    node.eval("catch mnesia:sync_log()")

    node.kill()
    was_running = node.running
    node.start()

    assert not was_running
    assert port == node.port
    assert b"over a power cut" == await get(node.amqp_url)


def test_a_stopped_node_leaves_no_process_and_no_port_behind(node):
    """After `stop`, server, port mapper and guardian are gone."""
    pids = processes_of(node.data)
    port = node.port

    node.stop()

    assert {"guardian", "server", "epmd"} == set(pids)
    assert {} == {role: command_line(pid) for role, pid in pids.items() if is_alive(pid)}
    assert greeting(port) is None


def test_stop_ends_the_server_of_a_killed_guardian(node):
    """Who kills the guardian only has not ended its server; `stop` does."""
    pids = processes_of(node.data)
    os.kill(pids["guardian"], signal.SIGKILL)

    node.stop()

    assert {} == {role: command_line(pid) for role, pid in pids.items() if is_alive(pid)}


def test_starting_twice_and_stopping_twice_is_harmless(node):
    """`start` of a running node and `stop` of a stopped one do nothing."""
    port = node.port

    node.start()
    node.stop()
    node.stop()

    assert (port, False) == (node.port, node.running)


def test_two_nodes_run_side_by_side(node, tmp_path, node_cache):
    """Each has a name, ports and data of its own; ending one does not touch the other."""
    with Node(tmp_path / "second", cache=node_cache) as second:
        second.add_vhost("only-here")
        names = {one.eval("node()") for one in (node, second)}
        seen_by_first = node.ctl("list_vhosts")

    assert 2 == len(names)
    assert "only-here" not in seen_by_first
    assert node.version == greeting(node.port)


def test_a_taken_port_is_named_and_nothing_is_started(tmp_path, node_cache):
    """A port that another program holds ends the start with a sentence that names it."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]

        with pytest.raises(NodeError, match=rf"Port {port} of 127\.0\.0\.1 is taken"):
            Node(tmp_path / "node", port=port, cache=node_cache).start()


def test_a_folder_in_use_is_reported_with_its_owner(node, node_cache):
    """A second node on the data of a living one is refused, and the first goes on."""
    with pytest.raises(NodeError, match=f"is in use by process {os.getpid()}"):
        Node(node.data, cache=node_cache).start()

    assert node.version == greeting(node.port)


def test_a_node_ends_with_its_killed_owner(owner):
    """SIGKILL of the process that started it leaves no server, no port mapper and no guardian."""
    process, data, port = owner
    pids = processes_of(data)

    process.kill()

    assert await_true(lambda: not any(is_alive(pid) for pid in pids.values()))
    assert greeting(port) is None


def test_a_new_node_waits_for_the_end_of_one_whose_owner_was_killed(owner, node_cache):
    """Starting again at once, on the same folder, after a crash of the owner works."""
    process, data, _ = owner
    process.kill()
    process.wait()

    with Node(data, cache=node_cache) as successor:
        assert successor.version == greeting(successor.port)


def test_a_server_that_lost_owner_and_guardian_is_ended_by_the_next_start(owner, node_cache):
    """A server that nobody keeps any more is recognised by its data folder and ended, never started beside."""
    process, data, _ = owner
    pids = processes_of(data)
    os.kill(pids["guardian"], signal.SIGKILL)
    process.kill()
    process.wait()
    assert is_alive(pids["server"])

    with Node(data, cache=node_cache) as successor:
        left = {role for role, pid in pids.items() if is_alive(pid)}

        assert set() == left
        assert successor.version == greeting(successor.port)


def test_the_terminals_interrupt_does_not_reach_the_server(node):
    """Ctrl-C goes to the terminal's process group; guardian and server are in sessions of their own."""
    pids = processes_of(node.data)

    assert os.getsid(0) not in {os.getsid(pid) for pid in pids.values()}


def test_rabbitmqctl_answers_and_refuses_in_words(node):
    """`ctl` returns what rabbitmqctl prints; a refusal is an error that carries its reason."""
    assert "name\n/\n" == node.ctl("list_vhosts")
    with pytest.raises(NodeError, match="not_a_command"):
        node.ctl("not_a_command")


def test_an_expression_is_evaluated_in_the_server(node):
    """`eval` yields Erlang's answer, and a fault in the expression is an error."""
    assert "3" == node.eval("1 + 2")
    with pytest.raises(NodeError):
        node.eval("1 + ")


async def test_a_virtual_host_is_made_usable_and_deleted_with_what_it_holds(node):
    """`add_vhost` gives a URL that works at once; after `delete_vhost` nothing of it is left."""
    url = node.add_vhost("of-a-test")
    await put(url, b"gone soon")
    node.delete_vhost("of-a-test")
    node.add_vhost("of-a-test")

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)

        assert 0 == queue.declaration_result.message_count


def test_the_stream_protocol_has_its_port_where_it_is_asked_for(node):
    """With a stream port, the stream plugin listens there and tells clients to come there."""
    assert accepts("127.0.0.1", node.stream_port)
    assert "rabbitmq_stream" in node.eval("rabbit_plugins:active()")
    assert str(node.stream_port) == node.eval("rabbit_stream:port()")


def test_an_installed_server_is_used_where_the_person_says_it_is(tmp_path, node_cache):
    """RABBITMQ_HOME and an Erlang on the PATH are enough; the server's own scripts start it."""
    unpacked = debian.unpacked(node_cache)
    if unpacked is None:
        pytest.skip("needs an unpacked RabbitMQ to stand for an installed one")
    path = os.pathsep.join(map(str, unpacked.search))
    installed = find_installed({"RABBITMQ_HOME": str(unpacked.home), "PATH": path})

    with Node(tmp_path / "node", source=installed) as node:
        assert str(unpacked.home) == node.origin
        assert node.version == greeting(node.port)


def test_the_command_prints_the_url_and_ends_with_its_node(tmp_path, node_cache):
    """`python -m loopcast.node` prints where to connect, and Ctrl-C ends it and the server."""
    command = [sys.executable, "-m", "loopcast.node", "--data", str(tmp_path / "n"), "--cache", str(node_cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        port = int(url.rpartition(":")[2].rstrip("/"))
        answered = greeting(port)
        process.send_signal(signal.SIGINT)
        process.wait(30)

    assert answered is not None
    assert 0 == process.returncode
    assert greeting(port) is None
