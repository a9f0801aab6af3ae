"""The compose files agree with the code, and with each other."""

import json
import re
from pathlib import Path

import pytest
import yaml

from loopcast.ops import PROBES
from loopcast.settings import PREFIX, SERVICES

FOLDER = Path(__file__).parents[2] / "deploy/compose"
MAIN = yaml.safe_load((FOLDER / "compose.yaml").read_text())
WATCHING = yaml.safe_load((FOLDER / "compose.observability.yaml").read_text())
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


def seconds(duration):
    """A duration as compose writes it, here always in seconds."""
    return float(duration.removesuffix("s"))


def test_every_service_is_in_it():
    """`make compose-up` starts a broker and each service that there is, and nothing else."""
    assert {"broker", *SERVICES} == set(MAIN["services"])


@pytest.mark.parametrize("service", SERVICES)
def test_variables_are_settings_of_the_service(service):
    """Each variable that a service is given is one that it reads, and its plain value is one that it takes."""
    fields = SERVICES[service].model_fields
    given = {**MAIN["services"][service]["environment"]}
    given |= WATCHING["services"].get(service, {}).get("environment", {})
    plain = {n.removeprefix(PREFIX).lower(): VARIABLE.sub(lambda m: m[2] or "", v) for n, v in given.items()}

    assert set() == set(plain) - set(fields)
    # The file of endpoints is inside the container only.
    assert SERVICES[service](**{name: value for name, value in plain.items() if value and not name.endswith("_file")})


@pytest.mark.parametrize("service", SERVICES)
def test_health_and_ports_are_the_services(service):
    """Health is asked at the readiness probe of the service's ops port, and only public ports are published."""
    fields, box = SERVICES[service].model_fields, MAIN["services"][service]
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", box["healthcheck"]["test"][-1])
    published = [int(port.rpartition(":")[2]) for port in box.get("ports", [])]

    assert (str(fields["ops_port"].default), PROBES[1]) == asked.groups()
    assert [fields[name].default for name in ("port",) if name in fields] == published


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_confined_and_starts_after_the_broker(service):
    """It may write nowhere but to its volumes, gains no rights, and has longer to stop than it drains."""
    box = MAIN["services"][service]

    assert box["read_only"] is True
    assert ["ALL"] == box["cap_drop"]
    assert ["no-new-privileges:true"] == box["security_opt"]
    assert {"broker": {"condition": "service_healthy"}} == box["depends_on"]
    assert seconds(box["stop_grace_period"]) > SERVICES[service].model_fields["drain_seconds"].default


def test_ports_are_published_on_this_machine_alone():
    """Nothing asks for a token by default, so nothing is reached from elsewhere by default."""
    published = [p for f in (MAIN, WATCHING) for box in f["services"].values() for p in box.get("ports", [])]

    assert [] == [port for port in published if not port.startswith(("${BIND:-127.0.0.1}:", "127.0.0.1:"))]


def test_the_example_of_variables_has_the_defaults():
    """`.env.example` lists what the main file may be told, with the value that it has anyway."""
    used = dict(VARIABLE.findall((FOLDER / "compose.yaml").read_text()))
    lines = (FOLDER / ".env.example").read_text().splitlines()
    listed = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert used == listed


def test_images_have_versions():
    """No image is whatever the registry calls the latest, but our own, which is built here."""
    images = {n: box["image"] for f in (MAIN, WATCHING) for n, box in f["services"].items() if "image" in box}
    foreign = {n: VARIABLE.sub(lambda m: m[2], image) for n, image in images.items() if n not in SERVICES}

    assert [] == [image for image in foreign.values() if not re.search(r":v?\d", image)]


def test_prometheus_scrapes_every_service():
    """Each ops port is scraped, by the name under which the alerts look for it."""
    config = yaml.safe_load((FOLDER / "prometheus/prometheus.yaml").read_text())
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"]}

    for service, settings in SERVICES.items():
        assert {"names": [service], "type": "A", "port": settings.model_fields["ops_port"].default} == jobs[service]


def test_grafana_shows_the_dashboard_of_the_manifests():
    """Compose mounts the one dashboard that there is."""
    mounts = WATCHING["services"]["grafana"]["volumes"]
    source = next(m.split(":")[0] for m in mounts if m.endswith("/dashboard.json:ro"))

    assert "Loopcast" == json.loads((FOLDER / source).read_text())["title"]
