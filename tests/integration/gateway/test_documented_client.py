"""The client that the documentation shows, run as it stands there."""

import asyncio
import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/architecture/resume.md"


async def numbers(process, count):
    """What the next `count` events that it prints carry."""
    async with asyncio.timeout(60):
        return [json.loads(await process.stdout.readline())["data"]["n"] for _ in range(count)]


async def test_it_misses_nothing_and_repeats_nothing(start_gateway, feed, tmp_path):
    """Over a gateway that asks it to leave and one that is killed: each event once, in order, and no complaint."""
    [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    script = tmp_path / "watch.py"
    script.write_text(source)
    gateway = start_gateway(ping_seconds=0.3)
    async with feed() as log:
        await log.send("exp-42", *({"n": n} for n in range(5)))
        await log.settle_events(gateway, "exp-42", 5)
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, gateway.ws, "exp-42", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            seen = await numbers(process, 5)
            for begin, leave in ((5, gateway.stop), (10, gateway.kill)):
                # Others' events in between, so that its position comes from a ping.
                await log.send("other", {"n": -1})
                await asyncio.sleep(0.7)
                await asyncio.to_thread(leave)
                await log.send("exp-42", *({"n": n} for n in range(begin, begin + 5)))
                gateway.begin()
                await asyncio.to_thread(gateway.wait_ready)
                seen += await numbers(process, 5)
        finally:
            if process.returncode is None:
                process.kill()
            _, said = await process.communicate()

    assert list(range(15)) == seen
    assert b"missing" not in said


async def test_what_is_refused_for_good_ends_it(start_gateway, feed, tmp_path):
    """An experiment id that is none is not asked for again and again."""
    [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    gateway = start_gateway()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, gateway.ws, "", stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()

    assert 1 == process.returncode
    assert b"experiment" in said
