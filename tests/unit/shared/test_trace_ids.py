"""The ids of traces and spans are what the documentation says, for ever."""

import hashlib

import pytest

from loopcast.trace_ids import (
    LOOP,
    action_path,
    check_trace_url,
    loop_path,
    record_uid,
    span_id,
    state_path,
    trace_id,
    trace_url,
)


def framed(*parts):
    """The parts, each behind its length."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def test_a_trace_id_is_the_documented_hash():
    """BLAKE2b-128 over the framed parts, with the salt as `person`, so that another language can compute it."""
    raw = framed(b"trace", "exp ü".encode(), b"run-1", b"2", b"1")
    expected = hashlib.blake2b(raw, digest_size=16, person=b"loopotel-v1").digest()

    assert expected == trace_id("exp ü", "run-1", 2)


def test_a_span_id_is_the_documented_hash_over_its_trace():
    """BLAKE2b-64 over the trace and the path: a span's id is unique in a backend and not in its trace alone."""
    trace = trace_id("exp", "run")
    raw = framed(b"span", trace, b"L/S3/A1")

    assert hashlib.blake2b(raw, digest_size=8, person=b"loopotel-v1").digest() == span_id(trace, "L/S3/A1")


def test_parts_do_not_run_into_each_other():
    """Run 1, attempt 23 is not run 12, attempt 3."""
    assert trace_id("e", "1", 23) != trace_id("e", "12", 3)


def test_a_path_names_state_action_and_sub_loop():
    """What an agent writes to parent its own spans."""
    state = state_path(LOOP, 3)

    assert "L/S3/A1/L2/S1" == state_path(loop_path(action_path(state, 1), 2), 1)


def test_a_log_records_id_is_its_events():
    """One event, one record, however often it is read."""
    assert (32, record_uid("a")) == (len(record_uid("b")), record_uid("a"))
    assert record_uid("a") != record_uid("b")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("jaeger.example/trace/{trace_id}", "whole URL"),
        ("https://jaeger.example/trace/", "needs {trace_id}"),
        ("https://jaeger.example/{trace_id}|x", "encode"),
    ],
)
def test_a_wrong_address_of_traces_is_said(template, words):
    """A template that could make no link ends in a sentence; none at all is none."""
    with pytest.raises(ValueError, match=words):
        check_trace_url(template)
    assert "" == check_trace_url("")


def test_the_address_of_a_trace_holds_its_id():
    """Whatever braces the rest of it has."""
    address = trace_url('https://g.example/explore?left={"q":"{trace_id}"}', "exp", "run-1", 2)

    assert f'https://g.example/explore?left={{"q":"{trace_id("exp", "run-1", 2).hex()}"}}' == address
