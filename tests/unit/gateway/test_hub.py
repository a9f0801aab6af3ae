"""The hub: who gets which event, and when a subscription is over."""

import pytest

from loopcast_gateway.dialects import JSON, NDJSON
from loopcast_gateway.entry import Entry
from loopcast_gateway.filters import filter_of
from loopcast_gateway.hub import Hub


class Viewer:
    """Keeps what it was sent."""

    def __init__(self, dialect=JSON):
        self.dialect = dialect
        self.chunks = []

    def put(self, chunk):
        self.chunks.append(chunk)

    @property
    def bytes(self):
        return b"".join(self.chunks)


def entry(experiment, offset, partition=0, kind="t"):
    return Entry(
        partition=partition,
        offset=offset,
        id=f"id-{offset}",
        experiment=experiment,
        type=kind,
        recorded=0,
        envelope=b"{}",
    )


def frames(*entries, several=False):
    return b"".join(e.live_frame(several=several) for e in entries)


def follow(hub, viewer, experiment, *, live=True, tails=(0, 0, 0), **wanted):
    subscription = hub.add(viewer, experiment, **wanted)
    hub.place(subscription, {lane.partition: tails[lane.partition] for lane in subscription.lanes}, tails)
    for lane in subscription.lanes if live else ():
        hub.go_live(subscription, lane)
    return subscription


def test_a_frame_is_built_once_and_shared():
    """All followers get the very same bytes, joined once for a batch."""
    hub, viewers, batch = Hub(1), [Viewer() for _ in range(3)], [entry("a", 1), entry("a", 2)]
    for viewer in viewers:
        follow(hub, viewer, "a")

    deliveries = hub.dispatch(0, batch)

    assert 6 == deliveries
    assert frames(*batch) == viewers[0].bytes
    assert 1 == len({id(chunk) for viewer in viewers for chunk in viewer.chunks})


def test_one_copy_for_two_subscriptions():
    """A viewer of * and of an experiment gets that experiment's events once, and the rest once."""
    hub, viewer, batch = Hub(1), Viewer(), [entry("a", 1), entry("b", 2), entry("a", 3)]
    follow(hub, viewer, "*")
    follow(hub, viewer, "a")

    assert 3 == hub.dispatch(0, batch)
    assert sorted(frames(*batch)) == sorted(viewer.bytes)


def test_a_follower_alone_gets_its_own_only():
    """Events of other experiments are not even built into frames where nobody follows them."""
    hub, viewer, mine, other = Hub(1), Viewer(), entry("a", 1), entry("b", 2)
    follow(hub, viewer, "a")

    assert 1 == hub.dispatch(0, [mine, other])
    assert frames(mine) == viewer.bytes
    assert other._frame is None


def test_a_lane_that_catches_up_is_not_fed():
    """Until it is live, a subscription gets nothing by the hub, and what it misses is its own to send."""
    hub, viewer = Hub(1), Viewer()
    subscription = follow(hub, viewer, "a", live=False, tails=[5])

    assert 0 == hub.dispatch(0, [entry("a", 6)])
    assert [6] == [e.offset for e in hub.unsent(subscription, [entry("a", 5), entry("b", 6), entry("a", 6)])]


def test_everything_leaves_the_detail_to_its_own_lane():
    """What * finds in its way is left out where another lane of the viewer's sends it: what came after both."""
    hub, viewer = Hub(1), Viewer()
    everything = follow(hub, viewer, "*", live=False, tails=[3])
    follow(hub, viewer, "a", tails=[5])
    found = hub.unsent(everything, [entry("a", 4), entry("a", 5), entry("b", 6), entry("a", 6)])

    assert [("a", 4), ("a", 5), ("b", 6)] == [(e.experiment, e.offset) for e in found]


def test_unsubscribed_in_the_middle_only_the_live_part_is_still_sent():
    """A detail that is ended while it catches up beside * sends what * left to it, and no more of its history."""
    hub, viewer = Hub(1), Viewer()
    everything = follow(hub, viewer, "*", tails=[5])
    detail = hub.add(viewer, "a")
    hub.place(detail, {0: -1}, [9])

    assert hub.remove(viewer, "a")
    assert (True, True) == (detail.lingers, hub.active(detail))
    assert [11] == [e.offset for e in hub.unsent(detail, [entry("a", 8), entry("a", 9), entry("a", 11)])]
    assert 1 == hub.count(viewer)
    hub.go_live(detail, detail.lanes[0])
    assert not hub.active(detail)
    assert hub.active(everything)
    assert 1 == hub.dispatch(0, [entry("a", 12)])


def test_ending_everything_ends_what_lingers():
    """Nobody waits for a lane that lingers once * is gone too."""
    hub, viewer = Hub(1), Viewer()
    follow(hub, viewer, "*")
    detail = follow(hub, viewer, "a", live=False)
    hub.remove(viewer, "a")

    assert hub.remove(viewer, "*")
    assert not hub.active(detail)
    assert 0 == hub.dispatch(0, [entry("a", 1), entry("b", 2)])


def test_an_unplaced_subscription_takes_nothing_from_everything():
    """Before a subscription has its place in the log, * goes on sending its events; ended, it is gone at once."""
    hub, viewer = Hub(1), Viewer()
    follow(hub, viewer, "*")
    waiting = hub.add(viewer, "a")

    assert 1 == hub.dispatch(0, [entry("a", 1)])
    hub.remove(viewer, "a")
    assert not hub.active(waiting)


def test_unsubscribed_and_gone():
    """Nothing reaches a viewer after it unsubscribed or left, and asking again is no error."""
    hub, one, two = Hub(1), Viewer(), Viewer()
    for viewer in (one, two):
        follow(hub, viewer, "a")
        follow(hub, viewer, "*")
    hub.drop(two)
    hub.remove(one, "a")
    hub.remove(one, "*")

    assert 0 == hub.dispatch(0, [entry("a", 1)])
    assert not hub.remove(one, "a")
    assert {} == hub.followers()
    assert [] == hub.subscriptions(0)
    assert 0 == hub.count(one)


def test_each_sort_of_viewer_shares_its_bytes():
    """Viewers who want the same in the same dialect get the very same bytes, and others their own."""
    hub, batch = Hub(1), [entry("a", 1), entry("a", 2, kind="noise")]
    plain, lines = [Viewer(), Viewer()], [Viewer(NDJSON), Viewer(NDJSON)]
    quiet = [Viewer(), Viewer()]
    for viewer in plain + lines:
        follow(hub, viewer, "a")
    for viewer in quiet:
        follow(hub, viewer, "a", filter_=filter_of(None, ["noise"]))

    assert 10 == hub.dispatch(0, batch)
    assert frames(*batch) == plain[0].bytes
    assert frames(batch[0]) == quiet[0].bytes
    assert b"\n".join(frames(e)[2:] for e in batch) == lines[0].bytes
    assert all(one.chunks[0] is two.chunks[0] for one, two in (plain, lines, quiet))


def test_filters_apply_to_history_too():
    """What a lane that catches up finds in its way is filtered as live events are."""
    hub, viewer = Hub(1), Viewer()
    subscription = follow(hub, viewer, "a", live=False, filter_=filter_of(["loop_*"], None))
    found = hub.unsent(subscription, [entry("a", 6, kind="loop_start"), entry("a", 7, kind="action_output")])

    assert [6] == [e.offset for e in found]


def test_everything_sends_what_the_detail_keeps_out():
    """An event is sent once if any of a viewer's subscriptions wants it, whichever of them that is."""
    hub, viewer = Hub(1), Viewer()
    everything = follow(hub, viewer, "*", filter_=filter_of(["start", "end"], None))
    follow(hub, viewer, "a", filter_=filter_of(None, ["start"]))
    batch = [entry("a", n, kind=kind) for n, kind in enumerate(("start", "middle", "end"), 1)]

    assert 3 == hub.dispatch(0, [*batch, entry("b", 4, kind="middle")])
    assert sorted(frames(*batch)) == sorted(viewer.bytes)
    everything.lanes[0].live = False
    assert [1] == [e.offset for e in hub.unsent(everything, batch)]


def test_the_least_patient_subscription_sets_the_pace():
    """A viewer waits for more only as long as each of its subscriptions allows."""
    hub, viewer = Hub(1), Viewer()
    follow(hub, viewer, "a", coalesce_ms=40)
    paces = [hub.coalesce_ms(viewer)]
    follow(hub, viewer, "b")
    paces.append(hub.coalesce_ms(viewer))
    hub.remove(viewer, "b")
    hub.remove(viewer, "a")

    assert [40, 0, 0] == [*paces, hub.coalesce_ms(viewer)]


def test_twice_is_an_error():
    """A viewer follows an experiment once."""
    hub, viewer = Hub(1), Viewer()
    follow(hub, viewer, "a")

    with pytest.raises(ValueError, match="a"):
        hub.add(viewer, "a")


def test_partitions_are_followed_by_themselves():
    """An experiment is in one partition, * in all, and each lane becomes live by itself."""
    hub, one, everything = Hub(3), Viewer(), Viewer()
    place = hub.covered("a")[0]
    follow(hub, one, "a")
    wide = follow(hub, everything, "*", live=False)
    hub.go_live(wide, wide.lanes[place])
    other = (place + 1) % 3

    assert [place] == list(hub.covered("a"))
    assert [0, 1, 2] == list(hub.covered("*"))
    assert 2 == hub.dispatch(place, [entry("a", 1, place)])
    assert 0 == hub.dispatch(other, [entry("b", 1, other)])
    assert frames(entry("a", 1, place), several=True) == one.bytes == everything.bytes
    assert not wide.live
    assert {wide} == set(hub.subscriptions(other))


def test_followers_are_counted():
    """Live subscriptions are counted by experiment, and those of * apart."""
    hub, viewers = Hub(1), [Viewer() for _ in range(3)]
    for viewer in viewers:
        follow(hub, viewer, "a")
    follow(hub, viewers[0], "*")
    follow(hub, viewers[1], "b", live=False)

    assert {"a": 3, "*": 1} == hub.followers()
