"""Manifests that come out of the code are what the code says now."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"


def _load():
    spec = importlib.util.spec_from_file_location("kubernetes_generate", FOLDER / "generate.py")
    module = sys.modules["kubernetes_generate"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _load()


@pytest.mark.parametrize("path", GENERATE.PAGES, ids=lambda path: path.name)
def test_what_is_written_is_up_to_date(path):
    """`make docs` changes nothing."""
    assert GENERATE.PAGES[path]() == path.read_text()
