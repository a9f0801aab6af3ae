"""Commands in and frames out, and that the documentation has all of them."""

import contextlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.position import Position
from loopcast_gateway.close_codes import CLOSE_CODES, reconnects
from loopcast_gateway.commands import positions, read_command
from loopcast_gateway.protocol import (
    COMMANDS,
    FRAMES,
    ErrorName,
    Reason,
    Refused,
    Subscribe,
    encode,
)

DOCUMENT = (Path(__file__).parents[3] / "docs/protocol.md").read_text(encoding="utf-8")


def test_a_full_subscribe_is_read():
    """Every field that a command has is taken over."""
    command = read_command(b'{"id":"x","action":"subscribe","experiment_id":"a","from":"earliest","resume":["p"]}')

    assert Subscribe(id="x", experiment_id="a", start="earliest", resume=["p"]) == command


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_noise_is_refused_never_a_crash(text):
    """Whatever bytes come, the answer is a refusal with a sentence."""
    with pytest.raises(Refused) as refused:
        read_command(text)

    assert str(refused.value)


anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)


@given(anything, st.sampled_from(["id", "action", "experiment_id", "from", "resume"]))
def test_a_field_of_another_type_is_refused(value, name):
    """Any JSON in any field of a command gives the command or a refusal, and nothing else."""
    text = json.dumps({"id": 1, "action": "subscribe", "experiment_id": "a", name: value}).encode()
    result = None
    with contextlib.suppress(Refused):
        result = read_command(text)

    assert result is None or isinstance(result, Subscribe)


def test_an_error_carries_the_id_where_there_is_one():
    """A client finds the refusal of its command by the id, unless that itself is none."""
    texts = [b'{"id":3,"action":"x"}', b'{"id":"k","action":"subscribe"}', b'{"id":[],"action":"ping"}', b"x"]
    long = json.dumps({"id": "x" * 65, "action": "ping"}).encode()
    found = []
    for text in (*texts, long):
        with pytest.raises(Refused) as refused:
            read_command(text)
        found.append(refused.value.id)

    assert [3, "k", None, None, None] == found


def test_positions_must_be_of_the_subscription():
    """One position for each partition that the subscription covers: not fewer, not twice, not of another."""
    one, two = str(Position.of(1, 5, "x")), str(Position.of(2, 5, "x"))

    assert {1: Position.parse(one)} == positions(Subscribe(experiment_id="a", resume=one), range(1, 2))
    assert {1, 2} == set(positions(Subscribe(experiment_id="*", resume=[two, one]), range(1, 3)))
    assert {} == positions(Subscribe(experiment_id="a"), range(1, 2))
    for resume, covered in ((one, range(1)), ([one, one], range(1, 3)), ([one], range(1, 3)), ([], range(1, 2))):
        with pytest.raises(Refused):
            positions(Subscribe(experiment_id="*", resume=resume), covered)


def test_frames_leave_out_what_they_do_not_say():
    """A frame has its type first and no empty fields."""
    from loopcast_gateway.protocol import PongFrame, Subscribed

    assert b'{"type":"pong"}' == encode(PongFrame())
    assert b'{"type":"subscribed","experiment_id":"a","recovered":false}' == encode(
        Subscribed(experiment_id="a", recovered=False)
    )


def names_in(section):
    """The words in back quotes that begin the rows of the tables of a section."""
    found = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found is not None, section
    return {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", found[1], re.MULTILINE)}


def fields(struct):
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(("section", "listed"), [("Commands", COMMANDS), ("Frames", FRAMES)])
def test_the_document_has_every_action_and_frame(section, listed):
    """docs/protocol.md has a row for each action and frame, with each of its fields, and no other."""
    rows = names_in(section)

    assert {struct.__struct_config__.tag for struct in listed} == set(rows)
    for struct in listed:
        named = set(re.findall(r"`([a-z_]+)`", rows[struct.__struct_config__.tag].split("|")[2]))
        assert fields(struct) == named, struct


def test_the_document_has_every_error_and_close_code():
    """docs/protocol.md has each reason, the number of each error and close code, and says right who comes back."""
    errors, codes = names_in("Errors"), names_in("Close codes")

    assert {reason.value for reason in Reason} == set(names_in("Reasons"))
    assert {name.value: name.code for name in ErrorName} == {
        name: int(row.split("|")[2]) for name, row in errors.items()
    }
    assert {str(code): "yes" if reconnects(code) else "no" for code in CLOSE_CODES} == {
        code: row.split("|")[2].strip() for code, row in codes.items()
    }
