"""The OpenAPI and AsyncAPI documents: whole, and of what there is."""

import json
import re

import jsonschema
import pytest

from loopcast.history_query import PARAMETERS, RUN_PARAMETERS
from loopcast_gateway import asyncapi, openapi
from loopcast_gateway.protocol import COMMANDS, FRAMES, Gap, Subscribe, encode
from loopcast_gateway.query import STREAM_PARAMETERS


def references(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("make", [openapi.document, asyncapi.document])
def test_every_reference_is_there(make):
    """No reference leads nowhere, and the document is JSON."""
    document = json.loads(json.dumps(make()))
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]

        assert found, reference


@pytest.mark.parametrize("make", [openapi.document, asyncapi.document])
def test_every_schema_is_one(make):
    """Each schema is a valid one of JSON Schema 2020-12."""
    for schema in make()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_parameters_are_those_that_are_read():
    """The description has each query parameter that a route takes, and no other."""
    paths = openapi.document()["paths"]
    named = {
        path: tuple(p["name"] for p in item["get"]["parameters"] if p["in"] == "query") for path, item in paths.items()
    }

    assert PARAMETERS == named["/v1/experiments/{experiment}/events"]
    assert RUN_PARAMETERS == named["/v1/experiments/{experiment}/runs"]
    assert STREAM_PARAMETERS == named["/v1/experiments/{experiment}/stream"]


def test_every_command_and_frame_is_described():
    """The socket has each command and frame as a message, with its own name on the wire."""
    document = asyncapi.document()

    assert {c.__name__ for c in (*COMMANDS, *FRAMES)} == set(document["channels"]["socket"]["messages"])
    for kind in (*COMMANDS, *FRAMES):
        schema = document["components"]["schemas"][kind.__name__]
        field = "action" if kind in COMMANDS else "type"
        assert [kind.__struct_config__.tag] == schema["properties"][field]["enum"]


def test_a_schema_tells_right_from_wrong():
    """The schemas take what the classes make, and refuse a frame without a field or a command with a strange one."""
    components = asyncapi.document()["components"]

    def valid(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        return jsonschema.Draft202012Validator(schema).is_valid(value)

    assert valid("Gap", json.loads(encode(Gap(experiment_id="a", reason="limit"))))
    assert not valid("Gap", {"type": "gap", "experiment_id": "a"})
    assert valid("Subscribe", json.loads(encode(Subscribe(experiment_id="a", types=["x"]))))
    assert not valid("Subscribe", {"action": "subscribe", "experiment_id": "a", "tags": []})
    assert re.match(components["schemas"]["Position"]["pattern"], "04000000000000000000000000")
