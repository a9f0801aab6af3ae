"""Each service by itself, with nothing but a broker beside it."""

import json
import time

import pytest
from containers import docker

from loopcast.settings import SERVICES

CONFINED = [
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:size=16m"),
    *("--env", "LOOPCAST_AMQP_URL=amqp://loopcast:loopcast@broker:5672/"),
    *("--env", "LOOPCAST_ALLOW_ANONYMOUS=true"),
]
PROBE = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/{probe}', timeout=2).status)"
STOP_SECONDS = 45


def probed(box, port, probe):
    return docker("exec", box, "python3", "-c", PROBE.format(port=port, probe=probe), check=False)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_alone(images, network, service):
    """It is alive before the broker is, ready once it is there, says so in JSON, and ends with 0 when told to."""
    port = SERVICES[service].model_fields["ops_port"].default
    box = docker("run", "--detach", "--network", network, *CONFINED, f"loopcast-{service}:{images}")
    begun = time.monotonic()
    while probed(box, port, "readyz") != "200":
        assert time.monotonic() < begun + 90, docker("logs", box)
        time.sleep(0.5)
    alive = probed(box, port, "livez")
    docker("stop", "--time", str(STOP_SECONDS), box)
    code = docker("inspect", "--format", "{{.State.ExitCode}}", box)
    lines = [json.loads(line) for line in docker("logs", box).splitlines()]

    assert ("200", "0") == (alive, code)
    assert {"listening", "serving", "draining", "stopped"} <= {line["event"] for line in lines}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_waits_for_a_broker(images, engine, service):
    """Without a broker it is alive and not ready, and says why."""
    port = SERVICES[service].model_fields["ops_port"].default
    box = docker("run", "--detach", "--network", "none", *CONFINED, f"loopcast-{service}:{images}")
    try:
        begun = time.monotonic()
        while probed(box, port, "livez") != "200":
            assert time.monotonic() < begun + 60, docker("logs", box)
            time.sleep(0.5)
        ready = probed(box, port, "readyz")
        docker("stop", "--time", str(STOP_SECONDS), box)

        assert "503" in ready
        assert "0" == docker("inspect", "--format", "{{.State.ExitCode}}", box)
    finally:
        docker("rm", "--force", box)
