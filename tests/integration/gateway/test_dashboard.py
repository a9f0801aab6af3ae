"""The dashboard, in a real browser: what it shows, and that it claims no more than it knows."""

import asyncio
import datetime as dt
import json
import os
import signal
from pathlib import Path

import msgspec
import pytest
from browser import browsing
from msgspec.structs import replace

from loopcast.trace_ids import trace_id

FINISHED = msgspec.Raw(b'{"event":"loop_complete","terminated_by":"terminal","failure_terminal":false}')
STREAMS = Path(__file__).parents[2] / "fixtures/streams"


def text_of(selector):
    """The text of an element, as an expression that can be compared."""
    return f"(document.querySelector({selector!r})?.innerText ?? '')"


async def play(log, experiment, name, *, lines=None, run="run-1"):
    """Publish a recorded stream as it came from little-loops."""
    events = []
    for line in (STREAMS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:lines]:
        data = json.loads(line)
        time = dt.datetime.fromisoformat(data["ts"]).isoformat().replace("+00:00", "Z")
        events.append(replace(log.event(experiment, data), type=data["event"], run=run, time=time))
    await log.publish(events)
    return events


@pytest.fixture
def browse(tmp_path):
    """Opens a page of a gateway in a browser."""
    return lambda gateway, path="/", **options: browsing(gateway.http + path, tmp_path / "browser", **options)


async def test_everything_begins_with_the_last_events(start_gateway, feed, browse):
    """The feed of all experiments shows what was there before the page, then what comes, each once, newest first."""
    gateway = start_gateway()
    async with feed() as log:
        await log.send("one", *({"n": n} for n in range(3)))
        await log.send("two", {"n": 3})
        await log.settle(gateway)
        async with browse(gateway) as page:
            await page.until("document.querySelectorAll('#feed li').length === 4")
            await page.key("2")
            await page.until(text_of("#state") + " === 'live'")
            await log.send("one", {"n": 4})
            await page.until("document.querySelectorAll('#feed li').length === 5")
            rows = await page.value("[...document.querySelectorAll('#feed .data')].map((one) => one.textContent)")
            names = await page.value("[...document.querySelectorAll('#experiments .name')].map((one) => one.innerText)")
            complaints = page.complaints

    assert [f"n={n}" for n in (4, 3, 2, 1, 0)] == rows
    assert ["All experiments", "one", "two"] == sorted(names, key=str.lower)
    assert [] == complaints


async def test_a_run_links_to_its_trace(start_gateway, feed, browse):
    """Where the backend's address is known, a run has a link to its trace; elsewhere there is none."""
    linking, plain = start_gateway(trace_url="https://traces.example/trace/{trace_id}"), start_gateway()
    shown = []
    async with feed() as log:
        await play(log, "tuning", "demo-parent")
        for gateway in (linking, plain):
            await log.settle(gateway)
            async with browse(gateway, "/#tuning") as page:
                await page.until(text_of("#states"))
                if gateway is linking:
                    await page.until("!document.querySelector('#trace').hidden")
                shown.append(
                    await page.value("[document.querySelector('#trace').hidden, document.querySelector('#trace').href]")
                )

    assert [[False, f"https://traces.example/trace/{trace_id('tuning', 'run-1').hex()}"], [True, ""]] == shown


async def test_a_run_with_its_sub_loop(start_gateway, feed, browse):
    """A run shows its states with those of the sub-loop inside, output, verdicts and tokens, and goes on live."""
    gateway = start_gateway()
    async with feed() as log:
        events = await play(log, "tuning", "demo-parent", lines=37)
        await log.settle(gateway)
        async with browse(gateway, "/#tuning") as page:
            await page.until(text_of("#states"))
            states = await page.value("[...document.querySelectorAll('#states .name')].map((one) => one.innerText)")
            await page.value("document.querySelector('#states button').click()")
            output = await page.text("#output")
            action = await page.text("#action")
            facts = await page.text("#facts")
            end = replace(
                log.event("tuning", {}), type="loop_complete", data=FINISHED, run="run-1", time=events[-1].time
            )
            await log.publish([end])
            await page.until(text_of("#status") + " === 'completed'")
            complaints = page.complaints

    assert "draft" == states[0]
    assert "demo-child \u203a probe" in states
    assert states.index("sub") < states.index("demo-child \u203a probe")
    assert "Variant A: be concise\nSCORE: 0.82" == output
    assert "Write variant of the prompt and score it" == action
    assert "1,234" in facts
    assert "verdict yes" in facts
    assert [] == complaints


async def test_what_is_known_of_the_connection(start_gateway, feed, browse):
    """With the gateway stopped, the page says so, and does not claim that the broker is connected; back, it goes on."""
    gateway = start_gateway(ping_seconds=0.3)
    async with feed() as log, browse(gateway) as page:
        await page.until(text_of("#broker") + " === 'broker connected'")
        os.kill(gateway.process.pid, signal.SIGSTOP)
        try:
            await page.until(text_of("#state") + ".startsWith('gateway lost')")
            broker = await page.text("#broker")
            said = await page.value("document.querySelector('#announce').textContent")
        finally:
            os.kill(gateway.process.pid, signal.SIGCONT)
        await page.until(text_of("#state") + " === 'live'", 40)
        await page.until(text_of("#broker") + " === 'broker connected'")
        await log.send("back", {"n": 1})
        await page.until("document.querySelectorAll('#feed li').length === 1")

    assert ("broker: not known", "gateway lost") == (broker, said)


async def test_a_broker_that_is_away_is_another_thing(start_gateway, feed, browse, broker):
    """With the broker stopped, the gateway is still live, and the page says that it is the broker that is away."""
    gateway = start_gateway()
    async with feed(), browse(gateway) as page:
        await page.until(text_of("#broker") + " === 'broker connected'")
        broker.stop()
        try:
            await page.until(text_of("#broker") + ".startsWith('broker away')", 40)
            state = await page.text("#state")
        finally:
            await asyncio.to_thread(broker.start)
        await page.until(text_of("#broker") + " === 'broker connected'", 60)

    assert "live" == state


async def test_filter_pause_and_keys(start_gateway, feed, browse):
    """The feed is filtered by types and words, held by a key, and opened by the keyboard alone."""
    gateway = start_gateway()
    async with feed() as log:
        await play(log, "tuning", "demo-parent")
        await log.settle(gateway)
        async with browse(gateway) as page:
            await page.until("document.querySelectorAll('#feed li').length > 10")
            await page.key("2")
            await page.key("/")
            focused = await page.value("document.activeElement.id")
            await page.call("Input.insertText", text="action_* -action_output fake-model")
            kinds = await page.until("[...document.querySelectorAll('#feed .type')].map((one) => one.textContent)")
            await page.value("document.querySelector('#filter').value = ''")
            await page.value("document.querySelector('#filter').dispatchEvent(new Event('input'))")
            await page.key("Escape")
            await page.key("p")
            await log.send("tuning", {"held": 1})
            await page.until(text_of("#pause") + ".startsWith('Resume (1')")
            await page.key("p")
            await page.until("document.querySelector('#feed .data').textContent === 'held=1'")
            await page.value("document.querySelector('#feed li').focus()")
            await page.key("Enter")
            opened = await page.value("document.querySelector('#feed li').getAttribute('aria-expanded')")
            await page.key("?")
            keys = await page.value("document.querySelector('#keys').open")

    assert "filter" == focused
    assert {"action_complete"} == set(kinds)
    assert ("true", True) == (opened, keys)


@pytest.mark.parametrize("path", ["/", "/#tuning"])
async def test_it_fits_a_phone(start_gateway, feed, browse, path):
    """At the width of a phone nothing sticks out of the page."""
    gateway = start_gateway()
    async with feed() as log:
        await play(log, "tuning", "demo-parent")
        await log.settle(gateway)
        async with browse(gateway, path) as page:
            metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
            await page.call("Emulation.setDeviceMetricsOverride", **metrics)
            await page.until("document.querySelectorAll('#feed li, #states li').length > 5")
            width = await page.value("document.documentElement.scrollWidth")
            hidden = await page.value(
                "[...document.querySelectorAll('header *, section *')].filter((one) => one.offsetParent &&"
                " one.getBoundingClientRect().right > 361 && !one.closest('pre, #feed, #states')).map((one) => one.id)"
            )

    assert 360 == width
    assert [] == hidden
