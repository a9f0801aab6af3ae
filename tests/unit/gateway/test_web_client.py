"""The web client's rules, in Node, over sockets that are made up: what no gateway does on demand."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[3] / "services/gateway/src/loopcast_gateway/static/client.js"

RIG = """
const { LoopcastClient } = await import(process.argv[1]);
const sockets = [];
class Fake {
  constructor(url, protocols) { Object.assign(this, { url, protocols, readyState: 0, sent: [] }); sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.readyState = 3; this.closedWith = code; }
  open() { this.readyState = 1; this.onopen(); }
  say(...frames) { this.onmessage({ data: frames.map((frame) => JSON.stringify(frame)).join("\\n") }); }
  end(code, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
}
const later = () => new Promise((resolve) => setTimeout(resolve, 30));
const pos = (n) => "0400000000000" + String(n).padStart(3, "0") + "AAAAAAAAAA";
const event = (experimentid, n, more = {}) =>
  ({ type: "event", pos: pos(n), event: { experimentid, type: "t", data: { n } }, ...more });
const states = [], seen = [], gaps = [];
const client = new LoopcastClient("ws://x/ws", {
  WebSocket: Fake, min: 2, max: 4, onState: (state) => states.push(state),
  onEvent: ({ data }) => seen.push(data.n), onGap: (reason) => gaps.push(reason) });
const show = (found) => { console.log(JSON.stringify(found)); process.exit(0); };
"""


def run(script):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    command = ["node", "--input-type=module", "-e", RIG + script, "--", CLIENT.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_stopped_and_started_again():
    """A client that was stopped hears nothing more, and started again it goes on behind what it saw."""
    found = run("""
        client.follow("a", { from: "earliest" });
        client.start();
        sockets[0].open();
        sockets[0].say({ type: "subscribed", id: 1, experiment_id: "a" }, event("a", 1), event("a", 2));
        client.stop();
        sockets[0].say(event("a", 3));
        client.start();
        sockets[1].open();
        show({ states, seen, closedWith: sockets[0].closedWith, resume: sockets[1].sent[0].resume, at: pos(2) });
    """)

    assert [1, 2] == found["seen"]
    assert ["connecting", "connected", "closed", "connecting", "connected"] == found["states"]
    assert (1000, [found["at"]]) == (found["closedWith"], found["resume"])


def test_what_must_be_mended_is_not_tried_again():
    """A code that forbids coming back ends it, with the reason; any other brings the next try."""
    found = run("""
        client.start();
        sockets[0].open();
        sockets[0].end(4008);
        await later();
        sockets[1].open();
        sockets[1].end(4500, "bad token");
        await later();
        show({ states, tries: sockets.length });
    """)

    assert 2 == found["tries"]
    assert ["connecting", "connected", "waiting", "connecting", "connected", "closed"] == found["states"]


def test_a_hole_is_said_and_old_places_forgotten():
    """Where a resume could not be proven, the places that it rested on are dropped for the one that is given."""
    found = run("""
        const subscription = client.follow("a", { resume: pos(7) });
        client.start();
        sockets[0].open();
        sockets[0].say({ type: "subscribed", id: 1, experiment_id: "a", pos: pos(2), recovered: false,
                         reason: "epoch_changed" },
                       { type: "caught_up", experiment_id: "a", pos: pos(2), events: 0 },
                       { type: "ping", pos: [pos(5)] });
        show({ gaps, asked: sockets[0].sent[0].resume, places: subscription.positions, live: subscription.live,
               at: [pos(7), pos(5)] });
    """)

    assert ["epoch_changed"] == found["gaps"]
    assert [found["at"][0]] == found["asked"]
    assert [found["at"][1]] == found["places"]
    assert found["live"]


def test_two_subscriptions_do_not_move_each_other():
    """While all and one are followed, an event moves the place of the one that surely sent it, and no other."""
    found = run("""
        const all = client.follow("*", { from: "earliest" });
        const one = client.follow("a", { from: "now" });
        client.start();
        sockets[0].open();
        sockets[0].say({ type: "subscribed", id: 2, experiment_id: "a", pos: pos(10) }, event("a", 3, { replay: true }),
                       event("b", 4, { replay: true }), event("a", 11));
        const early = [all.positions, one.positions];
        sockets[0].say({ type: "caught_up", experiment_id: "*", pos: pos(11), events: 2 }, event("a", 12),
                       event("b", 13));
        show({ early, late: [all.positions, one.positions], at: [4, 10, 13, 12].map(pos) });
    """)

    assert [[found["at"][0]], [found["at"][1]]] == found["early"]
    assert [[found["at"][2]], [found["at"][3]]] == found["late"]


def test_answers_find_their_questions():
    """A replay's events go to who asked and to nobody else, and a lost connection ends every question."""
    found = run("""
        client.start();
        sockets[0].open();
        const first = client.replay("a", { limit: 2 });
        const second = client.stats();
        const third = client.replay("a").catch((error) => error.message);
        sockets[0].say(event("a", 1, { id: 1, replay: true }), { type: "stats", id: 2, data: { total_connections: 3 } },
                       { type: "replay_end", id: 1, experiment_id: "a", count: 1, complete: false, next: pos(1) });
        const answers = [await first, await second];
        sockets[0].end(1006);
        show({ answers, lost: await third, seen, sent: sockets[0].sent[0] });
    """)

    replayed, stats = found["answers"]
    assert ([1], False) == ([one["event"]["data"]["n"] for one in replayed["events"]], replayed["complete"])
    assert {"total_connections": 3} == stats
    assert "The connection was lost." == found["lost"]
    assert [] == found["seen"]
    assert {"id": 1, "action": "replay", "experiment_id": "a", "limit": 2} == found["sent"]


def test_goaway_says_when():
    """After a goaway the client comes back when it was told to, whatever its own backoff."""
    found = run("""
        const waits = [];
        client.onState = (state, detail) => state === "waiting" && waits.push(detail);
        client.start();
        sockets[0].open();
        sockets[0].say({ type: "goaway", code: 1012, reconnect_in_ms: 17 });
        sockets[0].end(1012);
        show({ waits });
    """)

    assert [17] == found["waits"]


def test_what_is_asked_for_is_sent():
    """Each option of `follow` reaches the gateway: the beginning once, what is wanted of all of it each time."""
    found = run("""
        client.follow("a", { from: "last", limit: 9, snapshot: true, types: ["t"] });
        client.follow("b", { sinceTs: 17.5, limit: 8 });
        client.follow("c", { limit: 7 });
        client.start();
        sockets[0].open();
        const first = sockets[0].sent;
        sockets[0].say(
          { type: "subscribed", id: 1, experiment_id: "a" }, { type: "subscribed", id: 2, experiment_id: "b" },
          { type: "subscribed", id: 3, experiment_id: "c" }, event("a", 1), event("b", 2), event("c", 3));
        sockets[0].end(1006);
        await later();
        sockets[1].open();
        show({ first, again: sockets[1].sent, at: [pos(1), pos(2), pos(3)] });
    """)

    asked = [
        [{name: one.get(name) for name in ("from", "since_ts", "limit", "snapshot", "types", "resume")} for one in sent]
        for sent in (found["first"], found["again"])
    ]
    nothing = dict.fromkeys(("from", "since_ts", "limit", "snapshot", "types", "resume"))
    assert [
        {**nothing, "from": "last", "limit": 9, "snapshot": True, "types": ["t"]},
        {**nothing, "from": "now", "since_ts": 17.5, "limit": 8},
        {**nothing, "from": "now"},
    ] == asked[0]
    assert [
        {**nothing, "resume": [found["at"][0]], "snapshot": True, "types": ["t"]},
        {**nothing, "resume": [found["at"][1]], "limit": 8},
        {**nothing, "resume": [found["at"][2]], "limit": 7},
    ] == asked[1]
