"""The endpoints file: what it takes, and that every complaint names the line a person has to mend."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.endpoints import Endpoint
from loopcast_webhook_forwarder.endpoints_file import parse_endpoints
from loopcast_webhook_forwarder.setups import read_setups

WHOLE = """\
endpoints:
  - name: ci
    url: https://ci.example.com/hooks/loops
    experiments: ["exp-42", "a.b"]
    types: ["loop_complete", "issue.#"]
    bindings: ["*.loop_complete"]
    format: cloudevents-batch
    secret: {file: /run/secrets/ci}
    headers: {X-Team: agents}
    batch: {max_events: 100, max_ms: 1000, max_bytes: 262144}
    retry: {schedule: [0.5, 2, 10m], give_up_after: 72h}
    timeout: 15s
"""


def parse(text: str):
    return parse_endpoints(textwrap.dedent(text), "hooks.yaml")


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return str(caught.value)


def test_the_design_s_example_is_read_whole():
    """Every key of the documented example means what the page says."""
    endpoint = parse(WHOLE).endpoints[0]

    assert endpoint.patterns == (
        "*.loop_complete",
        "a%2Eb.issue.#",
        "a%2Eb.loop_complete",
        "exp-42.issue.#",
        "exp-42.loop_complete",
    )
    assert endpoint.retry.schedule == (0.5, 2.0, 600.0)
    assert endpoint.retry.give_up_after == 72 * 3600
    assert endpoint.timeout == 15
    assert [str(s.file) for s in endpoint.secret] == ["/run/secrets/ci"]


def test_an_experiment_alone_means_all_its_types_and_a_type_alone_every_experiment():
    """The two short forms bind to what they name, and an id with wildcards binds to itself alone."""
    endpoints = parse("""\
        endpoints:
          - {name: one, url: "http://x.example", experiments: ["exp.*"]}
          - {name: two, url: "http://x.example", types: [loop_start]}
        """).endpoints

    assert [e.patterns for e in endpoints] == [("exp%2E%2A.#",), ("*.loop_start",)]


@pytest.mark.parametrize(
    ("line", "more", "words"),
    [
        (3, "    url: ftp://x.example\n    bindings: ['#']\n", "https://ci.example.com"),
        (3, "    url: http://user:hunter2@x.example\n    bindings: ['#']\n", "header"),
        (2, "    bindings: ['#']\n", "url is missing"),
        (4, "    url: http://x.example\n    bind: ['#']\n", "no such key"),
        (2, "    url: http://x.example\n", "which events"),
        (4, "    url: http://x.example\n    bindings:\n      - 'a..b'\n", "no pattern"),
        (6, "    url: http://x.example\n    bindings: ['#']\n    retry:\n      schedule: [1, soon]\n", "no duration"),
        (5, "    url: http://x.example\n    bindings: ['#']\n    format: xml\n", "slack"),
        (5, "    url: http://x.example\n    bindings: ['#']\n    timeout: 0\n", "greater"),
        (5, "    url: http://x.example\n    bindings: ['#']\n    url: http://y.example\n", "twice"),
        (5, "    url: http://x.example\n    bindings: ['#']\n    headers: {Webhook-Id: x}\n", "no header"),
        (3, "    url: !!python/object:os.system {}\n", "plain"),
        (3, "    url: !!python/name:os.system\n", "constructor"),
        (3, "\turl: http://x.example\n", "cannot start any token"),
        (3, "  - name: B\n", "a-z"),
        (4, "    url: http://x.example\n    experiments: ['']\n", "empty"),
    ],
)
def test_a_complaint_names_its_line(line, more, words):
    """Whatever is wrong is said with the file, the line and what to write instead."""
    said = [s for s in complaint("endpoints:\n  - name: ci\n" + more).splitlines() if words in s]

    assert [s.split(": ")[0] for s in said] == [f"hooks.yaml:{line}"]


@pytest.mark.parametrize("text", ["- name: ci\n", "endpoints", "42"])
def test_a_file_that_is_no_mapping_says_what_it_should_be(text):
    """The first line is where it goes wrong."""
    assert complaint(text) == "hooks.yaml:1: the file must be a mapping with the key endpoints"


def test_all_faults_are_said_at_once_in_the_order_of_the_file():
    """Nobody mends one line to be told of the next."""
    said = complaint("""\
        endpoints:
          - name: a
            url: nowhere
            bindings: ["#"]
          - name: b
            url: http://x.example
            bindings: ["#"]
            batch: {max_events: 0}
        """)

    assert [line.split(":")[1] for line in said.splitlines()] == ["3", "8"]


def test_a_name_that_stands_twice_names_both_lines():
    """Two endpoints of one name would share a queue."""
    said = complaint("""\
        endpoints:
          - {name: a, url: "http://x.example", bindings: ["#"]}
          - {name: a, url: "http://y.example", bindings: ["#"]}
        """)

    assert said == "hooks.yaml:3: the name 'a' is taken by the endpoint of line 2"


def test_a_password_is_not_shown_in_the_complaint_about_it():
    """What is refused because it is secret is not logged because it is refused."""
    said = complaint("endpoints:\n  - {name: a, url: 'http://user:hunter2@x.example', bindings: ['#']}\n")

    assert "hunter2" not in said


def test_an_empty_file_has_no_endpoints():
    """A fresh file is legal."""
    assert parse("").endpoints == ()
    assert parse("endpoints: []\n").endpoints == ()


@given(st.text(max_size=200))
def test_any_text_is_endpoints_or_a_complaint_with_a_line(text):
    """No text makes anything but endpoints or one kind of error."""
    try:
        said = [isinstance(e, Endpoint) for e in parse_endpoints(text, "f").endpoints]
    except ConfigurationError as error:
        said = [str(error).startswith("f:")]

    assert all(said)


def test_one_event_a_request_where_the_format_holds_one():
    """A format of single events has batches of one, whatever the batch says."""
    endpoint = parse("""\
        endpoints:
          - {name: a, url: "http://x.example", bindings: ["#"], format: github, batch: {max_events: 50}}
        """).endpoints[0]

    assert endpoint.max_events == 1


def test_looking_at_an_unchanged_file_makes_no_tls_anew(tmp_path):
    """The file is read every few seconds; what all endpoints trust is loaded once, and compared without a change."""
    file = tmp_path / "endpoints.yaml"
    file.write_text(
        "endpoints:\n" + "".join(f"  - {{name: e{n}, url: 'https://a.example', bindings: ['#']}}\n" for n in range(3))
    )
    first, second = read_setups(file), read_setups(file)

    assert first == second
    assert 1 == len({id(setup.tls) for setup in (*first.values(), *second.values())})
