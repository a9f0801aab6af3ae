"""How a service's program begins."""

import gc
import subprocess
import sys
from types import ModuleType

import pytest

from loopcast.errors import ConfigurationError
from loopcast.starting import start

APPS = ("gateway", "recorder", "producer")
DEAR = {"aio_pika", "cryptography", "jwt", "psycopg", "redis"}


def test_what_few_need_costs_nobody_else_a_start():
    """Services are imported without what only some settings need: cryptography, drivers, the other client."""
    source = f"import sys, {', '.join(f'loopcast_{app}.app' for app in APPS)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert set() == DEAR & set(done.stdout.split())


def test_cycles_are_looked_for_once_it_runs(monkeypatch, capsys):
    """While a service's modules are imported nobody looks for cycles in them; what runs then is looked through."""
    seen = []

    def build():
        seen.append(gc.isenabled())
        raise ConfigurationError("LOOPCAST_X: no.")

    class Late(ModuleType):
        def __getattr__(self, name):
            seen.append(gc.isenabled())
            return {"build": build}[name]

    monkeypatch.setitem(sys.modules, "late_service", Late("late_service"))
    with pytest.raises(SystemExit) as ended:
        start("late_service")

    assert ([False, True], 2, "LOOPCAST_X: no.\n") == (seen, ended.value.code, capsys.readouterr().err)
