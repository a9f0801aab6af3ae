"""When what is missing is told of, and how much of it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loopcast.holes import EVERY_SECONDS, Hole, Holes, Missing


def test_the_first_is_told_at_once_and_the_others_together() -> None:
    """A hole is told at once; those of the minute after it in one line, and nothing where there is none."""
    holes = Holes()
    assert holes.due(0.0) is None

    holes.add(Hole("e", "r", 5))
    assert Missing(5, 1, Hole("e", "r", 5)) == holes.due(1.0)
    for run in "rsr":
        holes.add(Hole("e", run, 2))

    assert holes.due(EVERY_SECONDS) is None
    assert Missing(6, 2, Hole("e", "r", 2)) == holes.due(EVERY_SECONDS + 1)
    assert holes.due(3 * EVERY_SECONDS) is None


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 100))))
def test_all_are_told_once(found: list[tuple[int, int]]) -> None:
    """Whenever holes come, the lines add up to them, and no two lines are less than a minute apart."""
    holes, now = Holes(), 0.0
    lines: list[tuple[float, int]] = []
    for events, seconds in [*found, (1, EVERY_SECONDS)]:
        holes.add(Hole("e", "r", events))
        now += seconds
        if (missing := holes.due(now)) is not None:
            lines.append((now, missing.events))

    assert sum(events for events, _ in found) + 1 == sum(events for _, events in lines)
    assert all(later - before >= EVERY_SECONDS for (before, _), (later, _) in pairwise(lines))
