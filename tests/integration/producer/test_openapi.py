"""The producer does what its OpenAPI document says, tried by schemathesis with data made from the document."""

import json

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from processes import Producer
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

EXAMPLES = 80
LENIENT = [negative_data_rejection]
"""Not checked: a trace context that is none is left out, an item of an array refuses itself alone."""

BOTH = ("/v1/experiments/{experiment}/events", "/v1/events")
HEARTBEAT = "/v1/experiments/{experiment}/runs/{run}/heartbeat"


@schemathesis.serializer("application/x-ndjson")
def lines(_, value):
    """Lines are text: they go out as they are, and what is none as the one line that it is in JSON."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def producer(module_vhost_url, tmp_path_factory):
    """One producer for the module."""
    with Producer(module_vhost_url, tmp_path_factory.mktemp("producer") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def document(producer):
    """The document that the running producer serves."""
    return schemathesis.openapi.from_url(f"{producer.url}/openapi.json")


def drive(operation, mode):
    """Send what Hypothesis makes of `operation`, and hold each answer against every check of schemathesis."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        body = case.body if isinstance(case.body, dict) else {}
        if "{experiment}" in operation.path:
            # No schema can say that it is the path's.
            body.pop("experimentid", None)
        if isinstance(attempt := body.get("attempt"), float):
            # 3.0 is an integer to JSON Schema, and none to CloudEvents ("Integer": no fraction).
            body["attempt"] = int(attempt)
        case.call_and_validate(timeout=30, excluded_checks=LENIENT)

    send()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", [*BOTH, HEARTBEAT])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_it_does_what_its_document_says(producer, document, path, mode):
    """Whatever is sent gets a status, headers and a body that the document has, and never a defect of ours."""
    drive(document[path]["POST"], mode)

    assert "Traceback" not in producer.log.read_text()
    assert 202 == producer.post(b"{}").status_code


def test_the_documents_examples_are_taken(producer):
    """What a person copies out of the document works."""
    document = httpx.get(f"{producer.url}/openapi.json").json()
    sent = []
    for path in BOTH:
        for kind, content in document["paths"][path]["post"]["requestBody"]["content"].items():
            example = content["example"]
            url = producer.url + path.replace("{experiment}", "exp-42")
            how = {"content": example.encode()} if isinstance(example, str) else {"json": example}
            answer = httpx.post(url, headers={"content-type": kind}, **how)
            sent.append((kind, answer.status_code, answer.json().get("invalid")))

    assert [(kind, 202, 0) for kind, _, _ in sent] == sent
    assert 8 == len(sent)
