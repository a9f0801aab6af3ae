"""Repeats, lanes and waiting, with a broker that settles when a test says so."""

import asyncio

import pytest
from ingest_bench import Bench, event, tick

from loopcast.broker.interface import Settlement
from loopcast.errors import BrokerBlocked, BrokerError, BrokerUnavailable, InvalidType, LogMissing
from loopcast.repeats import Repeats
from loopcast.routing import partition_of
from loopcast_producer import patience as patience_module
from loopcast_producer.envelopes import Origin, cloudevent
from loopcast_producer.numbering import Numbering
from loopcast_producer.patience import Patience


def given(experiment):
    """A CloudEvent of an experiment, with the one id."""
    raw = b'{"specversion":"1.0","id":"0192f0c1-0000-7000-8000-000000000001","source":"x","type":"t","data":{}}'
    return cloudevent(raw, Origin(experiment=experiment), max_bytes=1000)


def statuses(receipt):
    return [result.status for result in receipt.events]


async def test_nothing_is_accepted_before_the_confirm():
    """The result waits for the broker."""
    async with Bench() as bench:
        receipt, task = bench.begin(event(None))
        await tick()
        assert ([], False) == (receipt.events, task.done())
        bench.link.confirm()
        await task

    assert ["accepted"] == statuses(receipt)


async def test_a_repeat_waits_for_the_first():
    """The same id while the first is unconfirmed publishes nothing and is a duplicate when the first is confirmed."""
    async with Bench() as bench:
        first, task = bench.begin(event(), named=True)
        await tick()
        second, again = bench.begin(event(), named=True)
        await tick()
        assert (1, False) == (len(bench.link.messages), again.done())
        bench.link.confirm()
        await asyncio.gather(task, again)
        third, later = bench.begin(event(), named=True)
        await later

    assert [["accepted"], ["duplicate"], ["duplicate"]] == [statuses(r) for r in (first, second, third)]
    assert 1 == len(bench.link.messages)


async def test_a_repeat_of_what_failed_is_published_again():
    """An id that the broker returned or rejected is not remembered."""
    async with Bench() as bench:
        for settlement, error in ((Settlement.RETURNED, LogMissing), (Settlement.REJECTED, BrokerUnavailable)):
            receipt, task = bench.begin(event(), named=True)
            await tick()
            bench.link.confirm(len(bench.link.messages), settlement)
            with pytest.raises(error):
                await task
            assert [] == receipt.events
        receipt, task = bench.begin(event(), named=True)
        await tick()
        bench.link.confirm()
        await task

    assert (["accepted"], 3) == (statuses(receipt), len(bench.link.messages))


async def test_a_timeout_keeps_the_id(monkeypatch):
    """What was not confirmed in time may land: the same id waits on, and is a duplicate once it did."""
    monkeypatch.setattr(patience_module, "SWEEP_SECONDS", 0.01)
    async with Bench(seconds=0.05) as bench:
        receipt, task = bench.begin(event(), named=True)
        with pytest.raises(BrokerUnavailable, match="may still land"):
            await task
        bench.link.blocked = "low on memory"
        receipt, task = bench.begin(event(), named=True)
        with pytest.raises(BrokerBlocked):
            await task
        bench.link.blocked = None
        bench.link.confirm()
        await tick()
        receipt, task = bench.begin(event(), named=True)
        await task

    assert (["duplicate"], 1) == (statuses(receipt), len(bench.link.messages))


async def test_the_same_id_twice_in_one_request():
    """Of two equal ids in one batch one is published; another source's or experiment's id is another."""
    async with Bench() as bench:
        items = [event(), event(), event(experiment="other"), event(run="r")]
        receipt, task = bench.begin(*items, named=True)
        await tick()
        bench.link.confirm()
        await task

    assert ["accepted", "duplicate", "accepted", "accepted"] == statuses(receipt)
    assert 3 == len(bench.link.messages)


async def test_experiments_may_use_the_same_ids():
    """A CloudEvent's UUID in two experiments means two events: in one request, unsettled, and later."""
    async with Bench() as bench:
        batch, task = bench.begin(given("a"), given("b"), given("a"), named=True)
        later, again = bench.begin(given("b"), given("c"), named=True)
        await tick()
        bench.link.confirm()
        await asyncio.gather(task, again)
        last, task = bench.begin(given("c"), given("d"), named=True)
        await tick()
        bench.link.confirm()
        await task

    assert [["accepted", "accepted", "duplicate"], ["duplicate", "accepted"], ["duplicate", "accepted"]] == [
        statuses(receipt) for receipt in (batch, later, last)
    ]
    assert ["a", "b", "c", "d"] == [message.headers["experiment"] for message in bench.link.messages]


async def test_numbers_are_in_the_order_of_publishing():
    """However requests overlap, the numbers of a run stand in the window in their order, without a hole."""
    async with Bench() as bench:
        tasks = [bench.begin(event(None, run="r"), event(None, run=f"r{n}"))[1] for n in range(20)]
        await tick()
        bench.link.confirm()
        await asyncio.gather(*tasks)

    by_run = {}
    for message in bench.link.messages:
        by_run.setdefault(message.headers["run"], []).append(message.headers["sequence"])
    assert list(range(1, 21)) == by_run.pop("r")
    assert {(1,)} == set(map(tuple, by_run.values()))
    recorded = [message.headers["recorded"] for message in bench.link.messages]
    assert sorted(set(recorded)) == recorded


async def test_a_batch_over_the_bound_of_runs_is_dropped_by_no_reader():
    """Where the table of runs starts anew in the middle of a batch, each event has the emitter its number is of."""
    async with Bench() as bench:
        bench.lanes[0]._numbering = Numbering(max_runs=2)
        batches = [["a"] * 5, ["b"], ["a", "c", "a"], ["a"] * 4]
        tasks = [bench.begin(*(event(None, run=run) for run in batch))[1] for batch in batches]
        await tick()
        bench.link.confirm()
        await asyncio.gather(*tasks)

    repeats = Repeats()
    keys = [(m.headers["run"], m.headers["emitter"], m.headers["sequence"]) for m in bench.link.messages]
    assert [] == [key for key in keys if repeats.seen(*key, "")]
    assert (13, 2) == (len(keys), len({emitter for _, emitter, _ in keys}))


async def test_what_was_not_sent_takes_no_number():
    """A refusal before anything was sent leaves no hole in the numbers."""
    async with Bench() as bench:
        bench.link.blocked = "alarm"
        for _ in range(3):
            with pytest.raises(BrokerBlocked):
                await bench.begin(event(None, run="r"), event(None, run="r"))[1]
        bench.link.blocked = None
        _, task = bench.begin(event(None, run="r"))
        await tick()
        bench.link.confirm()
        await task

    assert [1] == [message.headers["sequence"] for message in bench.link.messages]


async def test_each_partition_has_an_emitter_of_its_own():
    """Numbers that reach readers by two windows could overtake each other: a run in both has two emitters."""
    async with Bench(partitions=2) as bench:
        items = [event(None, experiment=f"e{n}", run="r") for n in range(10)]
        receipt, task = bench.begin(*items)
        await tick()
        for client in bench.clients:
            client.link.confirm()
        await task

    emitters = [{m.headers["emitter"] for m in client.link.messages} for client in bench.clients]
    assert [1, 1] == list(map(len, emitters))
    assert emitters[0] != emitters[1]
    assert [[*range(1, len(c.link.messages) + 1)] for c in bench.clients] == [
        [m.headers["sequence"] for m in c.link.messages] for c in bench.clients
    ]
    assert ["accepted"] * 10 == statuses(receipt)


async def test_one_partition_in_trouble_tells_what_the_other_took():
    """What was confirmed is in the receipt, although the request as a whole is refused."""
    async with Bench(partitions=2) as bench:
        items = [event(None, experiment=f"e{n}") for n in range(10)]
        receipt, task = bench.begin(*items, InvalidType("bad"))
        await tick()
        bench.clients[0].link.confirm()
        bench.clients[1].link.confirm(settlement=Settlement.RETURNED)
        with pytest.raises(LogMissing):
            await task

    assert len(bench.clients[0].link.messages) == receipt.accepted
    assert 0 < receipt.accepted < 10
    assert 1 == receipt.invalid


async def test_who_waits_in_vain_is_told_of_its_own_partition(monkeypatch):
    """The reason is that of the partition the event went to, and a repeat's that of the first."""
    monkeypatch.setattr(patience_module, "SWEEP_SECONDS", 0.01)
    async with Bench(partitions=2, seconds=0.05) as bench:
        for n in range(2):
            item = event(experiment=next(str(e) for e in range(99) if partition_of(str(e), 2) == n))
            _, first = bench.begin(item, named=True)
            await tick()
            bench.clients[n].link.blocked = "low on memory"
            _, again = bench.begin(item, named=True)
            errors = await asyncio.gather(first, again, return_exceptions=True)
            bench.clients[n].link.blocked = None
            assert [BrokerBlocked, BrokerBlocked] == list(map(type, errors))


async def test_what_a_lost_log_had_is_taken_again():
    """Once a log is seen to be gone, by a returned event or by looking, what it had confirmed is no repeat."""
    async with Bench() as bench:
        _, task = bench.begin(event("before"), named=True)
        await tick()
        bench.link.confirm()
        await task
        batch = [event("before"), event("first"), event("second")]
        receipt, task = bench.begin(*batch, named=True)
        await tick()
        bench.link.confirm(2)
        bench.link.confirm(3, Settlement.RETURNED)
        with pytest.raises(LogMissing):
            await task
        again, task = bench.begin(*batch, named=True)
        await tick()
        bench.link.confirm()
        await task
        bench.watch.missing = frozenset({"loopcast.log.0"})
        with pytest.raises(LogMissing):
            await bench.begin(event("more"), named=True)[1]
        bench.watch.missing = frozenset()
        last, task = bench.begin(*batch, named=True)
        await tick()
        bench.link.confirm()
        await task

    assert ["duplicate", "accepted"] == statuses(receipt)
    assert [["accepted"] * 3] * 2 == [statuses(again), statuses(last)]


async def test_a_missing_log_takes_nothing():
    """While the log is known to be missing nothing is published."""
    async with Bench() as bench:
        bench.watch.missing = frozenset({"loopcast.log.0"})
        with pytest.raises(LogMissing):
            await bench.begin(event(None))[1]

    assert [] == bench.link.messages


async def test_a_publisher_that_closes_refuses_those_who_wait():
    """The end of the process is told to whoever still waits."""
    async with Bench() as bench:
        _, task = bench.begin(event(), named=True)
        await tick()
    with pytest.raises(BrokerError):
        await task


async def test_patience_wakes_in_time_and_cancels_nothing(monkeypatch):
    """Who waits too long is told; what it waited for goes on, for others."""
    monkeypatch.setattr(patience_module, "SWEEP_SECONDS", 0.01)
    patience = Patience(0.05)
    awaited = asyncio.get_running_loop().create_future()

    assert [False, False] == await asyncio.gather(patience.wait(awaited), patience.wait(awaited))
    assert not awaited.done()
    waiting = asyncio.create_task(patience.wait(awaited))
    await tick()
    awaited.set_result(None)

    assert await waiting
    assert await patience.wait(awaited)
    await asyncio.sleep(0.1)
    assert (0, None) == (len(patience._waiting), patience._timer)


async def test_who_gave_up_leaves_nothing_behind(monkeypatch):
    """However often what is in flight is tried again while the broker is away, it costs no more memory."""
    monkeypatch.setattr(patience_module, "SWEEP_SECONDS", 0.001)
    async with Bench(seconds=0.001) as bench:
        _, task = bench.begin(event(), named=True)
        with pytest.raises(BrokerUnavailable):
            await task
        settlements = next(iter(bench.repeats._unsettled.values())).settlements
        before = len(settlements._callbacks)
        for _ in range(20):
            _, task = bench.begin(event(), named=True)
            with pytest.raises(BrokerUnavailable):
                await task
        cancelled = bench.begin(event(), named=True)[1]
        await tick()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        after = len(settlements._callbacks)

    assert before == after == 1
