"""
Compile `requirements/*.txt`: `dev.txt` for the workspace, `build.txt` and one file for each service for the images.

Pins of an existing file are kept; `--upgrade` looks for newer ones. A service's pins are those of `dev.txt`, so that
what is tested is what is deployed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = ROOT / ".venv" / "bin" / "uv"
COMPILE = [
    *(str(UV), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11"),
    *("--no-header", "--no-emit-package", "loopcast"),
]
DEV = "requirements/dev.txt"


def main(options: list[str]) -> int:
    """Compile every file; the exit code."""
    projects = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.glob("services/*/pyproject.toml"))
    compile_file(DEV, ["--group", "dev", "--all-extras", "shared/pyproject.toml", *projects, *options])
    compile_image("requirements/build.txt", "--group", "build")
    for project in projects:
        compile_image(f"requirements/{Path(project).parent.name}.txt", project)
    return 0


def compile_image(target: str, *what: str) -> None:
    """Write one file of what `dev.txt` has."""
    # The constraints decide, so an old pin in the file must not.
    (ROOT / target).unlink(missing_ok=True)
    compile_file(target, ["--constraints", DEV, *what])


def compile_file(target: str, arguments: list[str]) -> None:
    """Write one file."""
    print(target)
    subprocess.run([*COMPILE, *arguments, "--output-file", target], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
