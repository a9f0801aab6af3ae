"""What is tested is what is deployed, and everything that can be run is listed."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVICES = sorted(file.parent.name for file in ROOT.glob("services/*/pyproject.toml"))
PIN = re.compile(r"^(\S+==\S+)(.*)\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def pins(name):
    """Each pinned release of a file, with the conditions under which it is installed and its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = {release: (condition.strip(), hashes) for release, condition, hashes in PIN.findall(text)}
    assert len(found) == len(re.findall(r"^\S+==", text, re.MULTILINE))
    return found


@pytest.mark.parametrize("service", ["build", *SERVICES])
def test_a_services_pins_are_those_that_are_tested(service):
    """Every release in a service's file, or that of the images' build, is in `dev.txt` with the same hashes."""
    tested = {release: hashes for release, (_, hashes) in pins("dev").items()}

    assert {} != pins(service)
    assert {} == {release: hashes for release, (_, hashes) in pins(service).items() if tested.get(release) != hashes}


@pytest.mark.parametrize("name", ["dev", "build", *SERVICES])
def test_requirements_name_releases_only(name):
    """No folder of somebody's machine and no address is among them."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()

    assert [] == [line for line in lines if re.match(r"(-|/|\.|\S+ @ |.*://)", line)]


def test_every_target_is_in_the_help():
    """`make help` lists each target with what it does."""
    targets = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert targets == re.findall(r"^  make (\S+) ", listed, re.MULTILINE)
