"""What a private node is started with."""

import pytest

from loopcast.errors import NodeError
from loopcast.node.engine import Image, choose
from loopcast.node.installed import Installed, find_installed, homes, server_in
from loopcast.node.launch import Ports, configuration, enabled_plugins, environment, plugin_list
from loopcast.node.layout import Layout
from loopcast.node.plugins import link_server, needed

PORTS = Ports(amqp=21000, stream=None, distribution=21001, epmd=21002)
WITH_STREAM = Ports(amqp=21000, stream=21003, distribution=21001, epmd=21002)

APPLICATIONS = {
    "rabbit": "{application, rabbit, [{applications, [kernel,\n  rabbit_common, ranch]}, {mod, {rabbit, []}}]}.",
    "rabbitmq_prelaunch": "{application, rabbitmq_prelaunch, [{applications, [kernel]}]}.",
    "cuttlefish": "{application, cuttlefish, [{applications, [getopt]}]}.",
    "rabbit_common": "{application, rabbit_common, [{applications, [recon]}, {optional_applications, [seshat]}]}.",
    "rabbitmq_stream": "{application, rabbitmq_stream, [{applications, [rabbit, rabbitmq_stream_common]}]}.",
    "rabbitmq_stream_common": "{application, rabbitmq_stream_common, [{applications, []}]}.",
    **{name: f"{{application, {name}, [{{applications, []}}]}}." for name in ("ranch", "recon", "getopt", "seshat")},
    "rabbitmq_management": "{application, rabbitmq_management, [{applications, [rabbit, cowboy]}]}.",
    "cowboy": "{application, cowboy, [{applications, []}]}.",
}
CORE = {"rabbit", "rabbitmq_prelaunch", "cuttlefish", "rabbit_common", "ranch", "recon", "getopt", "seshat"}


@pytest.fixture
def layout(tmp_path):
    """An empty data folder."""
    layout = Layout(tmp_path / "data")
    layout.prepare()
    return layout


@pytest.fixture
def home(tmp_path):
    """What an installed server looks like on disk."""
    home = tmp_path / "rabbitmq_server-3.13.7"
    for name in ("sbin/rabbitmq-server", "sbin/rabbitmq-env", "sbin/rabbitmqctl", "escript/rabbitmqctl"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    for name, text in APPLICATIONS.items():
        ebin = home / "plugins" / f"{name}-3.13.7" / "ebin"
        ebin.mkdir(parents=True)
        (ebin / f"{name}.app").write_text(text)
    return home


def test_the_plugins_needed_are_those_the_server_depends_on():
    """Dependencies are followed, optional ones too; what nothing asks for is left out."""
    assert CORE == needed(APPLICATIONS, [])


def test_an_enabled_plugin_brings_its_own_dependencies():
    """The stream plugin needs its common part."""
    assert CORE | {"rabbitmq_stream", "rabbitmq_stream_common"} == needed(APPLICATIONS, ["rabbitmq_stream"])


def test_the_view_of_a_server_has_the_needed_plugins_only(home, tmp_path):
    """Scripts are the installed ones; the plugin folder holds links to what is needed, anew at each start."""
    view = tmp_path / "view"
    link_server(home, view, ["rabbitmq_stream"])
    link_server(home, view, [])

    assert CORE == {entry.name.partition("-")[0] for entry in (view / "plugins").iterdir()}
    assert home / "sbin" == (view / "sbin").resolve()


def test_a_server_of_unknown_packaging_keeps_all_its_plugins(home, tmp_path):
    """Where the server's application is an archive, nothing is left out."""
    (home / "plugins" / "rabbit-3.13.7" / "ebin" / "rabbit.app").unlink()

    link_server(home, tmp_path / "view", [])

    assert len(APPLICATIONS) == len(list((tmp_path / "view" / "plugins").iterdir()))


def test_the_stream_plugin_is_enabled_only_for_its_port():
    """Streams as queues need no plugin."""
    assert "[].\n" == enabled_plugins(plugin_list(PORTS))
    assert "[rabbitmq_stream].\n" == enabled_plugins(plugin_list(WITH_STREAM))


def test_the_configuration_listens_where_it_is_told_and_nowhere_else():
    """One AMQP listener; a stream listener and what it tells its clients only where there is a port for it."""
    plain = configuration(host="127.0.0.1", amqp=21000, stream=None, advertised_stream=None)
    streaming = configuration(host="0.0.0.0", amqp=5672, stream=5552, advertised_stream=21003)

    assert ["listeners.tcp.1 = 127.0.0.1:21000"] == [line for line in plain.splitlines() if "listeners" in line]
    assert "stream" not in plain
    assert [
        "stream.listeners.tcp.1 = 0.0.0.0:5552",
        "stream.advertised_host = 127.0.0.1",
        "stream.advertised_port = 21003",
    ] == [line for line in streaming.splitlines() if line.startswith("stream.")]


def test_the_environment_is_whole_and_nobody_elses(layout, monkeypatch):
    """A variable meant for another broker does not reach this one; every file lies in the data folder."""
    monkeypatch.setenv("RABBITMQ_NODENAME", "somebody@else")
    monkeypatch.setenv("SECRET", "not for a log")

    made = environment(layout, PORTS, [layout.data / "bin"], [])

    assert layout.node_name() == made["RABBITMQ_NODENAME"]
    assert "SECRET" not in made
    assert "LD_LIBRARY_PATH" not in made
    assert "21002" == made["ERL_EPMD_PORT"]
    files = {name: value for name, value in made.items() if name.endswith(("_FILE", "_FILES", "_BASE", "_LOGS"))}
    assert {} == {name: value for name, value in files.items() if not value.startswith(str(layout.data))}


def test_distribution_and_port_mapper_stay_on_the_loopback(layout):
    """Erlang's own ports are bound to 127.0.0.1, for the server and for its tools, and no other mapper is started."""
    made = environment(layout, PORTS, [], [])

    for name in ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "RABBITMQ_CTL_ERL_ARGS"):
        assert "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false" in made[name]
    assert "127.0.0.1" == made["ERL_EPMD_ADDRESS"]


def test_a_nodes_name_and_cookie_stay_with_its_data(layout):
    """RabbitMQ finds its database by the node's name, so it is made once; the cookie is for its owner alone."""
    name = layout.node_name()
    layout.write_cookie()
    cookie = (layout.home / ".erlang.cookie").read_text()
    layout.write_cookie()

    assert name == Layout(layout.data).node_name()
    assert name.endswith("@localhost")
    assert cookie == (layout.home / ".erlang.cookie").read_text()
    assert 0o400 == (layout.home / ".erlang.cookie").stat().st_mode & 0o777


def test_a_record_that_cannot_be_read_is_no_record(layout):
    """Half a file, as a crash leaves it, counts as none."""
    layout.record.write_text('{"server": 12')
    layout.pid.write_text("")

    assert {} == layout.processes()
    assert 0 == layout.server_pid()


def test_the_folder_that_a_person_names_comes_first(home):
    """RABBITMQ_HOME beats what packages left in their usual places."""
    assert home == homes({"RABBITMQ_HOME": str(home), "PATH": ""})[0]


def test_a_server_is_recognised_by_its_scripts_and_release(home):
    """A folder without the server's own scripts, or of a release before 3.10, is none that can be used."""
    assert server_in(home)

    (home / "plugins" / "rabbit-3.13.7").rename(home / "plugins" / "rabbit-3.9.27")
    assert not server_in(home)

    (home / "plugins" / "rabbit-3.9.27").rename(home / "plugins" / "rabbit-3.13.7")
    (home / "sbin" / "rabbitmq-env").unlink()
    assert not server_in(home)


def test_an_installed_server_needs_an_erlang_to_be_found(home, tmp_path, monkeypatch):
    """Scripts alone start nothing."""
    monkeypatch.setattr("loopcast.node.installed._ERLANG_FOLDERS", ())
    variables = {"RABBITMQ_HOME": str(home), "PATH": str(tmp_path / "bin")}
    without = find_installed(variables)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "erl").touch(mode=0o755)

    assert without is None
    assert home == find_installed(variables).home


def test_an_erlang_without_port_mapper_is_one_clear_line(home, layout, tmp_path):
    """A runtime that cannot be used is reported, not started into a timeout."""
    with pytest.raises(NodeError, match="`epmd` was not found beside `erl`"):
        Installed(home=home, search=(tmp_path,)).prepare(layout, PORTS)


def test_erlangs_programs_are_found_in_the_runtimes_own_folder(home, layout, tmp_path):
    """Where only `erl` is on the path, the port mapper is looked for in the runtime it belongs to."""
    for name in ("bin/erl", "erts-15/bin/epmd", "lib/erl_interface-5/bin/erl_call"):
        (tmp_path / "erlang" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "erlang" / name).touch(mode=0o755)

    launch = Installed(home=home, search=(tmp_path / "erlang" / "bin",)).prepare(layout, PORTS)

    assert str(tmp_path / "erlang/erts-15/bin/epmd") == launch.epmd[0]
    assert str(tmp_path / "erlang/lib/erl_interface-5/bin/erl_call") == launch.call[0]


def test_the_newest_image_that_is_new_enough_is_chosen():
    """Of the images an engine has; names of other things and old releases are no RabbitMQ."""
    images = ["rabbitmq:3.9", "rabbitmq:3.13-management", "rabbitmq:4-management", "rabbitmq:4.0.5", "other:9"]

    assert "rabbitmq:4-management" == choose(images)
    assert "rabbitmq:3.13-management" == choose(images[:2])
    assert choose(["rabbitmq:3.9", "rabbitmq:latest"]) is None


def test_a_container_is_bound_to_the_loopback_and_to_the_data_folder(layout, monkeypatch):
    """Only 127.0.0.1 reaches its ports, its files are the person's, and no stranger's variable is written down."""
    monkeypatch.setenv("SECRET", "not for a file")
    monkeypatch.setenv("DOCKER_HOST", "unix:///engine")

    launch = Image(docker="docker", name="rabbitmq:4").prepare(layout, WITH_STREAM)

    published = [value for flag, value in zip(launch.server, launch.server[1:], strict=False) if flag == "--publish"]
    assert ["127.0.0.1:21000:5672", "127.0.0.1:21003:5552"] == published
    assert f"{layout.data}:/var/lib/rabbitmq" in launch.server
    assert "SECRET" not in launch.environment
    assert "unix:///engine" == launch.environment["DOCKER_HOST"]
    assert "loopback_users = none" in layout.configuration.read_text()
