"""Set-up from nothing: when it does something, which way it goes, and what it says when it cannot."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The script, on a project of its own, on a machine that has nothing; what it runs is noted in `ran`."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "deploy/local/bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for file in (
        "deploy/local/bootstrap.py",
        "requirements/dev.txt",
        "shared/pyproject.toml",
        "services/a/pyproject.toml",
    ):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(file)
    module.ROOT = tmp_path
    module.VENV, module.PYTHON = tmp_path / ".venv", tmp_path / ".venv/bin/python"
    module.STAMP, module.REQUIREMENTS = tmp_path / ".state/setup", tmp_path / "requirements/dev.txt"
    module.__file__ = str(tmp_path / "deploy/local/bootstrap.py")
    module.ran = []
    module.really_run, module.run = module.run, module.ran.append
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    return module


def made(bootstrap):
    """As if `.venv` had been made."""
    bootstrap.PYTHON.parent.mkdir(parents=True)
    bootstrap.PYTHON.touch()


def test_nothing_is_done_when_nothing_changed(bootstrap):
    """The second call sees its stamp and runs nothing."""
    bootstrap.main()
    made(bootstrap)
    bootstrap.ran.clear()

    assert 0 == bootstrap.main()
    assert [] == bootstrap.ran


@pytest.mark.parametrize("file", ["requirements/dev.txt", "shared/pyproject.toml", "services/a/pyproject.toml"])
def test_a_changed_input_is_noticed(bootstrap, file):
    """Pins and every package's own settings count."""
    before = bootstrap.fingerprint()
    (bootstrap.ROOT / file).write_text("changed")

    assert before != bootstrap.fingerprint()


def test_a_removed_environment_is_made_again(bootstrap):
    """A stamp without what it stands for is worth nothing."""
    bootstrap.main()
    bootstrap.ran.clear()

    bootstrap.main()

    assert [] != bootstrap.ran


def test_without_uv_it_is_pip_with_hashes(bootstrap):
    """Requirements are checked by their hashes; the packages are installed as they lie there, fetching nothing."""
    bootstrap.main()

    venv, requirements, editable = bootstrap.ran
    assert [sys.executable, "-m", "venv"] == venv[:3]
    assert "--require-hashes" in requirements
    assert ["-e", str(bootstrap.ROOT / "shared"), "-e", str(bootstrap.ROOT / "services/a")] == editable[-4:]
    assert {"--no-build-isolation", "--no-deps"} <= set(editable)


def test_with_uv_it_is_uv(bootstrap, monkeypatch):
    """Where uv is on the PATH, nothing else is used."""
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)

    bootstrap.main()

    assert {"/bin/uv"} == {command[0] for command in bootstrap.ran}
    assert any("--require-hashes" in command for command in bootstrap.ran)


def test_a_missing_venv_module_is_one_line_that_names_the_package(bootstrap, monkeypatch, capsys):
    """An ordinary user is told what to install, and no half of a set-up is stamped."""
    monkeypatch.setattr(bootstrap, "has_venv", lambda: False)
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)

    code = bootstrap.main()

    assert 1 == code
    assert 1 == len(capsys.readouterr().err.splitlines())
    assert not bootstrap.STAMP.exists()


def test_root_on_debian_gets_the_missing_package(bootstrap, monkeypatch):
    """Without package lists the first try fails: then the lists are fetched, and it is tried again."""
    asked = []
    monkeypatch.setattr(bootstrap, "has_venv", lambda: False)
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(bootstrap, "apt", lambda *arguments: asked.append(arguments[0]) or len(asked) > 1)

    assert 0 == bootstrap.main()
    assert ["install", "update", "install"] == asked


def test_an_old_python_is_one_line(bootstrap, monkeypatch, capsys):
    """Where nothing newer is on the machine, the sentence names what is needed and what was found."""
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 6))

    assert 1 == bootstrap.main()
    assert "needs Python 3.11 or newer" in capsys.readouterr().err


def test_a_step_that_fails_stops_the_rest(bootstrap, capsys):
    """The person sees which step it was; the next `make` tries again."""

    def fail(command):
        raise bootstrap.CannotSetUp("`pip` failed")

    bootstrap.run = fail

    assert 1 == bootstrap.main()
    assert "`pip` failed\n" in capsys.readouterr().err
    assert not bootstrap.STAMP.exists()


def test_a_build_backend_finds_its_own_program(bootstrap, monkeypatch):
    """Without build isolation, what was just installed is on the PATH of every step, and no other environment is."""
    seen = {}
    monkeypatch.setenv("VIRTUAL_ENV", "/another")
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda _command, **given: seen.update(given["env"]) or 0)
    bootstrap.really_run(["pip"])

    assert str(bootstrap.VENV / "bin") == seen["PATH"].split(":")[0]
    assert "VIRTUAL_ENV" not in seen


def test_an_old_python_can_read_it():
    """Nothing in it is newer than 3.6, so that an old Python gets a sentence and no traceback."""
    source = (ROOT / "deploy/local/bootstrap.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))

    assert "__future__" not in {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    # Evaluated where a function is made, unless it is quoted.
    annotations = [
        ast.unparse(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in (function.returns, *(argument.annotation for argument in function.args.args))
        if node is not None and not isinstance(node, ast.Constant)
    ]
    assert [] == [text for text in annotations if re.search(r"\[|\|", text)]


def test_an_old_python_s_relative_path_is_found(bootstrap, tmp_path, monkeypatch):
    """Before 3.9 a script is told its path as it was called by."""
    absolute = bootstrap.fingerprint()
    monkeypatch.chdir(tmp_path)
    bootstrap.__file__ = "deploy/local/bootstrap.py"

    assert absolute == bootstrap.fingerprint()
