"""Where a client goes on after a lost connection: in each partition, and not further back than it has to."""

from loopcast.cli.progress import Progress
from loopcast.position import Position


def pos(partition, offset):
    return str(Position.of(partition, offset, str(offset)))


def event(experiment, token):
    return {"type": "event", "pos": token, "event": {"experimentid": experiment}}


def resumes(progress):
    return [command.get("resume") for command in progress.commands()]


def test_it_begins_as_it_was_told():
    """Before anything came, a subscription begins where the client said."""
    assert [("a", "earliest"), ("*", "earliest")] == [
        (command["experiment_id"], command["from"]) for command in Progress(["a", "*"], "earliest").commands()
    ]


def test_everything_has_a_place_in_each_partition():
    """Events of several partitions move their own positions only; what was not seen begins at the beginning."""
    progress = Progress(["*"], "earliest")
    for token in (pos(2, 5), pos(0, 7), pos(2, 6)):
        progress.take(event("x", token))
    [command] = progress.commands()

    assert ([pos(0, 7), pos(2, 6)], "earliest") == (command["resume"], command["from"])


def test_an_event_moves_who_it_was_sent_to():
    """An event of an experiment moves that one and everything, and nobody else."""
    progress = Progress(["a", "b", "*"], "now")
    progress.take(event("a", pos(0, 5)))

    assert [pos(0, 5), None, pos(0, 5)] == resumes(progress)


def test_a_ping_moves_what_is_caught_up():
    """A quiet subscription follows the tails, once its history is sent; one that still catches up does not."""
    live, late = Progress(["a", "*"], "now"), Progress(["a"], "earliest")
    live.take({"type": "subscribed", "experiment_id": "a", "pos": pos(1, 3)})
    live.take({"type": "subscribed", "experiment_id": "*", "pos": [pos(0, 2), pos(1, 3)]})
    late.take({"type": "subscribed", "experiment_id": "a"})
    late.take(event("a", pos(1, 1)))
    ping = {"type": "ping", "pos": [pos(0, 90), pos(1, 91), None]}
    live.take(ping)
    late.take(ping)

    assert [pos(1, 91), [pos(0, 90), pos(1, 91)]] == resumes(live)
    assert [pos(1, 1)] == resumes(late)
    late.take({"type": "caught_up", "experiment_id": "a", "pos": pos(1, 40)})
    late.take(ping)
    assert [pos(1, 91)] == resumes(late)


def test_after_a_new_connection_pings_wait_again():
    """What was caught up on the last connection is not on the next, until it says so."""
    progress = Progress(["a"], "now")
    progress.take({"type": "subscribed", "experiment_id": "a", "pos": pos(0, 3)})
    progress.commands()
    progress.take({"type": "subscribed", "experiment_id": "a", "pos": pos(0, 3), "recovered": True})
    progress.take({"type": "ping", "pos": [pos(0, 90)]})

    assert [pos(0, 3)] == resumes(progress)


def test_what_is_no_position_is_left_out():
    """A frame without a position, or with one that is none, changes nothing."""
    progress = Progress(["a"], "now")
    for token in (None, "x", 7, [None]):
        progress.take({"type": "gap", "experiment_id": "a", "pos": token})
    progress.take({"type": "ping", "pos": None})

    assert [None] == resumes(progress)


def test_history_is_asked_for_once_and_filters_always():
    """After a lost connection it goes on from its place: asking for the last ten again would leave others out."""
    progress = Progress(["a"], "last", history={"limit": 10}, filters={"types": ["loop_*"]})
    [first] = progress.commands()
    progress.take(event("a", pos(0, 5)))
    [again] = progress.commands()

    assert ("last", 10, ["loop_*"]) == (first["from"], first["limit"], first["types"])
    assert (pos(0, 5), None, ["loop_*"]) == (again["resume"], again.get("limit"), again["types"])
