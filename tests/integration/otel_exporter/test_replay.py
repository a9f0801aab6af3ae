"""`loopcast otel`: ids that anybody can print, and another backend filled from the log."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from otel_receiver import BAD, Receiver
from otel_service import Exporter, loops, publish, until

from loopcast.trace_ids import span_id, trace_id

pytestmark = pytest.mark.timeout(120)


async def command(*arguments, **environment):
    """Run `loopcast` with `arguments`: exit code, output, errors."""
    code = "from loopcast.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_trace_id_of_a_run_is_printed():
    """With the attempt, and the traceparent of a span in it."""
    trace = trace_id("exp 1", "run-1", 2)

    assert (0, f"{trace.hex()}\n", "") == await command("otel", "trace-id", "exp 1", "run-1", "2")
    expected = f"00-{trace.hex()}-{span_id(trace, 'L/S3/A1').hex()}-01\n"
    assert (0, expected, "") == await command("otel", "trace-id", "exp 1", "run-1", "2", "--span", "L/S3/A1")


async def test_a_replay_sends_the_same_as_the_service(vhost_url, tmp_path):
    """One experiment of the log into an empty backend: the bytes that the service sent of it, over HTTP."""
    events = loops(12, experiments=3)
    with Receiver() as live, Receiver() as other:
        with Exporter(vhost_url, live, tmp_path / "log"):
            await publish(vhost_url, events)
            # Four of each stream: one loop and its sub-loop, one loop, two attempts.
            await until(lambda: len([n for n in live.names() if n.startswith("invoke_workflow")]) == 4 * (2 + 1 + 2))
            await asyncio.sleep(1)
        code, output, errors = await command(
            "otel", "replay", "--experiment", "exp-1", "--to", other.http_endpoint, "--protocol", "http/protobuf",
            "--json", LOOPCAST_AMQP_URL=vhost_url,
        )  # fmt: skip
        of_experiment = {trace_id(e.experiment, e.run, e.attempt) for e in events if e.experiment == "exp-1"}
        expected = {k: body for k, (body, span) in live.spans.items() if span.trace_id in of_experiment}

        assert (0, "") == (code, errors)
        assert expected == other.bytes_by_span
        assert [] == other.faults()
        assert len(expected) == json.loads(output)["spans"]


async def test_a_replay_says_what_was_refused(vhost_url):
    """Exit code 1, and how many."""

    def behave(signal, request):
        if signal == "traces":
            raise BAD

    with Receiver(behave) as receiver:
        await publish(vhost_url, loops(1, experiments=1))
        code, output, _ = await command(
            "otel", "replay", "--experiment", "exp-0", "--to", receiver.grpc_endpoint, LOOPCAST_AMQP_URL=vhost_url
        )

    assert 1 == code
    assert "14 refused" in output
