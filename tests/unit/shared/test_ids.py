"""Event ids and emitters."""

import os
import re
import threading
import time
import uuid

import pytest

from loopcast import ids


def test_uuid7_layout() -> None:
    """An id is a UUID of version 7 that carries the time in milliseconds."""
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(ids.uuid7())

    assert 7 == made.version
    assert uuid.RFC_4122 == made.variant
    assert abs((made.int >> 80) - before) < 60_000


def test_uuid7_sorts() -> None:
    """Ids of one process sort as text in the order in which they were made, across milliseconds and within."""
    made = [ids.uuid7() for _ in range(20_000)]

    assert sorted(set(made)) == made


def test_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back makes no id smaller than the last one."""
    first = ids.uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 0)

    assert first < ids.uuid7()


def test_more_than_a_millisecond_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still makes ids that differ and sort, also beyond the 4,096 that a millisecond counts."""
    still = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: still)
    made = [ids.uuid7() for _ in range(10_000)]

    assert sorted(set(made)) == made
    assert {(7, uuid.RFC_4122)} == {(uuid.UUID(id_).version, uuid.UUID(id_).variant) for id_ in made}


def test_threads() -> None:
    """Threads that make ids at once never make one twice."""
    made: list[list[str]] = [[] for _ in range(4)]

    def fill(mine: list[str]) -> None:
        mine.extend(ids.uuid7() for _ in range(2_000))

    threads = [threading.Thread(target=fill, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8_000 == len({id_ for mine in made for id_ in mine})


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork() -> None:
    """A process forked while another thread made an id can still make its own."""
    with ids._lock:
        child = os.fork()
        if child == 0:
            free = ids._lock.acquire(timeout=2)
            os._exit(0 if free else 1)
    _, status = os.waitpid(child, 0)

    assert 0 == os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_in_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that was forked in the middle of a millisecond makes other ids in it than its parent."""
    still = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: still)
    ids.uuid7()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(ids.uuid7() for _ in range(50)).encode())
        os._exit(0)
    mine = {ids.uuid7() for _ in range(50)}
    os.waitpid(child, 0)
    others = os.read(reading, 50 * 36).decode()
    os.close(reading)
    os.close(writing)

    assert 100 == len(mine | {others[at : at + 36] for at in range(0, len(others), 36)})


def test_emitter() -> None:
    """An emitter is 16 hexadecimal digits, another each time."""
    one, other = ids.new_emitter(), ids.new_emitter()

    assert re.fullmatch("[0-9a-f]{16}", one)
    assert one != other


def test_suffix() -> None:
    """A run's suffix is 6 hexadecimal digits, another nearly each time."""
    assert re.fullmatch("[0-9a-f]{6}", ids.new_suffix())
    assert len({ids.new_suffix() for _ in range(20)}) > 10
