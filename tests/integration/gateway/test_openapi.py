"""The HTTP side is as its OpenAPI description says: asked by a machine that reads it."""

import asyncio

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from loopcast_gateway import openapi

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
OPERATIONS = [path for path in openapi.document()["paths"] if not path.endswith("/stream")]


def test_it_is_served(gateway):
    """The description that is tested is the one that is served, and so is the one of the sockets."""
    served = httpx.get(f"{gateway.http}/v1/openapi.json")
    alias = httpx.get(f"{gateway.http}/openapi.json")
    sockets = httpx.get(f"{gateway.http}/v1/asyncapi.json")

    assert openapi.document() == served.json() == alias.json()
    assert "3.0.0" == sockets.json()["asyncapi"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", OPERATIONS)
async def test_answers_are_as_described(gateway, feed, path, mode):
    """Whatever is asked, with right parameters or wrong ones, the answer is one that the description has."""
    async with feed() as log:
        await log.send("exp-42", *({"n": n} for n in range(20)))
        await log.settle_events(gateway, "exp-42", 20)
    operation = schemathesis.openapi.from_dict(openapi.document())[path]["GET"]
    if mode is GenerationMode.NEGATIVE and not operation.definition.raw["parameters"]:
        pytest.skip("nothing of it can be wrong")
    tried = set()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        answer = case.call(base_url=gateway.http)
        tried.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    await asyncio.to_thread(ask)
    assert {200, 422} & tried


async def test_the_example_is_answered(gateway, feed):
    """A page of an experiment that has events is what the description says."""
    async with feed() as log:
        await log.send("exp-42", {"n": 1}, {"n": [1, "ß", None]})
        await log.settle_events(gateway, "exp-42", 2)
    operation = schemathesis.openapi.from_dict(openapi.document())["/v1/experiments/{experiment}/events"]["GET"]
    case = operation.Case(path_parameters={"experiment": "exp-42"}, query={"order": "newest", "limit": 2})
    answer = await asyncio.to_thread(case.call, base_url=gateway.http)
    case.validate_response(answer, checks=CHECKS)

    assert 2 == len(answer.json()["events"])
