"""
Build the services' images, and say how large each is beside the image it starts from.

Each is built from the repository's root by its own Dockerfile, with the pins of `requirements/` and their hashes. The
engine is `docker`, or `podman` where there is no docker; `CONTAINER_ENGINE` names another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(file.parent.name for file in ROOT.glob("services/*/Dockerfile"))
BASE = "python:3.13-slim"


class CannotBuild(Exception):
    """What is missing, and what to do about it, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What all images of one run share."""

    engine: str
    base: str
    prefix: str
    tag: str
    options: tuple[str, ...] = ()

    def image(self, service: str) -> str:
        """The name that the image of `service` gets."""
        return f"{self.prefix}{service}:{self.tag}"

    def command(self, service: str) -> list[str]:
        """What the engine is called with."""
        arguments = {"BASE": self.base, "VERSION": version(service), "REVISION": revision()}
        return [
            *(self.engine, "build", "--file", f"services/{service}/Dockerfile", "--tag", self.image(service)),
            *(part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")),
            *self.options,
            ".",
        ]


def main(arguments: list[str]) -> int:
    """Build what is asked for; the exit code."""
    options = parse(arguments)
    try:
        build = Build(
            engine=engine(), base=options.base, prefix=options.prefix, tag=options.tag, options=tuple(options.build)
        )
        for service in options.services or SERVICES:
            make(build, service)
        sys.stdout.write(sizes(build, options.services or SERVICES))
    except CannotBuild as error:
        say(str(error))
        return 1
    return 0


def make(build: Build, service: str) -> None:
    """
    Build one image.

    Raises:
        CannotBuild: the engine could not.
    """
    say(f"Building {build.image(service)}")
    if subprocess.call(build.command(service), cwd=ROOT, stdout=sys.stderr.fileno()) != 0:
        raise CannotBuild(f"The image of {service} could not be built; the lines above say why.")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; what follows `--` goes to the engine's `build` as it is."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="make images", description="Build the services' images.")
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"one or more of {', '.join(SERVICES)}")
    parser.add_argument("--base", default=BASE, help="the image with Python that they start from (%(default)s)")
    parser.add_argument("--tag", default="latest", help="their tag (%(default)s)")
    parser.add_argument("--prefix", default="loopcast-", help="what their names begin with (%(default)s)")
    options = parser.parse_args(arguments[:at])
    if unknown := set(options.services) - set(SERVICES):
        parser.error(f"there is no service {min(unknown)}; there are {', '.join(SERVICES)}")
    options.build = arguments[at + 1 :]
    return options


def engine() -> str:
    """
    The container engine to call.

    Raises:
        CannotBuild: there is none, or it does not answer.
    """
    name = os.environ.get("CONTAINER_ENGINE") or shutil.which("docker") or shutil.which("podman")
    if not name:
        raise CannotBuild("There is no container engine: install docker or podman, or name one in CONTAINER_ENGINE.")
    if subprocess.run([name, "version"], capture_output=True, check=False).returncode != 0:
        raise CannotBuild(f"{name} does not answer: start its engine, or set DOCKER_HOST to where it listens.")
    return name


def version(service: str) -> str:
    """The service's version, as its package has it."""
    with (ROOT / "services" / service / "pyproject.toml").open("rb") as file:
        found = tomllib.load(file)["project"]["version"]
    return str(found)


def revision() -> str:
    """The commit that is built, or `unknown` outside a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def sizes(build: Build, services: list[str]) -> str:
    """A table of what each image adds to its base."""
    base = size(build.engine, build.base)
    lines = [f"{'image':<40} {'MB':>6} {'of its own':>11}"]
    for service in services:
        whole = size(build.engine, build.image(service))
        lines.append(f"{build.image(service):<40} {whole / 1e6:6.0f} {(whole - base) / 1e6:11.0f}")
    return "\n".join([*lines, f"{build.base:<40} {base / 1e6:6.0f}", ""])


def size(engine_: str, image: str) -> int:
    """Bytes of an image, uncompressed."""
    command = [engine_, "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def say(sentence: str) -> None:
    """Tell the person how it goes."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
