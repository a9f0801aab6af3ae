"""
Start and end everything in containers, with whichever compose the machine has.

`docker compose` (v2) where it is there, else `docker-compose` (1.29 and later); `COMPOSE` names another. Images that
are missing are built first. The start is over when every service is ready, and says where each is reached.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
SERVICES = sorted(file.parent.name for file in ROOT.glob("services/*/Dockerfile"))
PROJECT = "loopcast"
READY_SECONDS = 180
PORTS = {"producer": 8700, "gateway": 8701, "recorder": 8704, "broker": 5672}
OBSERVED = {"jaeger": 16686, "prometheus": 9090, "grafana": 3000}


class CannotRun(Exception):
    """What is missing, and what to do about it, in one line."""


def main(arguments: list[str]) -> int:
    """Do what is asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/compose/run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up_, down_ = commands.add_parser("up"), commands.add_parser("down")
    up_.add_argument("--observability", action="store_true", help="with Jaeger, Prometheus and Grafana")
    down_.add_argument("--volumes", action="store_true", help="delete the log and what was recorded, too")
    for command in (up_, down_):
        command.add_argument("--project", default=PROJECT, help="the containers' common name (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "up":
            up(options.project, observability=options.observability)
        else:
            down(options.project, volumes=options.volumes)
    except CannotRun as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def up(project: str, *, observability: bool) -> None:
    """Build what is missing, start everything, and wait until it is ready."""
    build_missing()
    files = ["compose.yaml", *(["compose.observability.yaml"] if observability else [])]
    compose(project, files, "up", "--detach", "--remove-orphans")
    await_ready(project, files)
    for service, port in {**PORTS, **(OBSERVED if observability else {})}.items():
        scheme = "amqp" if service == "broker" else "http"
        sys.stdout.write(f"{service:<12} {scheme}://{address(project, files, service, port)}\n")


def down(project: str, *, volumes: bool) -> None:
    """End everything that `up` started."""
    files = ["compose.yaml", "compose.observability.yaml"]
    compose(project, files, "down", "--remove-orphans", *(["--volumes"] if volumes else []))


def build_missing() -> None:
    """Build the images of services that this machine does not have."""
    prefix, tag = os.environ.get("IMAGE_PREFIX", "loopcast-"), os.environ.get("IMAGE_TAG", "latest")
    missing = [name for name in SERVICES if not has_image(f"{prefix}{name}:{tag}")]
    if missing:
        build = [sys.executable, str(ROOT / "deploy/images/build.py"), "--prefix", prefix, "--tag", tag, *missing]
        if subprocess.call(build, cwd=ROOT) != 0:
            raise CannotRun("The images could not be built; the lines above say why.")


def has_image(name: str) -> bool:
    """Whether the engine has an image."""
    engine = shutil.which("docker") or "podman"
    return subprocess.run([engine, "image", "inspect", name], capture_output=True, check=False).returncode == 0


def compose(project: str, files: list[str], *arguments: str) -> None:
    """
    Call compose; what it prints is for the person to see.

    Raises:
        CannotRun: it failed, or there is none.
    """
    command = [*calling(project, files), *arguments]
    if subprocess.call(command, cwd=FOLDER) != 0:
        raise CannotRun(f"`{shlex.join(command)}` in deploy/compose failed; the lines above say why.")


def calling(project: str, files: list[str]) -> list[str]:
    """How compose is called for these files."""
    return [*program(), "--project-name", project, *(part for file in files for part in ("--file", file))]


def program() -> list[str]:
    """
    The compose that this machine has.

    Raises:
        CannotRun: it has none.
    """
    if named := os.environ.get("COMPOSE"):
        return shlex.split(named)
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if old := shutil.which("docker-compose"):
        return [old]
    raise CannotRun("There is no compose: install the docker compose plugin, or the package docker-compose.")


def await_ready(project: str, files: list[str]) -> None:
    """
    Wait until each container with a health check is healthy.

    Raises:
        CannotRun: one is not in time, or has ended.
    """
    deadline = time.monotonic() + READY_SECONDS
    while waiting := unhealthy(project, files):
        if time.monotonic() > deadline:
            raise CannotRun(f"Not ready: {', '.join(sorted(waiting))}. `docker logs` of it says why.")
        time.sleep(1)


def unhealthy(project: str, files: list[str]) -> list[str]:
    """The containers that are not running or not healthy yet."""
    listed = subprocess.run(
        [*calling(project, files), "ps", "-q"], cwd=FOLDER, capture_output=True, text=True, check=True
    ).stdout.split()
    told = subprocess.run(["docker", "inspect", *listed], capture_output=True, text=True, check=True).stdout
    found = {box["Name"].lstrip("/"): box["State"] for box in json.loads(told)}
    return [name for name, state in found.items() if state.get("Health", {}).get("Status", "healthy") != "healthy"]


def address(project: str, files: list[str], service: str, port: int) -> str:
    """Where a container's port is on this machine."""
    command = [*calling(project, files), "port", service, str(port)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not published"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
