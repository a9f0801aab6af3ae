"""What `loopcast up` starts, and with which ports and variables."""

from pathlib import Path

import pytest

from loopcast.errors import ConfigurationError
from loopcast.settings import SERVICES
from loopcast.up.plan import BROKER_PORT, make_plan
from loopcast.up.state import forget_state, read_state, write_state


def plan_for(**arguments):
    return make_plan(data=Path("/data"), **arguments)


def test_every_service_is_a_process_of_its_own():
    """The plan has one program for each service, and the demo only where it was asked for."""
    plan = plan_for(environ={}, port_offset=0, demo=False)

    assert list(SERVICES) == [program.name for program in plan.services]
    assert plan.demo is None


def test_ports_are_given_by_up_and_moved_together():
    """An offset moves every port, the broker's included, and a LOOPCAST_PORT of the shell's moves none."""
    environ = {"LOOPCAST_PORT": "1", "LOOPCAST_OPS_PORT": "2"}
    plain = plan_for(environ=environ, port_offset=0, demo=False)
    moved = plan_for(environ=environ, port_offset=100, demo=False)

    assert {port + 100 for port in plain.ports} == set(moved.ports)
    assert BROKER_PORT in plain.ports
    assert "8800" == moved.services[0].environment["LOOPCAST_PORT"]


def test_a_named_broker_is_used():
    """With LOOPCAST_AMQP_URL there is no private node, so its port may be taken."""
    plan = plan_for(environ={"LOOPCAST_AMQP_URL": "amqp://u:p@host/"}, port_offset=0, demo=False)

    assert "amqp://u:p@host/" == plan.amqp_url
    assert BROKER_PORT not in plan.ports


def test_other_variables_reach_the_services():
    """What a person exports reaches every service."""
    plan = plan_for(environ={"LOOPCAST_LOG_LEVEL": "debug"}, port_offset=0, demo=True)

    assert ["debug"] * 5 == [program.environment["LOOPCAST_LOG_LEVEL"] for program in plan.services]
    assert plan.demo is not None
    assert "http://127.0.0.1:8700" == plan.demo.environment["LOOPCAST_URL"]


def test_data_lies_in_one_folder_unless_somebody_says_otherwise():
    """The recorder's database is in `up`'s data folder; a variable of the shell's wins."""
    plan = plan_for(environ={}, port_offset=0, demo=False)
    other = plan_for(environ={"LOOPCAST_RECORDER_SQLITE": "/elsewhere.db"}, port_offset=0, demo=False)

    assert "/data/recorder.db" == plan.services[-1].environment["LOOPCAST_RECORDER_SQLITE"]
    demo = plan_for(environ={}, port_offset=0, demo=True).demo

    assert "/elsewhere.db" == other.services[-1].environment["LOOPCAST_RECORDER_SQLITE"]
    assert "/data/spool" == demo.environment["LOOPCAST_SPOOL_DIR"]


def test_state_says_where_it_runs_and_is_forgotten(tmp_path):
    """`loopcast env` finds the addresses while `up` runs, and a clear sentence after."""
    write_state(tmp_path, {"LOOPCAST_URL": "http://127.0.0.1:8700"})

    assert {"LOOPCAST_URL": "http://127.0.0.1:8700"} == read_state(tmp_path).environment

    forget_state(tmp_path)
    with pytest.raises(ConfigurationError, match="No `loopcast up` runs"):
        read_state(tmp_path)


def test_state_of_a_dead_process_is_not_believed(tmp_path):
    """A file that a killed `up` left behind names no running one."""
    import subprocess
    import sys

    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / "up.json").write_text(f'{{"pid": {int(child.stdout)}, "environment": {{}}}}')

    with pytest.raises(ConfigurationError, match="No `loopcast up` runs"):
        read_state(tmp_path)
