"""Each replica's share of the partitions."""

import pytest

from loopcast.checkpoint.members import share


@pytest.mark.parametrize(
    ("partitions", "members", "expected"),
    [(1, 1, 1), (4, 1, 4), (4, 2, 2), (4, 3, 2), (4, 4, 1), (4, 9, 1), (4, 0, 4), (255, 2, 128)],
)
def test_shares_together_hold_all(partitions, members, expected):
    """Never fewer than all partitions, and no replica has two more than another needs."""
    assert expected == share(partitions, members)
    assert expected * max(1, members) >= partitions
