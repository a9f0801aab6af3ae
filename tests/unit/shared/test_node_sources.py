"""Where RabbitMQ comes from, and what is said when it comes from nowhere."""

from pathlib import Path

import pytest

from loopcast.errors import NodeError
from loopcast.node import debian, engine, sources
from loopcast.node.engine import Image
from loopcast.node.installed import Installed

INSTALLED = Installed(home=Path("/installed"), search=())
UNPACKED = Installed(home=Path("/unpacked"), search=())
IMAGE = Image(docker="docker", name="rabbitmq:4")


@pytest.fixture
def world(monkeypatch):
    """A machine with nothing; a test gives it what it has."""

    class World:
        installed = unpacked = fetched = image = None

    def or_fail(value, sentence):
        if value is None:
            raise NodeError(sentence)
        return value

    monkeypatch.setattr(sources, "find_installed", lambda _variables: World.installed)
    monkeypatch.setattr(debian, "unpacked", lambda _cache: World.unpacked)
    monkeypatch.setattr(debian, "fetch", lambda _cache, _say: or_fail(World.fetched, "there is no apt-get here"))
    monkeypatch.setattr(engine, "find_image", lambda _say: or_fail(World.image, "there is no docker here"))
    return World


def test_an_installed_server_is_preferred(world, tmp_path):
    """What the person has is used, before anything is fetched or a container started."""
    world.installed, world.fetched, world.image = INSTALLED, UNPACKED, IMAGE

    assert INSTALLED == sources.find(tmp_path, print)


def test_what_was_fetched_before_is_used_without_asking_apt(world, tmp_path):
    """A second start needs no network."""
    world.unpacked, world.image = UNPACKED, IMAGE

    assert UNPACKED == sources.find(tmp_path, print)


def test_debians_packages_are_preferred_to_a_container(world, tmp_path):
    """A container is slower to start and to ask."""
    world.fetched, world.image = UNPACKED, IMAGE

    assert UNPACKED == sources.find(tmp_path, print)


def test_a_container_is_the_last_resort(world, tmp_path):
    """Where there is neither, an engine that answers will do."""
    world.image = IMAGE

    assert IMAGE == sources.find(tmp_path, print)


def test_nothing_at_all_is_one_line_that_says_what_to_install(world, tmp_path):
    """The sentence names the command, and why each way failed."""
    with pytest.raises(NodeError) as error:
        sources.find(tmp_path, print)

    assert 1 == len(str(error.value).splitlines())
    assert "rabbitmq" in str(error.value)
    assert "apt: there is no apt-get here; docker: there is no docker here" in str(error.value)


@pytest.mark.parametrize(
    ("platform", "command"), [("darwin", "brew install rabbitmq"), ("linux", "apt install rabbitmq-server")]
)
def test_the_advice_is_for_the_persons_own_system(platform, command):
    """A Mac has no apt."""
    assert command in sources.advice(platform, {})


def test_a_system_without_apt_is_told_apart(monkeypatch, tmp_path):
    """Fetching is refused where the programs are missing, before anything is written."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NodeError, match="there is no apt-get here"):
        debian.fetch(tmp_path / "cache", print)
    assert [] == list(tmp_path.iterdir())


def test_a_broken_download_is_no_unpacked_server(tmp_path):
    """Only a tree that was finished counts: a fetch that was interrupted starts anew."""
    debian._tree(tmp_path).mkdir(parents=True)

    assert debian.unpacked(tmp_path) is None
