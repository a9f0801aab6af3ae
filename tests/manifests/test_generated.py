"""Manifests that come out of the code are what the code says now."""

import pytest
from manifests import generator


@pytest.mark.parametrize("path", generator().PAGES, ids=lambda path: path.name)
def test_what_is_written_is_up_to_date(path):
    """`make docs` changes nothing."""
    assert generator().PAGES[path]() == path.read_text()
