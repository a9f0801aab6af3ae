"""The page about webhooks shows endpoints that are taken as they stand."""

import re
from pathlib import Path

import pytest

from loopcast_webhook_forwarder.endpoints import Endpoint
from loopcast_webhook_forwarder.endpoints_file import parse_endpoints

PAGE = (Path(__file__).parents[3] / "docs/architecture/webhooks.md").read_text()
EXAMPLES = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("endpoints:")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_an_endpoints_file(example):
    """Whoever copies it has no complaint to read."""
    assert parse_endpoints(example, "page").endpoints


def test_the_first_example_shows_every_key_and_its_default():
    """A key that the page does not name is known to nobody; a default that it gets wrong is worse."""
    (shown,) = parse_endpoints(EXAMPLES[0], "page").endpoints
    plain = Endpoint.model_validate({"name": "a", "url": "http://x.example", "bindings": ["#"]})
    own = {"name", "url", "experiments", "types", "bindings", "secret", "headers", "ca_file", "dashboard", "trace_url"}

    assert set(Endpoint.model_fields) == {name for name in Endpoint.model_fields if f"    {name}:" in EXAMPLES[0]} | {
        "name"
    }
    for name in Endpoint.model_fields.keys() - own:
        assert (name, getattr(plain, name)) == (name, getattr(shown, name))
