"""A headless Chromium driven over its DevTools protocol."""

import asyncio
import contextlib
import itertools
import json
import shutil
import time

import pytest
from websockets.asyncio.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """One page: its address, its elements, its keys, and what it complained of."""

    def __init__(self, socket):
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers = {}
        self.complaints = []

    async def listen(self):
        async for message in self._socket:
            said = json.loads(message)
            if said.get("id") in self._answers:
                answer = self._answers.pop(said["id"])
                if not answer.done():
                    answer.set_result(said)
            elif said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(said["params"]["exceptionDetails"])

    async def call(self, method, **parameters):
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        found = await asyncio.wait_for(answer, 20)
        assert "error" not in found, found
        return found["result"]

    async def value(self, expression):
        """What a JavaScript expression gives."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def text(self, selector):
        return await self.value(f"document.querySelector({json.dumps(selector)})?.innerText")

    async def until(self, expression, timeout=40):
        """Wait until an expression is true; its value. One that fails is not true yet: the page may be loading."""
        deadline, why = time.monotonic() + timeout, ""
        while True:
            try:
                if found := await self.value(expression):
                    return found
            except AssertionError as error:
                why = f", it failed: {error}"
            if time.monotonic() >= deadline:
                state = await self.value("[document.visibilityState, document.readyState, document.body?.innerText]")
                raise AssertionError(f"{expression} did not become true{why}; the page: {state}")
            await asyncio.sleep(0.05)

    async def key(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, **text, **more)


@contextlib.asynccontextmanager
async def browsing(url, folder, *, size="1200,800", before=""):
    """A page of a browser of its own at `url`, where a script ran `before` those of the page."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium")
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
    process = await asyncio.create_subprocess_exec(
        program, *options, f"--window-size={size}", f"--user-data-dir={folder}", "about:blank",
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(40):
            while b"DevTools listening on " not in (line := await process.stderr.readline()):
                assert line, "the browser did not start"
        address = line.decode().split("listening on ")[1].strip()
        drain = asyncio.create_task(process.stderr.read())
        async with connect(address, max_size=None) as control:
            await control.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            target = json.loads(await control.recv())["result"]["targetId"]
            port = address.split("/devtools")[0]
            async with connect(f"{port}/devtools/page/{target}", max_size=None) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                await page.call("Runtime.enable")
                await page.call("Page.enable")
                # A page behind another one draws nothing: it gets no animation frames.
                await page.call("Page.bringToFront")
                await page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
                await page.call("Page.navigate", url=url)
                yield page
                listening.cancel()
        drain.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
