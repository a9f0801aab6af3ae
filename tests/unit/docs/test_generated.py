"""The pages that come out of the code say what the code says."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
assert spec is not None
assert spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_page_is_current(page):
    """A changed setting or metric is in its page: `make docs` writes it."""
    assert generate.PAGES[page]() == (ROOT / "docs" / page).read_text(encoding="utf-8")
