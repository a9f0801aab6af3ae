"""Benchmarks are run by hand; what they are made of must be there all the same."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
BENCHMARKS = sorted(file.stem for file in FOLDER.glob("*.py") if "argparse" in file.read_text())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_starts(name, monkeypatch):
    """All that it imports exists; one that needs a library which is no dependency says so by that library's absence."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    if name == "stream_protocol":
        pytest.importorskip("rstream")

    assert "main" in runpy.run_path(str(FOLDER / f"{name}.py"), run_name=name)
