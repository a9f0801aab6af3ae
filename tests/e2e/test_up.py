"""`loopcast up` as a user starts it, with a real little-loops loop going in and independent clients taking out."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aio_pika
import pytest
from websockets.asyncio.client import connect

from loopcast.errors import ConfigurationError
from loopcast.routing import bind_experiment
from loopcast.up.state import read_state

OFFSET = 300 + os.getpid() % 300
READY_SECONDS = 60
COMMAND = (sys.executable, "-c", "from loopcast.cli import main; main()")


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A running `loopcast up`, and the addresses that `loopcast env` would print."""
    data = tmp_path_factory.mktemp("up")
    output = (data / "output").open("w+")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOOPCAST_")}
    if url := os.environ.get("LOOPCAST_TEST_AMQP_URL"):
        clean["LOOPCAST_AMQP_URL"] = url
    process = subprocess.Popen(
        [*COMMAND, "up", "--data", str(data), "--port-offset", str(OFFSET)],
        stdout=output,
        stderr=subprocess.STDOUT,
        env=clean,
        start_new_session=True,
    )
    try:
        yield process, _addresses(data, process), data
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
        output.seek(0)
        text = output.read()
        output.close()
        assert 0 == code, text


def _addresses(data, process):
    for _ in range(READY_SECONDS * 10):
        assert process.poll() is None, (data / "output").read_text()
        try:
            return read_state(data).environment
        except ConfigurationError:
            time.sleep(0.1)
    pytest.fail((data / "output").read_text())


def run_loop(folder, url, experiment):
    """Run a real loop in a process of its own, as an agent does; the events that it sent."""
    agent = [sys.executable, str(Path(__file__).with_name("agent.py")), str(folder), url, experiment]
    subprocess.run(agent, check=True, capture_output=True, timeout=60)
    return [json.loads(line) for line in (folder / "sent.jsonl").read_text(encoding="utf-8").splitlines()]


async def collect(gateway, experiment, count):
    """The events of an experiment from the earliest on, as frames of bytes, with an independent WebSocket library."""
    frames = []
    async with connect(gateway.replace("http", "ws") + "/ws", subprotocols=["loopcast.v1.json"]) as socket:
        await socket.send(json.dumps({"id": 1, "action": "subscribe", "experiment_id": experiment, "from": "earliest"}))
        async with asyncio.timeout(20):
            while len(frames) < count:
                message = await socket.recv(decode=False)
                if json.loads(message)["type"] == "event":
                    frames.append(message)
        # A moment longer: whatever came twice would come now.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                while json.loads(await socket.recv(decode=False))["type"] != "event":
                    pass
    return frames


def test_every_event_of_a_real_loop_arrives_once_in_order_untouched(up, tmp_path):
    """What the loop sent is what a viewer gets: all of it, once, in order, `data` byte for byte."""
    _, addresses, _ = up
    sent = run_loop(tmp_path, addresses["LOOPCAST_URL"], "e2e/first loop")

    frames = asyncio.run(collect(addresses["LOOPCAST_GATEWAY_URL"], "e2e/first loop", len(sent)))

    envelopes = [json.loads(frame)["event"] for frame in frames]
    assert sent == [envelope["data"] for envelope in envelopes]
    for frame, event in zip(frames, sent, strict=True):
        assert b'"data":' + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"}" in frame
    assert 1 == len({envelope["runid"] for envelope in envelopes})
    assert [1, 2] == sorted({envelope["attempt"] for envelope in envelopes})
    numbers = [int(envelope["sequence"]) for envelope in envelopes]
    assert list(range(numbers[0], numbers[0] + len(numbers))) == numbers
    assert len(envelopes) == len({envelope["id"] for envelope in envelopes})


def test_a_queue_of_ones_own_gets_one_experiment_and_nothing_else(up):
    """A queue that aio-pika binds with `loopcast key` gets that experiment and no other, near names included."""
    _, addresses, data = up
    mine, others = "exp.*", ["exp", "exp.a", "exp.*.b", "*", "#"]

    async def bind_and_send():
        connection = await aio_pika.connect(addresses["LOOPCAST_AMQP_URL"])
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind("loopcast.events", bind_experiment(mine))
            for experiment in [*others, mine, *others, mine]:
                await asyncio.to_thread(send, experiment)
            return [await message(queue) for _ in range(2)], await queue.get(fail=False)

    async def message(queue):
        for _ in range(100):
            if found := await queue.get(no_ack=True, fail=False):
                return found
            await asyncio.sleep(0.05)
        pytest.fail("the event never came")

    def send(experiment):
        command = [*COMMAND, "send", "--data", str(data), experiment, "note", "n=1"]
        subprocess.run(command, check=True, capture_output=True)

    got, rest = asyncio.run(bind_and_send())

    assert [mine, mine] == [m.headers["experiment"] for m in got]
    assert [{"event": "note", "n": 1}] * 2 == [json.loads(m.body)["data"] for m in got]
    assert rest is None


def test_the_command_line_finds_it(up):
    """`loopcast env`, `tail` and `send` need no address while `up` runs with the same data folder."""
    _, addresses, data = up

    def run(*arguments):
        return subprocess.run([*COMMAND, *arguments, "--data", str(data)], capture_output=True, text=True, timeout=30)

    sent = run("send", "cli", "note", "text=hello")
    seen = run("tail", "cli", "--from", "earliest", "--json", "-n", "1")
    env = run("env")

    assert (0, "1 accepted\n") == (sent.returncode, sent.stdout)
    assert {"event": "note", "text": "hello"} == json.loads(seen.stdout)["data"]
    assert f"export LOOPCAST_AMQP_URL={addresses['LOOPCAST_AMQP_URL']}" in env.stdout


def test_runs_and_replay(up, tmp_path):
    """`loopcast runs` says where a loop is, and `replay` shows what it did: all of it, or what was chosen, and ends."""
    _, addresses, data = up
    sent = run_loop(tmp_path, addresses["LOOPCAST_URL"], "e2e/replayed")

    def run(*arguments):
        command = [*COMMAND, *arguments, "--data", str(data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()

    run("send", "e2e/open", "loop_start", "loop=outer", "--run", "r-1")
    run("send", "e2e/open", "state_enter", "state=think", "iteration=2", "--run", "r-1")
    whole = [json.loads(line)["data"] for line in run("replay", "e2e/replayed", "--json")]
    chosen = run("replay", "e2e/replayed", "--types", "loop_*", "--exclude", "loop_start", "--json", "--since", "1h")
    newest = run("tail", "e2e/replayed", "--last", "2", "-n", "2", "--json")

    assert sent == whole
    wanted = [event for event in sent if event["event"].startswith("loop_") and event["event"] != "loop_start"]
    assert wanted == [json.loads(line)["data"] for line in chosen]
    assert sent[-2:] == [json.loads(line)["data"] for line in newest]
    assert ["e2e/open", "r-1", "running", "outer", "think", "2"] == run("runs", "e2e/open")[1].split()[:6]
    assert ["nothing runs"] == run("runs", "e2e/replayed")
    [ended] = [json.loads(line) for line in run("runs", "e2e/replayed", "--all", "--json")]
    assert "completed" == ended["status"]
    of_it = [json.loads(line)["data"] for line in run("replay", "*", "--run", ended["run"], "--json")]
    assert sent == of_it
    assert run("replay", "e2e/open", "--speed", "1000")[1].split()[1:3] == ["e2e/open", "state_enter"]
    assert ["nothing runs"] != run("replay", "*", "-n", "3")


def test_the_doctor_finds_nothing_wrong_and_says_what_it_looked_at(up, tmp_path):
    """
    `loopcast doctor` looks at each part of a running `up`; with a wrong address it names the part, with code 1.

    No OTLP backend runs here, which is no fault: after a minute the doctor says so.
    """
    _, _, data = up
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOOPCAST_")} | {"XDG_STATE_HOME": str(tmp_path)}

    def doctor(*arguments):
        command = [*COMMAND, "doctor", "--json", "--data", str(data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean)
        found = {finding["part"]: finding["verdict"] for finding in json.loads(done.stdout)}
        assert found.pop("otel-exporter") in ("ok", "unsure")
        return done.returncode, found

    parts = ("settings", "disk", "broker", "producer", "gateway", "webhook-forwarder", "recorder", "spool")
    assert (0, dict.fromkeys(parts, "ok")) == doctor()
    assert (1, {**dict.fromkeys(parts, "ok"), "gateway": "broken"}) == doctor("--gateway", "http://127.0.0.1:9")


def test_a_second_one_on_the_same_ports_says_so(up, tmp_path):
    """A taken port ends the start with one line that says what to do."""
    second = subprocess.run(
        [*COMMAND, "up", "--data", str(tmp_path), "--port-offset", str(OFFSET)],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert 2 == second.returncode
    assert "is taken" in second.stderr
    assert "--port-offset" in second.stderr
    assert 1 == len(second.stderr.splitlines())


def test_a_wrong_setting_ends_it_before_anything_is_started(tmp_path):
    """Each variable that some service would not start with is one line, said once."""
    wrong = {"LOOPCAST_PARTITIONS": "many", "LOOPCAST_OTLP_PROTOCOL": "smoke"}
    ended = subprocess.run(
        [*COMMAND, "up", "--data", str(tmp_path / "data"), "--port-offset", str(OFFSET + 2600)],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | wrong,
    )

    assert 2 == ended.returncode
    assert sorted(wrong) == sorted(line.partition("=")[0] for line in ended.stderr.splitlines())
    assert not (tmp_path / "data").exists()


def test_a_broker_that_dies_ends_it_with_a_sentence(tmp_path):
    """When the private RabbitMQ is killed, `up` says so, stops the services and ends with code 1."""
    offset = str(OFFSET + 2500)
    output = (tmp_path / "output").open("w+")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOOPCAST_")}
    process = subprocess.Popen(
        [*COMMAND, "up", "--data", str(tmp_path), "--port-offset", offset], stdout=output, stderr=output, env=clean
    )
    _addresses(tmp_path, process)

    os.kill(broker_pid(tmp_path / "broker"), signal.SIGKILL)

    assert 1 == process.wait(timeout=60)
    text = (tmp_path / "output").read_text()
    output.close()
    assert "RabbitMQ ended by itself" in text
    assert "producer" in text
    assert "Traceback" not in text


def broker_pid(data):
    """The process of the server, by the folder that is in its command line."""
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    lines = [line for line in listing.stdout.splitlines() if str(data) in line and "beam" in line]
    return int(lines[0].split()[0])
