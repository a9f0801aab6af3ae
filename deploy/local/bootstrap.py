"""
Make `.venv` from nothing: the pinned requirements, checked by their hashes, and every package of this workspace.

Run by whatever Python the machine has, so it uses the standard library only and must be readable to older ones, from
3.6 on, long enough to say what it needs. With uv where there is one, else with `venv` and pip, else it says what to
install; on Debian, as root, it installs that. Does nothing when nothing changed since the last time.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = ROOT / ".state" / "setup"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"

OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11", "python3.14")


class CannotSetUp(Exception):
    """What is missing, and what to do about it, in one line."""


def main() -> int:
    """Set up if anything changed; the exit code."""
    wanted = fingerprint()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return 0
    try:
        set_up()
    except CannotSetUp as error:
        sys.stderr.write(f"{error}\n")
        return 1
    STAMP.parent.mkdir(exist_ok=True)
    STAMP.write_text(wanted)
    return 0


def fingerprint() -> str:
    """Everything that `.venv` is made from, as one word."""
    digest = hashlib.sha256()
    for file in [Path(__file__).resolve(), REQUIREMENTS, *(folder / "pyproject.toml" for folder in packages())]:
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def packages() -> "list[Path]":
    """The folders of the workspace's own packages; what they share comes first."""
    services = sorted(file.parent for file in (ROOT / "services").glob("*/pyproject.toml"))
    return [ROOT / "shared", *services]


def set_up() -> None:
    """Make or renew `.venv`, the quickest way this machine has."""
    uv = shutil.which("uv")
    if uv:
        with_uv(uv)
    elif sys.version_info < OLDEST:
        with_a_newer_python()
    else:
        with_pip()


def with_uv(uv: str) -> None:
    """With uv, which brings a Python of its own where the machine's is too old."""
    say("Setting up .venv with uv")
    if not PYTHON.exists():
        wanted = sys.executable if sys.version_info >= OLDEST else ">=3.11"
        run([uv, "venv", "--quiet", "--clear", "--python", wanted, str(VENV)])
    into = ["--quiet", "--python", str(PYTHON)]
    # Compiled now, as pip does it: every service's start is a second shorter.
    run([uv, "pip", "sync", *into, "--compile-bytecode", "--require-hashes", str(REQUIREMENTS)])
    run([uv, "pip", "install", *into, *editable()])


def with_pip() -> None:
    """With what comes with Python; on Debian that is a package of its own."""
    if not has_venv():
        install_venv()
    say("Setting up .venv with pip (a minute or two; with uv on the PATH it is seconds)")
    if not PYTHON.exists():
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--requirement", str(REQUIREMENTS)])
    run([*pip, *editable()])


def editable() -> "list[str]":
    """Every package as it lies here; its build backend is among the requirements, so nothing more is fetched."""
    return ["--no-build-isolation", "--no-deps", *(part for folder in packages() for part in ("-e", str(folder)))]


def has_venv() -> bool:
    """Whether this Python can make a virtual environment with pip in it."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def install_venv() -> None:
    """As root on Debian, install what is missing; everywhere else, say what is."""
    advice = "Python's venv module is missing: install the package python3-venv (`apt install python3-venv`), or uv."
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise CannotSetUp(advice)
    say("Installing python3-venv with apt-get")
    install = ("install", "--yes", "--no-install-recommends", "python3-venv")
    if not (apt(*install) or (apt("update") and apt(*install))):
        raise CannotSetUp(advice)


def apt(*arguments: str) -> bool:
    """Whether apt-get did it; without package lists it fails the first time."""
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *arguments]
    return (
        subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
        == 0
    )


def with_a_newer_python() -> None:
    """Start again with a newer Python of this machine, where its `python3` is an old one."""
    for name in NEWER:
        found = shutil.which(name)
        if found:
            os.execv(found, [found, *sys.argv])
    here = ".".join(map(str, sys.version_info[:2]))
    raise CannotSetUp(f"Loopcast needs Python 3.11 or newer, or uv; {sys.executable} is {here}.")


def run(command: "list[str]") -> None:
    """Run a step; what it prints is for the person to see."""
    # A virtual environment that happens to be active is not the one meant.
    variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    # The build backend looks for its own program on the PATH.
    variables["PATH"] = os.pathsep.join([str(VENV / "bin"), os.environ.get("PATH", os.defpath)])
    if subprocess.call(command, cwd=str(ROOT), env=variables, stdin=subprocess.DEVNULL) != 0:
        raise CannotSetUp(f"`{' '.join(command[:3])} …` failed; the lines above say why.")


def say(sentence: str) -> None:
    """Tell the person what takes long."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
