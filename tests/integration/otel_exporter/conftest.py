"""What every test of the exporter has behind it."""

import pytest
from otel_receiver import Receiver


@pytest.fixture
def receiver():
    """A backend that takes everything until a test tells it otherwise."""
    with Receiver() as made:
        yield made
