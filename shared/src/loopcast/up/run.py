"""`loopcast up`: start the broker, then the services, then the demo; watch them; stop all in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx

from loopcast.errors import ConfigurationError
from loopcast.node import Node
from loopcast.settings import wrong_settings
from loopcast.up.console import Terminal
from loopcast.up.plan import HOST, Plan, Program, make_plan
from loopcast.up.process import Process
from loopcast.up.state import DATA, forget_state, write_state

__all__ = ["run_up"]

READY_SECONDS = 60.0
POLL_SECONDS = 0.1
NODE_SECONDS = 1.0
"""How often the private node is looked at."""


def run_up(*, demo: bool, data: Path, port_offset: int) -> int:
    """
    Run until Ctrl-C or until something dies; the exit code.

    Raises:
        ConfigurationError: a setting is wrong, or a port is taken.
        NodeError: there is no RabbitMQ and none can be had.
    """
    _check_settings()
    data = data.resolve()
    plan = make_plan(environ=os.environ, data=data, port_offset=port_offset, demo=demo)
    _check_ports(plan)
    data.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(plan, data, Terminal()))


async def _run(plan: Plan, data: Path, terminal: Terminal) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        node = None if plan.amqp_url else await stack.enter_async_context(_private_node(plan, data, terminal))
        amqp_url = node.amqp_url if node else str(plan.amqp_url)
        processes = await _start_services(plan, amqp_url, terminal, stack)
        ending = _ending(processes, node, stop)
        if not await _until_ready(plan, ending):
            return await _verdict(ending, terminal)
        stack.callback(forget_state, data)
        write_state(data, {"LOOPCAST_AMQP_URL": amqp_url, **plan.environment}, plan.ops)
        if plan.demo is not None:
            await _start(plan.demo, terminal, stack)
        terminal.addresses(_rows(plan, amqp_url, data))
        return await _verdict(ending, terminal)


@contextlib.asynccontextmanager
async def _private_node(plan: Plan, data: Path, terminal: Terminal) -> AsyncIterator[Node]:
    terminal.say("starting a private RabbitMQ …")
    node = Node(data / "broker", port=plan.broker_port, log=terminal.say)
    await asyncio.to_thread(node.start)
    try:
        terminal.say(f"RabbitMQ {node.version} on port {plan.broker_port}, its data in {node.data}")
        yield node
    finally:
        terminal.say("stopping RabbitMQ …")
        await asyncio.to_thread(node.stop)


async def _start_services(
    plan: Plan, amqp_url: str, terminal: Terminal, stack: contextlib.AsyncExitStack
) -> list[Process]:
    # The reverse is the order of stopping: whoever takes events in goes first, whoever shows them last.
    order = sorted(plan.services, key=lambda p: p.name == "producer")
    return [await _start(program, terminal, stack, amqp_url) for program in order]


async def _start(program: Program, terminal: Terminal, stack: contextlib.AsyncExitStack, amqp_url: str = "") -> Process:
    if amqp_url:
        program = replace(program, environment={**program.environment, "LOOPCAST_AMQP_URL": amqp_url})
    process = Process(program, terminal.line)
    await process.start()
    stack.push_async_callback(process.stop)
    return process


def _ending(processes: list[Process], node: Node | None, stop: asyncio.Event) -> asyncio.Task[str | None]:
    """Done when `up` has to end: None for a signal, else the sentence that says what died."""

    async def service_died(process: Process) -> str:
        code = await process.wait()
        return f"{process.program.name} ended with code {code}; its last lines are above. Stopping the rest."

    async def node_died(node: Node) -> str:
        while node.running:  # noqa: ASYNC110 - the end of a process that is not our child has no event
            await asyncio.sleep(NODE_SECONDS)
        return f"RabbitMQ ended by itself; {node.log_file} says why. Stopping the rest."

    async def first() -> str | None:
        tasks = [asyncio.create_task(service_died(p)) for p in processes]
        tasks += [asyncio.create_task(node_died(node))] if node else []
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        return None if waiting in done else next(t.result() for t in tasks if t in done)

    return asyncio.create_task(first())


async def _until_ready(plan: Plan, ending: asyncio.Task[str | None]) -> bool:
    """Whether every service is ready; False if `up` has to end first."""
    why: str | None = None
    async with httpx.AsyncClient(timeout=2) as client:
        try:
            async with asyncio.timeout(READY_SECONDS):
                for program in plan.services:
                    while (why := await _why_not_ready(client, program)) is not None:
                        if ending.done():
                            return False
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise ConfigurationError(
                f"{program.name} was not ready within {READY_SECONDS:.0f} s: {why or 'it did not answer'}"
            ) from None
    return True


async def _why_not_ready(client: httpx.AsyncClient, program: Program) -> str | None:
    """What its probe says that it waits for; None where it is ready."""
    try:
        answer = await client.get(f"http://{HOST}:{program.ops_port}/readyz")
    except httpx.HTTPError:
        return "it does not answer."
    return None if answer.status_code == 200 else answer.text.strip()


async def _verdict(ending: asyncio.Task[str | None], terminal: Terminal) -> int:
    sentence = await ending
    if sentence is None:
        terminal.say("stopping …")
        return 0
    terminal.say(sentence, "red bold")
    return 1


def _rows(plan: Plan, amqp_url: str, data: Path) -> list[tuple[str, str]]:
    addresses = plan.environment
    command = "loopcast" if shutil.which("loopcast") else os.path.relpath(sys.argv[0])
    elsewhere = "" if data == DATA.resolve() else f" --data {data}"
    return [
        ("Dashboard", f"{addresses['LOOPCAST_GATEWAY_URL']}/"),
        ("Events in (HTTP)", f"{addresses['LOOPCAST_URL']}/v1/experiments/<experiment>/events"),
        ("Events out (WebSocket)", f"{addresses['LOOPCAST_GATEWAY_URL'].replace('http', 'ws', 1)}/ws"),
        ("RabbitMQ", amqp_url),
        ("Watch in a terminal", f"{command} tail{elsewhere}"),
        ("Stop", "Ctrl-C"),
    ]


def _check_settings() -> None:
    """A service would end of it; so it is said once, and before a broker is started."""
    if wrong := wrong_settings():
        raise ConfigurationError("\n".join(wrong))


def _check_ports(plan: Plan) -> None:
    for port, who in plan.ports.items():
        with socket.socket() as probe:
            # A port of a connection that just closed is free for a server; without this it would look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise ConfigurationError(
                    f"Port {port}, for {who}, is taken: end what holds it (another `loopcast up`?), "
                    "or move all ports with --port-offset 100."
                ) from None


if sys.platform == "win32":
    raise ImportError("`loopcast up` needs a POSIX system; on Windows, use WSL.")
