"""Whether frames are what the AsyncAPI document says: every frame that the tests' viewers see is held to it."""

import functools

import jsonschema

from loopcast_gateway import asyncapi
from loopcast_gateway.protocol import FRAMES


@functools.cache
def _validators():
    document = asyncapi.document()
    found = {}
    for kind in FRAMES:
        schema = {"$ref": f"#/components/schemas/{kind.__name__}", "components": document["components"]}
        found[kind.__struct_config__.tag] = jsonschema.Draft202012Validator(schema)
    return found


def check(frame):
    """Raise where `frame` is none that the document has."""
    _validators()[frame["type"]].validate(frame)
