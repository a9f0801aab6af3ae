"""The dashboard, in a real browser: what it says while it has nothing yet, the runs of all, and the way back to one."""

import asyncio
import datetime as dt
import json
import time

import httpx
import pytest
from browser import browsing
from msgspec.structs import replace

from loopcast.broker.clients import client_of
from loopcast.broker.publisher import Publisher
from loopcast.events import format_time
from loopcast.pulse import Pulse, to_message

VISIBLE = "((one) => Boolean(one?.offsetParent))"
WATCH = f"""
window.flashed = 0;
const look = () => {{
  window.flashed += {VISIBLE}(document.querySelector("#empty")) || {VISIBLE}(document.querySelector("#norun"));
  requestAnimationFrame(look);
}};
requestAnimationFrame(look);
"""
HELD = """
const asked = window.fetch;
const released = new Promise((resolve) => { window.release = resolve; });
window.fetch = async (path, ...more) => {
  if (String(path).includes("/events")) await released;
  return asked(path, ...more);
};
"""
REFUSED = """
const asked = window.fetch;
window.refusing = true;
window.fetch = async (path, ...more) =>
  window.refusing && String(path).includes("/events") ? new Response("{}", { status: 503 }) : asked(path, ...more);
"""


def shown(selector):
    """The texts of what can be seen of the elements that match, as an expression."""
    return f"[...document.querySelectorAll({selector!r})].filter({VISIBLE}).map((one) => one.innerText)"


def run_of(log, experiment, run, *kinds, started=None):
    """Events of one run, a second apart."""
    begun = started or dt.datetime.now(dt.UTC)
    times = [(begun + dt.timedelta(seconds=n)).isoformat().replace("+00:00", "Z") for n in range(len(kinds))]
    return [
        replace(log.event(experiment, {"event": kind, **data}), type=kind, run=run, time=time)
        for (kind, data), time in zip(kinds, times, strict=True)
    ]


START = ("loop_start", {"loop": "tune"})
END = ("loop_complete", {"terminated_by": "terminal"})
FAILURE = ("loop_complete", {"terminated_by": "max_steps", "error": "Too many"})


def state(name, iteration=1):
    return ("state_enter", {"state": name, "iteration": iteration})


@pytest.fixture
def browse(tmp_path):
    """Opens a page of a gateway in a browser."""
    return lambda gateway, path="/", **options: browsing(gateway.http + path, tmp_path / "browser", **options)


async def test_what_loads_is_not_nothing(start_gateway, feed, browse):
    """Until the history is there the page says that it loads, and at no moment that there are no events."""
    gateway = start_gateway()
    loading, after = [], []
    async with feed() as log:
        await log.publish(run_of(log, "tuning", "run-1", START, state("draft"), END))
        await log.settle(gateway)
        async with browse(gateway, before=HELD + WATCH) as page:
            for path in ("/", "/?again#tuning"):
                await page.call("Page.navigate", url=gateway.http + path)
                await page.until("document.querySelector('#state').innerText === 'live'")
                await page.key("2")
                words = await page.until(f"((t) => t.length && t)({shown('.loading')})")
                loading.append((words, await page.value("document.querySelector('#main').ariaBusy")))
                await page.value("window.release()")
                await page.until("document.querySelectorAll('#feed li').length === 3")
                after.append(
                    await page.value(f"[{shown('.loading')}, document.querySelector('#main').ariaBusy, window.flashed]")
                )

    assert [(["Loading \u2026"], "true")] * 2 == loading
    assert [[[], "false", 0]] * 2 == after


async def test_nothing_is_said_when_it_is_known(start_gateway, feed, browse):
    """Where there are no events the page says so, and how to send one to what was asked for."""
    gateway = start_gateway()
    async with feed(), browse(gateway, "/#it's%20new", before=WATCH) as page:
        text = await page.until(f"((t) => t.length && t)({shown('#empty')})")

    assert text[0].endswith("loopcast send 'it'\\''s new' hello")


async def test_a_history_that_cannot_be_read_is_asked_for_again(start_gateway, feed, browse):
    """A history that the gateway cannot give now is not called empty, and comes when it can be read."""
    gateway = start_gateway()
    async with feed() as log:
        await log.publish(run_of(log, "tuning", "run-1", START, state("draft"), END))
        await log.settle(gateway)
        async with browse(gateway, "/#tuning", before=REFUSED + WATCH) as page:
            [said] = await page.until(f"((t) => t.join('') && t)({shown('.failed')})")
            await page.value("window.refusing = false")
            await page.until("document.querySelectorAll('#feed li').length === 3")
            await page.until("document.querySelector('#status').innerText === 'completed'")
            after = await page.value(f"[{shown('.failed')}.join(''), window.flashed]")

    assert "The events from before cannot be read now. They are asked for again." == said
    assert ["", 0] == after


async def test_the_runs_of_all_and_the_way_back(start_gateway, feed, browse):
    """All runs are listed with what they do; each has an address, found by words, and Back comes back."""
    gateway = start_gateway()
    async with feed() as log:
        await log.publish(
            run_of(log, "tuning", "old", START, state("draft"), FAILURE)
            + run_of(log, "tuning", "new", START, state("draft"), END)
            + run_of(log, "a/b", "going", ("loop_start", {"loop": "sweep"}), state("score", 3))
        )
        await log.settle(gateway)
        async with browse(gateway) as page:
            await page.until(f"{shown('#overview tbody tr')}.length === 3")
            cells = await page.value(
                "[...document.querySelectorAll('#overview tbody tr')]"
                ".map((row) => [...row.cells].slice(0, 4).map((cell) => cell.innerText))"
            )
            tones = await page.value(
                "Object.fromEntries([...document.querySelectorAll('#experiments button')]"
                ".map(({ dataset }) => [dataset.experiment, dataset.tone ?? '']))"
            )
            await page.key("/")
            await page.call("Input.insertText", text="tuning interrupted")
            await page.until(f"{shown('#overview tbody tr')}.length === 1")
            await page.value("document.querySelector('#overview tbody td.started').click()")
            await page.until("document.querySelector('#status').innerText === 'interrupted'")
            there = await page.value("[location.hash, document.title, document.querySelector('#run').value]")
            await page.value("history.back()")
            await page.until(f"{shown('#overview tbody tr')}.length === 1")
            await page.call("Page.navigate", url=f"{gateway.http}/?anew#tuning/old")
            await page.until("document.querySelector('#status').innerText === 'interrupted'")
            await page.value("location.hash = '#tuning/nobody'")
            [strange] = await page.until(f"((t) => t.length && t)({shown('#strange')})")
            await page.value("document.querySelector('#newest').click()")
            await page.until("document.querySelector('#status').innerText === 'completed'")
            complaints = page.complaints

    assert [
        ["running", "sweep", "a/b", "score \u00b7 step 3"],
        ["completed", "tune", "tuning", ""],
        ["interrupted", "tune", "tuning", ""],
    ] == cells
    assert {"*": "", "a/b": "live", "tuning": "good"} == tones
    assert ["#tuning/old", "tuning \u00b7 Loopcast", "old"] == there
    assert strange.startswith("This run is not among the events that were loaded.")
    assert [] == complaints


async def test_a_run_that_goes_on_stands_before_hundreds_that_ended_since(start_gateway, feed, browse):
    """However many: what goes on is what one looks for, and a run that says nothing for an hour is easily the last."""
    gateway = start_gateway()
    async with feed() as log:
        await log.publish(run_of(log, "tuning", "patient", START, state("draft")))
        for n in range(210):
            await log.publish(run_of(log, "tuning", f"short-{n}", START, END))
        await log.settle(gateway)
        async with browse(gateway) as page:
            await page.until(f"{shown('#overview tbody tr')}.length === 200")
            await page.key("/")
            await page.call("Input.insertText", text="patient")
            await page.until(f"{shown('#overview tbody tr')}.length === 1")


async def test_the_bars_of_a_long_run_can_be_told_apart(start_gateway, feed, browse):
    """However long a run is, the bars are of the states that are in sight, and move on with them."""
    gateway = start_gateway()
    async with feed() as log:
        states = [state(f"state-{n}", n) for n in range(300)]
        await log.publish(run_of(log, "long", "run-1", START, *states, END))
        await log.settle(gateway)
        async with browse(gateway, "/#long") as page:
            await page.until("document.querySelectorAll('#states li').length === 300")
            await page.value("document.querySelector('#states').scrollTo(0, 0)")
            await page.until("parseFloat(document.querySelector('#states .bar').style.left) > 1")
            widths = json.loads(
                await page.value(
                    "JSON.stringify([...document.querySelectorAll('#states .bar')].slice(0, 10)"
                    ".map((bar) => parseFloat(bar.style.width)))"
                )
            )

    assert all(width > 2 for width in widths), widths


async def test_a_run_whose_process_was_killed_is_silent(start_gateway, feed, browse, vhost_url):
    """Its last pulse is minutes ago: the list of runs, the page of all runs and its own say so; the time stands."""
    gateway, ago = start_gateway(), time.time_ns() // 1000 - 200 * 10**6
    then = dt.datetime.fromtimestamp(ago / 1e6, dt.UTC)
    async with feed() as log, Publisher(client_of("loopcast"), vhost_url, name="pulses") as publisher:
        killed = run_of(log, "tuning", "run-1", START, state("draft"), started=then)
        await log.publish([replace(event, recorded_time=format_time(ago)) for event in killed])
        await log.publish(run_of(log, "tuning", "run-2", START, state("draft")))
        await publisher.wait_connected()
        blank = Pulse(experiment="tuning", run="", pid=1, host="h", emitter="e", recordedtime="")
        pulses = [replace(blank, run=run) for run in ("run-1", "run-2")]
        taken = (ago, time.time_ns() // 1000)
        messages = [to_message(one, log.topology.streams[0], at) for one, at in zip(pulses, taken, strict=True)]
        await publisher.publish(messages, timeout=30)
        # The pulses stand before this one in the log.
        await log.publish(run_of(log, "tuning", "run-2", state("check")))
        await log.settle(gateway)
        async with httpx.AsyncClient() as client:
            listed = (await client.get(f"{gateway.http}/v1/experiments/tuning/runs")).json()["runs"]
        async with browse(gateway) as page:
            await page.until(f"{shown('#overview tbody tr')}.length === 2")
            tags = await page.value(shown("#overview .tag"))
            await page.call("Page.navigate", url=f"{gateway.http}/#tuning/run-1")
            await page.until("document.querySelector('#status').innerText === 'silent'")
            facts = "document.querySelector('#facts').innerText.match(/elapsed\\s+(.+)/i)[1]"
            elapsed = [await page.value(facts)]
            await asyncio.sleep(1.2)
            elapsed.append(await page.value(facts))

    assert {("run-1", True), ("run-2", False)} == {(run["run"], run.get("silent", False)) for run in listed}
    assert ["running", "silent"] == sorted(tags)
    assert elapsed[0] == elapsed[1]


async def test_a_run_that_is_missing_events_says_so(start_gateway, feed, browse):
    """From 2 to 1,003: the pages of all runs and of the run say how many never came, and the feed while one looks."""
    gateway = start_gateway()
    async with feed() as log:
        events = [*run_of(log, "tuning", "run-1", START, state("draft"), state("check"), state("done"))]
        numbered = [
            replace(event, attempt=1, emitter="a" * 16, sequence=f"{n:020}")
            for event, n in zip(events, (1, 2, 1003, 1011), strict=True)
        ]
        await log.publish([*numbered[:3], *run_of(log, "tuning", "run-2", START)])
        await log.settle(gateway)
        async with browse(gateway) as page:
            await page.until(f"{shown('#overview tbody tr')}.length === 2")
            of_all = await page.value(shown("#overview .missing"))
            facts = "document.querySelector('#facts').innerText"
            await page.call("Page.navigate", url=f"{gateway.http}/#tuning/run-1")
            await page.until(f"{facts}.includes('events missing\\n1,000')")
            await page.call("Page.navigate", url=f"{gateway.http}/#tuning/run-2")
            await page.until(f"{facts}.includes('started') && !{facts}.includes('missing')")
            before = await page.value("document.querySelector('#feed').textContent.includes('never came')")
            await log.publish(numbered[3:])
            await page.until("document.querySelector('#feed').textContent.includes('7 events of tune never came')")

    assert (["1,000 events missing"], False) == ([text.strip() for text in of_all], before)
