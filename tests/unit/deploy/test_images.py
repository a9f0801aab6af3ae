"""The images: each builds one service from its pins, and runs as nobody in particular."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from loopcast.settings import PREFIX, SERVICES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def build():
    """`deploy/images/build.py`, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("images_build", ROOT / "deploy/images/build.py")
    module = sys.modules["images_build"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions(service):
    """The instructions of a Dockerfile, each on one line, by stage."""
    text = (ROOT / "services" / service / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found = [line.split(maxsplit=1) for line in lines if line]
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[:last], found[last:]


def values(stage, name):
    return [value for found, value in stage if found == name]


def test_every_service_has_an_image(build):
    """What the settings know as a service is what images are built of."""
    assert sorted(SERVICES) == build.SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_one_services_code_and_pins(service):
    """Nothing but the shared package, the service and its pins, checked by their hashes, gets into an image."""
    making, final = instructions(service)

    copied = {f"requirements/build.txt requirements/{service}.txt requirements/", "shared shared"}
    assert {*copied, f"services/{service} services/{service}"} == set(values(making, "COPY"))
    assert f"--require-hashes --requirement requirements/{service}.txt" in " ".join(values(making, "RUN")[0].split())
    assert [] == values(final, "RUN")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_its_command_as_pid_1_and_not_as_root(service):
    """The exec form gets SIGTERM to the service; the user is a number, which `runAsNonRoot` can check."""
    _, final = instructions(service)
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]

    assert [list(project["scripts"])] == [json.loads(entry) for entry in values(final, "ENTRYPOINT")]
    assert ["10001:10001"] == values(final, "USER")
    assert [] == values(final, "CMD")


@pytest.mark.parametrize("service", SERVICES)
def test_an_images_ports_and_variables_are_the_settings(service):
    """It exposes the ports that the settings have by default, and sets only what the service reads."""
    _, final = instructions(service)
    fields = SERVICES[service].model_fields
    variables = dict(part.split("=", 1) for line in values(final, "ENV") for part in line.split())
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items() if name.startswith(PREFIX)}

    ports = [fields[name].default for name in ("port", "ops_port") if name in fields]
    assert [" ".join(map(str, ports))] == values(final, "EXPOSE")
    assert {} == {name: value for name, value in ours.items() if name not in fields}
    assert {name: "0.0.0.0" for name in ("host", "ops_host") if name in fields} == {
        name: value for name, value in ours.items() if name.endswith("host")
    }


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_says_what_it_is(service):
    """Version, commit, licence and base are labels that registries and scanners read."""
    _, final = instructions(service)
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\S+)="([^"]*)"', " ".join(values(final, "LABEL"))))
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]

    assert (project["name"], project["description"]) == (labels["title"], labels["description"])
    assert {"version": "${VERSION}", "revision": "${REVISION}", "base.name": "${BASE}", "licenses": "MIT"}.items() <= (
        labels.items()
    )


def test_the_command_line_reaches_the_engine(build):
    """A base, a tag and a prefix change what is built; what follows `--` is the engine's."""
    options = build.parse(["gateway", "--base", "b:1", "--tag", "7", "--prefix", "reg/lc-", "--", "--network", "host"])
    plan = build.Build(
        engine="docker", base=options.base, prefix=options.prefix, tag=options.tag, options=tuple(options.build)
    )

    command = " ".join(plan.command("gateway"))

    assert ["gateway"] == options.services
    assert "docker build --file services/gateway/Dockerfile --tag reg/lc-gateway:7 --build-arg BASE=b:1 " in command
    assert command.endswith("--network host .")


def test_a_service_that_does_not_exist_is_refused(build, capsys):
    """The sentence lists those that do."""
    with pytest.raises(SystemExit):
        build.parse(["gatway"])

    assert "there is no service gatway; there are gateway" in capsys.readouterr().err
