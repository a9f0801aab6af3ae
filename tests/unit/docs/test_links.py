"""The pages as a whole: each can be reached, and what they name is there."""

import re
from pathlib import Path

import pytest

from loopcast.metrics import INVENTORY
from loopcast.settings import SERVICES, unknown_names

ROOT = Path(__file__).parents[3]
HIDDEN = {".venv", ".loopcast", ".state", ".pytest_cache", "node_modules"}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not HIDDEN & set(p.relative_to(ROOT).parts))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]+)?\)")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def links(page):
    """The files that a page links to, and the headings in them."""
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        yield (page.parent / path).resolve() if path else page, anchor.removeprefix("#")


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name):
    """A file that is there, and a heading that it has."""
    broken = [
        (str(target), anchor)
        for target, anchor in links(ROOT / name)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]

    assert [] == broken


def test_every_page_is_reached_from_the_first():
    """Whoever begins with the README and follows links finds all there is to read."""
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            left += [target for target, _ in links(page)]

    assert [] == sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - reached)


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_metrics_that_a_page_names_exist(name):
    """A variable or metric that was renamed is renamed in prose too; what ends in _ stands for a family of names."""
    text = (ROOT / name).read_text(encoding="utf-8")
    variables = set(re.findall(r"\bLOOPCAST_[A-Z0-9_]*[A-Z0-9]\b(?!_)", text)) - EXAMPLES
    metrics = set(re.findall(r"\bloopcast_[a-z0-9_]+_(?:total|seconds|bytes|events|messages|connections)\b", text))

    assert {} == unknown_names(dict.fromkeys(variables, "x"))
    assert set() == metrics - set(INVENTORY)


EXAMPLES = {
    "LOOPCAST_X_FILE",  # stands for any setting's name
    "LOOPCAST_SERVICE_HOST",  # what Kubernetes puts there
    "LOOPCAST_STRESS_SECONDS",
    "LOOPCAST_STRESS_CLIENTS",
}


@pytest.mark.parametrize("name", NAMES)
def test_tests_that_a_page_names_exist(name):
    """Evidence that is named can be run."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    files = {path.name for path in (ROOT / "tests").rglob("*.py")}
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"\btest_[a-z0-9_]+(?:\.py)?\b", text))

    assert set() == {n for n in named if n not in files and f"{n}.py" not in files and f"def {n}(" not in source}


@pytest.mark.parametrize("service", list(SERVICES))
def test_ports_in_prose_are_those_of_the_settings(service):
    """The overview's table of ports has each service's own."""
    fields = SERVICES[service].model_fields
    row = next(
        line
        for line in (ROOT / "docs/architecture/overview.md").read_text(encoding="utf-8").splitlines()
        if re.fullmatch(rf"\| {service} \|[ \d]*\|[ \d]*\|", line)
    )
    public = str(fields["port"].default) if "port" in fields else ""

    assert [service, public, str(fields["ops_port"].default)] == [cell.strip() for cell in row.strip("|").split("|")]
