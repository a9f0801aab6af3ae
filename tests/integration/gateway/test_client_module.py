"""The web client, as others import it: in Node, and in a browser."""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

STATIC = Path(__file__).parents[3] / "services/gateway/src/loopcast_gateway/static"
CLIENT = STATIC / "client.js"

FOLLOW = """
const { LoopcastClient } = await import(process.argv[1]);
const [, , url, count] = process.argv;
const seen = [], states = [], gaps = [];
const client = new LoopcastClient(url, { min: 20, max: 200, onState: (s) => states.push(s),
                                          onGap: (r) => gaps.push(r) });
const subscription = client.follow("js", { from: "earliest", onEvent: ({ data }) => {
  seen.push(data.n);
  if (seen.length === 1) console.log("first");
  if (data.n === Number(count) - 1) {
    setTimeout(() => {
      console.log(JSON.stringify({ seen, gaps, connections: states.filter((s) => s === "connected").length,
                                   positions: subscription.positions, live: subscription.live }));
      client.stop();
    }, 300);
  }
} });
client.start();
"""

ASK = """
const { LoopcastClient } = await import(process.argv[1]);
const client = new LoopcastClient(process.argv[2], { onState: async (state) => {
  if (state !== "connected") return;
  const oldest = await client.replay("js-ask", { limit: 2 });
  const rest = await client.replay("js-ask", { after: oldest.next });
  const stats = await client.stats();
  const refused = await client.replay("js-ask", { after: "x" }).catch((error) => [error.name, error.temporary]);
  console.log(JSON.stringify({ oldest, rest, connections: stats.total_connections, refused }));
  client.stop();
} }).start();
"""

RULES = """
const { backoff, reconnects } = await import(process.argv[1]);
const waits = [0, 1, 5, 50].map((tries) => [0, 0.5, 0.999].map((random) => backoff(tries, { random: () => random })));
const codes = [1000, 1002, 1006, 1012, 4003, 4008, 4500, 4509].filter(reconnects);
console.log(JSON.stringify({ waits, codes }));
"""


def node_command(script, *arguments):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    flags = ["--experimental-websocket", "--no-warnings", "--input-type=module"]
    return ["node", *flags, "-e", script, "--", CLIENT.as_uri(), *arguments]


def run(script, *arguments):
    done = subprocess.run(node_command(script, *arguments), capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


class Cable:
    """A proxy whose connections can be cut."""

    def __init__(self, port):
        self._target = port
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        self.cut()

    def cut(self):
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        near, far = writer, None
        with contextlib.suppress(OSError):
            back, far = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {near, far}
            await asyncio.gather(self._pump(reader, far), self._pump(back, near))
        self._writers -= {near, far}

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_it_comes_back_where_it_was(gateway, feed):
    """A client whose connection is cut again and again gets every event once, in order, and hears of no gap."""
    total = 400
    async with feed() as log, Cable(gateway.port) as cable:
        await log.send("js", {"n": 0})
        process = await asyncio.create_subprocess_exec(
            *node_command(FOLLOW, cable.url, str(total)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert b"first\n" == await asyncio.wait_for(process.stdout.readline(), 30)
        for n in range(1, total):
            await log.send("js", {"n": n})
            if n % 80 == 0:
                cable.cut()
                await asyncio.sleep(0.3)
        out, errors = await asyncio.wait_for(process.communicate(), 60)

    found = json.loads(out)
    assert b"" == errors
    assert list(range(total)) == found["seen"]
    assert [] == found["gaps"]
    assert found["connections"] >= 4
    assert found["live"]
    assert [26] == [len(pos) for pos in found["positions"]]


async def test_it_asks(gateway, feed):
    """Replays and numbers are promises; a refusal is an error that says what and whether to try again."""
    async with feed() as log:
        await log.send("js-ask", *({"n": n} for n in range(5)))
        await log.settle_events(gateway, "js-ask", 5)
        found = await asyncio.to_thread(run, ASK, gateway.ws)

    assert [0, 1] == [one["event"]["data"]["n"] for one in found["oldest"]["events"]]
    assert [2, 3, 4] == [one["event"]["data"]["n"] for one in found["rest"]["events"]]
    assert (False, True) == (found["oldest"]["complete"], found["rest"]["complete"])
    assert ["bad_request", False] == found["refused"]
    assert found["connections"] >= 1


def test_it_comes_back_with_full_jitter():
    """Waits grow to a ceiling and spread from a floor to it; codes that cannot be mended by coming back end it."""
    from loopcast_gateway.close_codes import reconnects

    found = run(RULES)

    assert [[250, 500, 749.5], [250, 750, 1249], [250, 8250, 16234], [250, 10250, 20230]] == found["waits"]
    assert [code for code in (1000, 1002, 1006, 1012, 4003, 4008, 4500, 4509) if reconnects(code)] == found["codes"]


async def test_pages_of_others_may_import_it(gateway):
    """The module and its types come from the gateway, to any origin; the page is nobody else's to read."""
    async with httpx.AsyncClient(base_url=gateway.http) as client:
        module, types, page = [await client.get(f"/static/{name}") for name in ("client.js", "client.d.ts", "page.js")]

    assert "*" == module.headers["access-control-allow-origin"] == types.headers["access-control-allow-origin"]
    assert "access-control-allow-origin" not in page.headers
    assert "text/javascript; charset=utf-8" == module.headers["content-type"]


def test_the_types_name_what_there_is():
    """Every export of the module has a type, and every method."""
    source, types = CLIENT.read_text(encoding="utf-8"), (STATIC / "client.d.ts").read_text(encoding="utf-8")
    exports = set(re.findall(r"^export (?:class|function|const) (\w+)", source, re.MULTILINE))
    body = source[source.index("export class LoopcastClient") :]
    methods = set(re.findall(r"^  (?!constructor|get |if |for )([a-z]\w+)\(", body, re.MULTILINE))

    assert exports <= set(re.findall(r"^export (?:class|function|const|declare class) (\w+)", types, re.MULTILINE))
    assert {"start", "stop", "follow", "unfollow", "replay", "stats"} == methods
    assert all(f"  {method}(" in types for method in methods)
