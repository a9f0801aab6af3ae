"""Who does not read, and what is kept of the log for who does."""

from loopcast.broker.interface import Delivery
from loopcast_gateway.blocks import BLOCK_OFFSETS, OVERHEAD_BYTES, Block, Blocks, last_of_block
from loopcast_gateway.stalls import Stalls


def test_a_socket_that_takes_nothing_is_overdue():
    """Who makes progress, however little, is not overdue; who makes none for the time is."""
    stalls = Stalls(10.0)
    unsent = {"dead": 100, "slow": 100, "gone": 100}
    for viewer in unsent:
        stalls.full(viewer, 100, 0.0)
    stalls.flows("gone")
    unsent["slow"] = 99

    assert [] == stalls.overdue(9.0, unsent.__getitem__)
    assert ["dead"] == stalls.overdue(10.0, unsent.__getitem__)
    assert ["dead", "slow"] == stalls.overdue(19.0, unsent.__getitem__)
    assert 2 == len(stalls)


def block(start, end, body=b"x"):
    deliveries = [
        Delivery(tag=0, routing_key="", body=body, message_id=str(n), offset=n) for n in range(start, end + 1)
    ]
    return Block(start, end, deliveries)


def test_blocks_are_found_where_they_are():
    """A block is found by any of its offsets; where one ended early, the next begins behind it."""
    blocks = Blocks(10**9)
    blocks.add(block(0, 9), 0.0)
    blocks.add(block(10, 19), 0.0)

    assert [0, 0, 10, 20] == [
        found if isinstance(found := blocks.find(n, 0.0), int) else found.start for n in (0, 9, 10, 20)
    ]
    assert [BLOCK_OFFSETS, BLOCK_OFFSETS] == [blocks.find(BLOCK_OFFSETS + n, 0.0) for n in (0, 7)]
    assert ("9", None) == (blocks.last_before(10).message_id, blocks.last_before(11))
    assert [17, 18, 19] == [delivery.offset for delivery in blocks.find(12, 0.0).since(17)]
    assert (BLOCK_OFFSETS - 1, 2 * BLOCK_OFFSETS - 1) == (last_of_block(0), last_of_block(BLOCK_OFFSETS))


def test_blocks_are_bounded():
    """What was used longest ago goes when there is no room, or when nobody asks for it for a while."""
    blocks = Blocks(25 * (OVERHEAD_BYTES + 1))
    for start in range(0, 40, 10):
        blocks.add(block(start, start + 9), float(start))

    assert blocks.size <= 25 * (OVERHEAD_BYTES + 1)
    assert isinstance(blocks.find(BLOCK_OFFSETS, 0.0), int)
    blocks.forget(100.0)
    assert 0 == blocks.size
    blocks.add(block(0, 9), 0.0)
    blocks.clear()
    assert 0 == blocks.find(0, 0.0)
