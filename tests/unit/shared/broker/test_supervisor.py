"""The supervisor: one link at a time, for as long as it is asked to, and one line of log an outage."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from loopcast.broker.supervisor import Backoff, Supervisor
from loopcast.errors import BrokerError, BrokerUnavailable, LogMissing

FAST = Backoff(first=0.001, cap=0.002)


class FakeLink:
    """A link that goes when the test says so."""

    def __init__(self) -> None:
        self.gone: asyncio.Future[BrokerError | None] = asyncio.get_running_loop().create_future()

    async def wait_closed(self) -> BrokerError | None:
        return await asyncio.shield(self.gone)

    async def close(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


class FakeBroker:
    """Refuses with the errors it is given, then accepts."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.links: list[FakeLink] = []
        self.tries = 0

    async def connect(self) -> FakeLink:
        self.tries += 1
        if self.refusals:
            raise self.refusals.pop(0)
        self.links.append(FakeLink())
        return self.links[-1]


async def test_it_tries_until_it_is_connected() -> None:
    """Refusals are followed by other tries, and the reason is there to be read meanwhile."""
    broker = FakeBroker(BrokerUnavailable("away"), BrokerUnavailable("still away"))
    downs: list[str] = []
    supervisor = Supervisor(broker.connect, name="t", on_down=lambda e: downs.append(str(e)), backoff=FAST)

    supervisor.start()
    link = await supervisor.wait_connected()

    assert broker.links == [link]
    assert ["away", "still away"] == downs
    assert (True, None, 0) == (supervisor.connected, supervisor.reason, supervisor.losses)
    await supervisor.close()


async def test_a_lost_link_is_replaced() -> None:
    """Each link is announced before anybody waits for it, and a loss is counted."""
    broker = FakeBroker()
    ups: asyncio.Queue[FakeLink] = asyncio.Queue()
    supervisor = Supervisor(broker.connect, name="t", on_up=ups.put_nowait, backoff=FAST)
    supervisor.start()
    first = await ups.get()

    first.gone.set_result(BrokerUnavailable("cut"))
    second = await ups.get()

    assert broker.links == [first, second]
    assert second is await supervisor.wait_connected()
    assert 1 == supervisor.losses
    await supervisor.close()


async def test_closing_closes_the_link() -> None:
    """After `close` there is no link and nothing tries to make one."""
    broker = FakeBroker()
    supervisor = Supervisor(broker.connect, name="t", backoff=FAST)
    supervisor.start()
    link = await supervisor.wait_connected()

    await supervisor.close()
    await supervisor.close()

    assert link.gone.done()
    assert (False, 1) == (supervisor.connected, broker.tries)


async def events_of(broker: FakeBroker, links: int = 1) -> list[str]:
    """What is logged while `links` links are made, all but the last of which die at once."""
    downs: asyncio.Queue[BrokerError] = asyncio.Queue()
    with capture_logs() as logs:
        supervisor = Supervisor(
            broker.connect, name="t", on_down=downs.put_nowait, backoff=Backoff(first=0.0001, cap=60.0), steady=0.05
        )
        supervisor.start()
        for _ in range(links - 1):
            (await supervisor.wait_connected()).gone.set_result(LogMissing("no exchange"))
            await downs.get()
        await supervisor.wait_connected()
        await asyncio.sleep(0.1)
        await supervisor.close()
    return [line["event"] for line in logs]


async def test_an_outage_is_logged_once() -> None:
    """However many tries an outage takes, it is one line when it begins and one when it ends."""
    broker = FakeBroker(*[BrokerUnavailable("away") for _ in range(5)])

    assert ["broker_unavailable", "broker_connected"] == await events_of(broker)


async def test_another_kind_of_outage_is_another_line() -> None:
    """A broker that is back but lacks the log is said to."""
    broker = FakeBroker(BrokerUnavailable("away"), LogMissing("no log"), LogMissing("no log"))

    assert ["broker_unavailable", "log_missing", "broker_connected"] == await events_of(broker)


async def test_links_that_die_at_once_are_one_outage() -> None:
    """What is made and lost again and again, such as a publisher without its exchange, fills no log."""
    assert ["log_missing", "broker_connected"] == await events_of(FakeBroker(), links=6)


async def test_a_connection_without_trouble_is_not_worth_a_line() -> None:
    """Nothing is logged where the first try succeeds."""
    assert [] == await events_of(FakeBroker())


async def test_a_defect_does_not_stop_the_tries() -> None:
    """An error that nobody foresaw is logged with its traceback, and the next try is made all the same."""
    broker = FakeBroker(ValueError("a defect"))
    with capture_logs() as logs:
        supervisor = Supervisor(broker.connect, name="t", backoff=FAST)
        supervisor.start()
        await supervisor.wait_connected()
        await supervisor.close()

    assert "broker_connect_failed" == logs[0]["event"]
    assert logs[0]["exc_info"]


async def test_a_link_that_dies_at_once_is_not_made_again_at_once() -> None:
    """The wait keeps growing over links that did not last, as over refusals."""
    waits: list[float] = []

    class Recording(Backoff):
        def delay(self, tries: int, chance: float) -> float:
            waits.append(self.ceiling(tries))
            return 0.0 * chance

    broker = FakeBroker()
    downs: asyncio.Queue[BrokerError] = asyncio.Queue()
    supervisor = Supervisor(broker.connect, name="t", on_down=downs.put_nowait, backoff=Recording())
    supervisor.start()
    for _ in range(4):
        link = await supervisor.wait_connected()
        link.gone.set_result(BrokerUnavailable("cut"))
        await downs.get()
    await supervisor.wait_connected()

    assert [0.1, 0.2, 0.4, 0.8] == waits
    await supervisor.close()
