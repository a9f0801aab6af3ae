"""Whatever order, repeats and restarts do to the log's events, the same spans come out, byte for byte."""

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from otel_streams import envelopes, lines

from loopcast_otel_exporter.encoding import encode_log, encode_span
from loopcast_otel_exporter.fold import Fold, Options
from loopcast_otel_exporter.ordering import HOLD_MICROSECONDS, Ordering
from loopcast_otel_exporter.state import State

OPTIONS = Options(chapter_spans=6)


@cache
def runs():
    """Five runs of recorded streams, one of them resumed, as their relays number them."""
    handoff = [*lines("demo-handoff"), *lines("demo-handoff-resume")]
    streams = [lines("demo-parent"), lines("demo-cycle"), handoff, lines("demo-parent"), lines("demo-cycle")]
    return [envelopes(s, experiment=f"exp{n % 2}", run=f"run-{n}", emitter=f"{n:016x}") for n, s in enumerate(streams)]


def interleaved():
    """One event of each run in turn: more than the events of any, so a run's end is not another's beginning."""
    longest = max(map(len, runs()))
    return [run[index] for index in range(longest) for run in runs() if index < len(run)]


class Written:
    """What the backend has: the bytes of each id, and whether an id ever came with others."""

    def __init__(self):
        self.spans = {}
        self.logs = {}
        self.differing = []

    def take(self, fold):
        output = fold.take()
        for span in output.spans:
            body = encode_span(span)
            if self.spans.setdefault(span.span_id, body) != body:
                self.differing.append(span)
        for record in output.logs:
            self.logs[record.uid] = encode_log(record)


def restarted(fold):
    """Another process's fold, from this one's checkpoint."""
    return Fold(OPTIONS, State.load(fold.state.dump()), Ordering.load(fold.ordering.dump()))


@cache
def expected():
    """The undisturbed log's spans, records and counts."""
    fold, written = Fold(OPTIONS), Written()
    for event in interleaved():
        fold.apply(event)
    written.take(fold)
    return written, counts(fold)


def counts(fold):
    """The counted sums, without the exemplars: which span was the last one depends on how runs interleave."""
    measured = fold.state.measurements
    return measured.sums, {key: (h.counts, h.total) for key, h in measured.histograms.items()}


def test_the_undisturbed_log_is_worth_comparing_with():
    """Enough spans of every kind, in several chapters and attempts, that a loss would be seen."""
    written, _ = expected()

    assert (64, 39) == (len(written.spans), len(written.logs))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_shuffled_within_the_window_and_repeated(data):
    """Every event up to three times, in any order that the window allows: each span once, the same bytes."""
    events = data.draw(st.permutations(interleaved()))
    copies = data.draw(st.lists(st.sampled_from(events), max_size=2 * len(events)))
    fold, written = Fold(OPTIONS), Written()
    for event in [*events, *copies]:
        fold.apply(event)
    written.take(fold)

    wanted, sums = expected()
    assert [] == written.differing
    assert wanted.spans == written.spans
    assert wanted.logs == written.logs
    assert sums == counts(fold)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_cut_anywhere_and_resumed(data):
    """A process that dies anywhere goes on from its last checkpoint, however old, and nothing differs."""
    events = interleaved()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), min_size=1, max_size=6)))
    fold, written = Fold(OPTIONS), Written()
    checkpoint, position = restarted(fold), 0
    for cut in [*cuts, len(events)]:
        for event in events[position:cut]:
            fold.apply(event)
        written.take(fold)
        if data.draw(st.booleans(), label="the checkpoint was written"):
            checkpoint, position = restarted(fold), cut
        fold, checkpoint = checkpoint, restarted(checkpoint)
        fold.take()
    for event in events[position:]:
        fold.apply(event)
    written.take(fold)

    wanted, sums = expected()
    assert [] == written.differing
    assert wanted.spans == written.spans
    assert wanted.logs == written.logs
    assert sums == counts(fold)


def test_a_log_whose_beginning_is_gone_never_gives_a_span_twice():
    """Wherever retention cut the log, what was written before the cut is not written again with other bytes."""
    events = interleaved()
    for cut in range(1, len(events)):
        before, after = _written(events[:cut]), _written(events[cut:])

        again = before.spans.keys() & after.spans.keys()
        assert [] == after.differing
        assert [] == [s for s in again if before.spans[s] != after.spans[s]]


def _written(events):
    fold, written = Fold(Options()), Written()
    for event in events:
        fold.apply(event)
    fold.tick(fold.ordering.now + HOLD_MICROSECONDS + 1)
    written.take(fold)
    return written
