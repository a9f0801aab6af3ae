"""What a process leaves behind, and what the next one makes of it, against a producer that answers by script."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted import ScriptedProducer, receipt

from loopcast import LoopcastTransport
from loopcast.sdk.configuration import resolve
from loopcast.sdk.inheritance import make_for
from loopcast.sdk.run_memory import MAX_LOOPS, RunMemory
from loopcast.sdk.spool import Spool
from loopcast.sdk.stamping import Stamper


@pytest.fixture
def producer():
    """A producer that takes everything, unless a test scripts it otherwise."""
    with ScriptedProducer() as running:
        yield running


@pytest.fixture
def spool(tmp_path):
    """Where the spools of this test lie."""
    return tmp_path / "spool"


def run(program, url, *, end=0):
    """Run a program with `t`, a transport to a producer that is not reached, and `u`, one to `url`."""
    head = f"import os, signal, sys\nfrom loopcast import LoopcastTransport\nurl = {url!r}\n"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", head + program], capture_output=True, timeout=60)
    assert end == done.returncode, done.stderr.decode()


def events(producer):
    """The envelopes that came, over all requests for events."""
    return [event for path, _, batch, _ in producer.requests if path.endswith("/events") for event in batch]


@pytest.mark.parametrize(
    ("ending", "code"), [("os._exit(0)", 0), ("os.kill(os.getpid(), signal.SIGKILL)", -9), ("raise SystemExit(3)", 3)]
)
def test_the_next_process_sends_what_a_dead_one_left(producer, spool, ending, code):
    """However an agent ends while the producer stands still, each event arrives once the next agent runs, in order."""
    producer.hold.clear()
    run(
        f"t = LoopcastTransport(url, 'e', 'r')\nfor n in range(300): t.send({{'n': n}})\n{ending}",
        producer.url,
        end=code,
    )
    producer.hold.set()
    assert 1 == len(list(spool.glob("*.spool")))
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": 300})
    report = transport.close(10)

    first = {event["id"]: event["data"]["n"] for event in events(producer)}
    assert list(range(301)) == list(first.values())
    assert (True, 1, 1) == (report.complete, report.stats.emitted, report.stats.accepted)
    assert 2 == len({event["emitter"] for event in events(producer)})
    assert [] == list(spool.glob("*.spool"))
    assert 0 < report.stats.inherited <= 300


def test_other_experiments_are_sent_when_there_is_nothing_else(producer, spool):
    """A dead process's events of another experiment go to that experiment, and hold up nobody."""
    run("t = LoopcastTransport(url, 'other', 'r')\nt.send({'n': 1})\nos._exit(0)", "http://127.0.0.1:9")
    for about in spool.glob("*/about.json"):
        about.write_text(about.read_text().replace("http://127.0.0.1:9", producer.url))
    transport = LoopcastTransport(producer.url, "mine", "r")
    transport.send({"n": 2})
    assert transport.flush(10).complete
    wait_for(lambda: transport.stats.inherited == 1)
    transport.close(10)

    assert [("/v1/experiments/mine/events", 2), ("/v1/experiments/other/events", 1)] == [
        (path, batch[0]["data"]["n"]) for path, _, batch, _ in producer.requests
    ]
    assert [] == list(spool.glob("*.spool"))


def test_a_left_over_that_is_refused_waits_and_holds_up_nobody(producer, spool, caplog):
    """Where this process's token may not send another experiment's events, they stay for one that may."""
    run("t = LoopcastTransport(url, 'other', 'r')\nt.send({'n': 1})\nos._exit(0)", "http://127.0.0.1:9")
    for about in spool.glob("*/about.json"):
        about.write_text(about.read_text().replace("http://127.0.0.1:9", producer.url))
    producer.script = [lambda batch: 403 if batch[0]["experimentid"] == "other" else 202] * 20
    transport = LoopcastTransport(producer.url, "mine", "r")
    for n in range(3):
        transport.send({"n": n})
        assert transport.flush(10).complete
    wait_for(lambda: transport.stats.retries == 1)
    assert transport.close(5).complete

    assert (3, 0) == (transport.stats.accepted, transport.stats.inherited)
    assert 1 == len(list(spool.glob("*.spool")))
    # It is no trouble of this experiment's; the log tells whose.
    assert "" == transport.stats.error
    assert "1 events that a dead process left for /v1/experiments/other/events wait" in caplog.text


def leave(producer, experiment="e", *, events=1):
    """A process that dies with so many events for `producer` undelivered; the folder of its spool."""
    spool = Path(os.environ["LOOPCAST_SPOOL_DIR"])
    before = set(spool.glob("*.spool"))
    made = make_for(resolve(producer.url, experiment, None, None, None, environ=os.environ, folder=spool))
    left = Spool(1_000_000, "drop_oldest", made)
    stamper = Stamper(experiment, "dead")
    for n in range(events):
        left.append(stamper.stamp({"n": n}))
    left.forget()
    (folder,) = set(spool.glob("*.spool")) - before
    return folder


def test_many_left_overs_need_few_files(producer, spool):
    """Left-overs are opened one at a time: a process that may open few files sends them all, and loses none."""
    for _ in range(40):
        leave(producer)
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
from loopcast import LoopcastTransport
t = LoopcastTransport({producer.url!r}, 'e', 'r')
t.send({{'n': 'own'}})
report = t.close(20)
assert report.complete and report.stats.inherited == 40, report
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (0, 41) == (done.returncode, len({event["id"] for event in events(producer)})), done.stderr
    assert [] == list(spool.glob("*.spool"))


def test_a_left_over_that_cannot_be_read_is_kept(producer, spool, monkeypatch, caplog):
    """A disk that does not give what a dead process left holds up nobody; it is said, and sent when the disk does."""
    monkeypatch.setattr("loopcast.sdk.inheritance.INHERIT_SECONDS", 0.1)
    segment = leave(producer, events=3) / "00000001.events"
    segment.rename(spool / "aside")
    segment.mkdir()
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": "own"})
    assert transport.flush(10).complete
    assert (1, 0) == (transport.stats.accepted, transport.stats.inherited)
    assert "What a dead process left is kept" in caplog.text

    segment.rmdir()
    (spool / "aside").rename(segment)
    wait_for(lambda: transport.stats.inherited == 3)
    assert transport.close(10).complete
    assert [] == list(spool.glob("*.spool"))


def test_left_overs_that_are_refused_for_good_are_counted(producer, spool):
    """What a dead process left is all accounted for: delivered, or refused."""
    leave(producer, events=10)
    producer.script = [lambda batch: (202, {}, receipt(batch, invalid={3, 4, 5}))]
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": "own"})
    stats = transport.close(10).stats

    assert (7, 3) == (stats.inherited, stats.inherited_refused)
    assert (1, 0) == (stats.accepted, stats.dropped)


def test_damage_in_a_left_over_is_counted_and_said(producer, spool, monkeypatch, caplog):
    """Events that rotted on the disk are counted and in the log, however shortly before another line was written."""
    segment = leave(producer, events=100) / "00000001.events"
    content = bytearray(segment.read_bytes())
    marks = [n for n in range(len(content)) if content.startswith(b"\xa5\x4c", n)]
    for n in (10, 11, 12, 50, 99):
        content[marks[n] + 100] ^= 1
    segment.write_bytes(content)
    producer.script = [401]
    monkeypatch.setattr("loopcast.sdk.sender.pause", lambda tries, at_least, chance: 0.01)
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": "own"})
    stats = transport.close(10).stats

    assert (95, 5, 1) == (stats.inherited, stats.inherited_unsaved, stats.accepted)
    assert "95 events wait" in caplog.records[0].getMessage()
    assert "5 events of a dead process at least are lost" in caplog.text


def test_what_is_refused_is_tried_less_and_less_often(producer, spool, monkeypatch):
    """One refusal of another experiment's events stands for all that are left of it, and each is believed longer."""
    monkeypatch.setattr("loopcast.sdk.inheritance.INHERIT_SECONDS", 0.05)
    for _ in range(5):
        leave(producer, "other")
    producer.script = [lambda batch: 403 if batch[0]["experimentid"] == "other" else 202] * 1000
    transport = LoopcastTransport(producer.url, "mine", "r")
    transport.send({})
    wait_for(lambda: transport.stats.retries >= 3)
    time.sleep(1.0)
    transport.close(5)

    assert 3 <= transport.stats.retries <= 7
    assert 5 == len(list(spool.glob("*.spool")))


def test_another_producer_gets_none_of_it(producer, spool):
    """Events go to the address that they were meant for, whoever finds them."""
    run("t = LoopcastTransport(url, 'e')\nt.send({'n': 1})\nos._exit(0)", "http://127.0.0.1:9")
    transport = LoopcastTransport(producer.url, "e")
    transport.send({"n": 2})
    assert transport.close(10).complete

    assert [[{"n": 2}]] == producer.taken
    assert 1 == len(list(spool.glob("*.spool")))


def test_two_processes_never_send_the_same_left_over(producer, spool):
    """Twenty left-overs and four processes at once: each event is sent once."""
    for n in range(20):
        run(f"t = LoopcastTransport(url, 'e')\nt.send({{'n': {n}}})\nos._exit(0)", "http://127.0.0.1:9")
    for about in spool.glob("*/about.json"):
        about.write_text(about.read_text().replace("http://127.0.0.1:9", producer.url))
    program = f"""
from loopcast import LoopcastTransport
t = LoopcastTransport({producer.url!r}, 'e')
t.send({{'n': 'own'}})
assert t.close(20).complete
"""
    together = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]

    assert [0] * 4 == [process.wait(60) for process in together]
    numbers = [event["data"]["n"] for event in events(producer)]
    assert sorted(map(str, [*range(20), *["own"] * 4])) == sorted(map(str, numbers))
    assert [] == list(spool.glob("*.spool"))


def test_close_without_a_producer_leaves_all_to_the_next(spool, caplog):
    """What close could not deliver is said to wait, and where."""
    transport = LoopcastTransport("http://127.0.0.1:9", "e")
    for _ in range(3):
        transport.send({})
    report = transport.close(0.3)

    stats = report.stats
    assert (False, 3, 3, 0, 0) == (report.complete, stats.emitted, stats.spooled, stats.dropped, stats.in_memory)
    (left,) = spool.glob("*.spool")
    assert str(left) in caplog.records[-1].getMessage()


def test_without_a_spool_what_is_left_is_lost_and_counted(caplog):
    """Where somebody turned the spool off, close says how many events are lost."""
    transport = LoopcastTransport("http://127.0.0.1:9", "e", spool="off")
    for _ in range(3):
        transport.send({})
    assert 3 == transport.stats.in_memory
    stats = transport.close(0.3).stats

    assert (3, 0, 0, 3, 3) == (stats.emitted, stats.accepted, stats.spooled, stats.dropped, stats.unsaved)
    assert "3 of 3 events are lost" in caplog.records[-1].getMessage()


def test_a_spool_that_cannot_be_made_is_said_and_costs_nothing(producer, tmp_path, caplog):
    """A file where the folder should be: events wait in memory, arrive, and there is a line about it."""
    (tmp_path / "file").touch()
    transport = LoopcastTransport(producer.url, "e", spool=tmp_path / "file")
    for n in range(3):
        transport.send({"n": n})
    assert transport.close(10).complete

    assert [0, 1, 2] == [event["n"] for batch in producer.taken for event in batch]
    said = next(text for record in caplog.records if "wait in memory alone" in (text := record.getMessage()))
    assert "LOOPCAST_SPOOL_DIR" in said
    assert str(tmp_path / "file") in said


def test_what_lies_in_spools_is_listed(producer, spool):
    """The command line says what is left over, and for whom; asking changes nothing."""
    run("t = LoopcastTransport(url, 'e')\nfor n in range(3): t.send({'n': n})\nos._exit(0)", "http://127.0.0.1:9")
    transport = LoopcastTransport("http://127.0.0.1:9", "mine")
    transport._sender.wake = lambda: None
    transport.send({})
    command = [Path(sys.executable).parent / "loopcast", "spool"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    listed = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60)
    transport.close(0)

    assert 0 == shown.returncode, shown.stderr
    assert ["left over, 3 events" in shown.stdout, "in use" in shown.stdout] == [True, True]
    first, second = map(json.loads, listed.stdout.splitlines())
    assert ("http://127.0.0.1:9", "e", False, 3) == tuple(first[k] for k in ("url", "experiment", "alive", "events"))
    assert ("mine", True, None) == tuple(second[k] for k in ("experiment", "alive", "events"))


@pytest.mark.parametrize("full", ["drop_oldest", "drop_newest"])
def test_what_a_killed_process_had_dropped_is_told(producer, spool, full, caplog):
    """A full spool and then SIGKILL: the next process sends the rest and tells how many were dropped, exactly."""
    producer.script = [503] * 1000
    run(
        f"t = LoopcastTransport(url, 'e', 'r', max_bytes=100_000, full={full!r})\n"
        "t.send({'n': 0})\nwhile not t.stats.retries: pass\n"
        "for n in range(1, 2000): t.send({'n': n})\nos.kill(os.getpid(), signal.SIGKILL)",
        producer.url,
        end=-9,
    )
    listed = subprocess.run([Path(sys.executable).parent / "loopcast", "spool"], capture_output=True, text=True)
    producer.script = []
    producer.requests.clear()
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": "next"})
    report = transport.close(10)
    came = [event["data"]["n"] for event in events(producer)]

    stats = report.stats
    assert (True, 2000) == (report.complete, stats.inherited + stats.inherited_dropped)
    assert 0 < stats.inherited == len(came) - 1
    # The first was on its way; what is on its way is not dropped.
    kept = stats.inherited - 1
    assert [0, *(range(2000 - kept, 2000) if full == "drop_oldest" else range(1, kept + 1)), "next"] == came
    assert f"{stats.inherited_dropped} dropped because it was full" in listed.stdout
    assert f"{stats.inherited_dropped} events of a dead process were dropped" in caplog.text
    assert [] == list(spool.glob("*.spool"))


def test_dropping_is_said_while_it_happens_and_at_the_end(producer, spool, caplog):
    """Not in the counters alone: one line while the producer is away, and one with the sum."""
    producer.script = [503] * 1000
    transport = LoopcastTransport(producer.url, "e", "r", max_bytes=20_000)
    for n in range(1000):
        transport.send({"n": n})
    wait_for(lambda: any("events were dropped: the spool was full" in r.getMessage() for r in caplog.records))
    full = transport.close(0).stats.full

    assert 0 < full < 1000
    assert f"{full} of 1000 events were dropped: the spool was full (LOOPCAST_SPOOL_MAX_BYTES" in caplog.text


def test_a_full_disk_stops_no_loop(producer, spool):
    """No file may grow, as on a disk that is full: events wait in memory, counted, and all arrive in order."""
    producer.hold.clear()
    program = """
import resource, time
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
t = LoopcastTransport(url, 'e', 'r')
for n in range(500): t.send({'n': n})
stats = t.stats
assert (500, 0) == (stats.spooled, stats.dropped), stats
assert 400 < stats.in_memory < 500, stats
print('sent', flush=True)
report = t.close(20)
assert report.complete and report.stats.accepted == 500, report
"""
    head = f"from loopcast import LoopcastTransport\nurl = {producer.url!r}\n"
    agent = subprocess.Popen([sys.executable, "-c", head + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"sent\n" == agent.stdout.readline(), agent.stderr.read().decode()
    producer.hold.set()
    _, said = agent.communicate(timeout=60)

    assert 0 == agent.returncode, said.decode()
    assert list(range(500)) == [event["data"]["n"] for event in events(producer)]
    assert b"wait in memory alone" in said
    assert [] == list(spool.glob("*.spool"))


def test_a_child_leaves_its_parents_spool_alone(producer, spool):
    """A fork's child that ends at once takes nothing of its parent's with it; both deliver what is theirs."""
    producer.hold.clear()
    pid = os.getpid()
    program = """
t = LoopcastTransport(url, 'e', 'r')
for n in range(50): t.send({'n': n})
pid = os.fork()
if pid == 0:
    t.send({'n': 'child'})
    os._exit(0)
os.waitpid(pid, 0)
for n in range(50, 100): t.send({'n': n})
os._exit(0)
"""
    run(program, producer.url)
    assert 2 == len(list(spool.glob("*.spool")))
    producer.hold.set()
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": "next"})
    assert transport.close(10).complete

    first = {event["id"]: event["data"]["n"] for event in events(producer)}
    assert {*range(100), "child", "next"} == set(first.values())
    assert 102 == len(first)
    assert pid == os.getpid()


def test_a_child_that_lives_on_holds_nothing_back(producer, spool, tmp_path):
    """A parent's spool is its parent's: it is sent when the parent is dead, however long its children live."""
    program = f"""
import time
t = LoopcastTransport('http://127.0.0.1:9', 'e', 'r')
t.send({{'n': 1}})
if os.fork() == 0:
    os.close(1), os.close(2)
    while not os.path.exists({str(tmp_path / "end")!r}): time.sleep(0.05)
os._exit(0)
"""
    run(program, producer.url)
    for about in spool.glob("*/about.json"):
        about.write_text(about.read_text().replace("http://127.0.0.1:9", producer.url))
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"n": 2})
    report = transport.close(10)
    (tmp_path / "end").touch()

    assert [1, 2] == [event["data"]["n"] for event in events(producer)]
    assert 1 == report.stats.inherited


def test_a_resume_in_another_process_continues_the_run(producer):
    """A loop that hands over and is resumed by another process is one run, its second attempt."""
    run(
        "t = LoopcastTransport(url, 'e')\n"
        "t.send({'event': 'loop_start', 'loop': 'l'})\n"
        "t.send({'event': 'handoff_detected', 'loop': 'l'})\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        producer.url,
        end=-9,
    )
    run(
        "t = LoopcastTransport(url, 'e')\n"
        "t.send({'event': 'loop_resume', 'loop': 'l'})\n"
        "t.send({'event': 'loop_start', 'loop': 'l'})\n"
        "t.send({'event': 'loop_complete', 'loop': 'l'})\n"
        "t.close()",
        producer.url,
    )

    found = {event["id"]: (event["type"], event["attempt"], "resumed" in event) for event in events(producer)}
    assert [
        ("loop_start", 1, False),
        ("handoff_detected", 1, False),
        ("loop_resume", 2, False),
        ("loop_start", 2, False),
        ("loop_complete", 2, False),
    ] == list(found.values())
    assert 1 == len({event["runid"] for event in events(producer)})


def test_several_workers_share_a_run(producer):
    """Processes that are given one run number their own events of it, each as an emitter of its own."""
    for n in range(3):
        run(
            f"t = LoopcastTransport(url, 'e', 'r')\nt.send({{'n': {n}}})\nt.send({{'n': {n}}})\nt.close()", producer.url
        )

    assert {"r"} == {event["runid"] for event in events(producer)}
    assert 3 == len({event["emitter"] for event in events(producer)})
    assert [1, 2] * 3 == [int(event["sequence"]) for event in events(producer)]


def test_open_runs_have_heartbeats(producer, monkeypatch):
    """While a run is open its producer is told; when it has ended, no more."""
    monkeypatch.setattr("loopcast.sdk.heart.PULSE_SECONDS", 0.05)
    transport = LoopcastTransport(producer.url, "e/1", "r 1")
    transport.send({"event": "loop_start", "loop": "l"})
    wait_for(lambda: len(beats(producer)) >= 2)
    transport.send({"event": "loop_complete", "loop": "l"})
    assert transport.flush(10).complete
    time.sleep(0.1)
    before = len(beats(producer))
    time.sleep(0.3)
    transport.close(5)

    path, body = beats(producer)[0]
    assert "/v1/experiments/e%2F1/runs/r%201/heartbeat" == path
    assert (os.getpid(), transport._stamper.emitter) == (body["pid"], body["emitter"])
    assert body["host"]
    assert before == len(beats(producer))


@pytest.mark.parametrize(("answer", "again"), [(404, False), (405, False), (500, True), (204, True)])
def test_a_producer_without_heartbeats_is_spared_them(producer, monkeypatch, answer, again):
    """An older producer is spared them for a while; one that failed is told the next time."""
    monkeypatch.setattr("loopcast.sdk.heart.PULSE_SECONDS", 0.05)
    producer.script = [202, *[(answer, {}, b"")] * 50]
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"event": "loop_start", "loop": "l"})
    wait_for(lambda: len(beats(producer)) > again)
    time.sleep(0.3)

    assert again == (len(beats(producer)) > 1)
    transport.close(0.1)


def test_heartbeats_come_back(producer, monkeypatch):
    """One 404, as a proxy gives it while a producer is replaced, ends them for a while and not for good."""
    monkeypatch.setattr("loopcast.sdk.heart.PULSE_SECONDS", 0.05)
    monkeypatch.setattr("loopcast.sdk.heart.NOT_THERE_SECONDS", 0.2)
    producer.script = [202, (404, {}, b"")]
    transport = LoopcastTransport(producer.url, "e", "r")
    transport.send({"event": "loop_start", "loop": "l"})
    wait_for(lambda: len(beats(producer)) >= 3)
    transport.close(5)


def test_events_wait_for_one_heartbeat_at_most(producer, monkeypatch):
    """However many runs are open, and however slowly their heartbeats are answered: they go between the batches."""
    monkeypatch.setattr("loopcast.sdk.heart.PULSE_SECONDS", 0.3)
    producer.script = [lambda sent: 202 if isinstance(sent, list) else time.sleep(0.05) or 202] * 1000
    transport = LoopcastTransport(producer.url, "e")
    for n in range(15):
        source = transport.source(remember=False)
        transport.relay(source, {"event": "loop_start", "loop": f"l{n}"})
    assert transport.flush(10).complete
    wait_for(lambda: beats(producer))
    for n in range(8):
        transport.send({"n": n})
        assert transport.flush(10).complete
    wait_for(lambda: len({path for path, _ in beats(producer)}) == 15)
    transport.close(5)

    paths = [path for path, *_ in producer.requests]
    first, last = paths.index(beats(producer)[0][0]), max(n for n, p in enumerate(paths) if p.endswith("/events"))
    between = "".join("e" if path.endswith("/events") else "h" for path in paths[first : last + 1])
    assert max(map(len, between.split("e"))) <= 3


@pytest.mark.parametrize("answer", [422, 400])
def test_one_run_that_is_refused_does_not_silence_the_others(producer, monkeypatch, answer):
    """A heartbeat that is refused says nothing of another run's."""
    monkeypatch.setattr("loopcast.sdk.heart.PULSE_SECONDS", 0.05)
    producer.script = [lambda sent: 202 if isinstance(sent, list) else (answer, {}, b"")] * 1000
    transport = LoopcastTransport(producer.url, "e")
    for n in range(2):
        transport.relay(transport.source(remember=False), {"event": "loop_start", "loop": f"l{n}"})
    wait_for(lambda: len({path for path, _ in beats(producer)}) == 2)
    transport.close(5)


def test_a_loop_that_is_not_known_to_live_has_no_heartbeats(producer, monkeypatch):
    """Who sends for another process asks it first."""
    monkeypatch.setattr("loopcast.sdk.heart.PULSE_SECONDS", 0.05)
    asked = []
    transport = LoopcastTransport(producer.url, "e", "r", alive=lambda: asked.append(1))
    transport.send({"event": "loop_start", "loop": "l"})
    wait_for(lambda: len(asked) > 1)

    assert [] == beats(producer)
    transport.close(5)


def test_what_is_known_of_runs_is_bounded_and_survives_nonsense(tmp_path):
    """A thousand loops are remembered, the latest; a file that is no memory is none."""
    memory = RunMemory(tmp_path, "e")
    memory.remember("first", {"run": "r"})
    path = next(tmp_path.glob("runs/*.json"))
    assert {"run": "r"} == RunMemory(tmp_path, "e").recall("first")
    assert None is RunMemory(tmp_path, "other").recall("first")

    monkey = {f"l{n}": {} for n in range(MAX_LOOPS)}
    path.write_text(path.read_text().replace('{"first"', str(monkey).replace("'", '"')[:-1] + ', "first"'))
    memory.remember("last", {})
    assert (None, {}) == (memory.recall("l0"), memory.recall("last"))
    for nonsense in ("", "[]", '{"version": 2}', '{"version": 1, "loops": 5}'):
        path.write_text(nonsense)
        assert None is memory.recall("first")


def test_a_memory_that_another_process_holds_is_not_waited_for(tmp_path):
    """A process that stands still with the lock in its hand costs milliseconds."""
    import fcntl

    memory = RunMemory(tmp_path, "e")
    memory.remember("l", {"run": "r"})
    with next(tmp_path.glob("runs/*.lock")).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        memory.remember("l", {"run": "s"})

    assert {"run": "s"} == memory.recall("l")


def beats(producer):
    """The heartbeats that came."""
    return [(path, body) for path, _, body, _ in producer.requests if path.endswith("/heartbeat")]


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
