"""The images, built as a user builds them, and the compose stack that is made of them."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from containers import Hook, Stack, bridge_address, docker
from otel_receiver import Receiver

ROOT = Path(__file__).parents[2]
TAG = "under-test"


def pytest_collection_modifyitems(items):
    """Everything here needs an engine, and takes longer than other tests."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def engine():
    """An engine that answers."""
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs a container engine: docker is not installed")
    if done.returncode != 0:
        pytest.skip(f"needs a container engine; docker says: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def images(engine):
    """Every service's image, built from this tree; its tag."""
    build = [sys.executable, str(ROOT / "deploy/images/build.py"), "--tag", TAG]
    # The engine's own network may not reach the package registry where this machine does.
    done = subprocess.run([*build, "--", "--network", "host"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return TAG


@pytest.fixture(scope="module")
def hook(engine):
    """A receiver of webhooks."""
    hook = Hook(bridge_address())
    yield hook
    hook.close()


@pytest.fixture(scope="module")
def backend(engine):
    """An OTLP backend."""
    with Receiver(host=bridge_address()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def tag(images):
    """Which images the stack begins with."""
    return images


@pytest.fixture(scope="module")
def stack(tag, hook, backend, tmp_path_factory):
    """Everything, as `make compose-up` starts it."""
    folder = tmp_path_factory.mktemp("webhooks")
    endpoint = f"{{name: ci, url: '{hook.url}', bindings: ['#'], allow_private: true, batch: {{max_ms: 100}}}}"
    (folder / "endpoints.yaml").write_text(f"endpoints: [{endpoint}]\n")
    # The services' user is not the one who made the folder.
    folder.chmod(0o755)
    (folder / "endpoints.yaml").chmod(0o644)
    stack = Stack(f"lctest-{os.getpid()}-{uuid.uuid4().hex[:6]}", tag, folder, backend.grpc_endpoint)
    try:
        stack.run("up")
        yield stack
    finally:
        stack.run("down", "--volumes")


@pytest.fixture
def network(engine):
    """A network of its own, with a broker called `broker` in it."""
    name = f"lctest-{uuid.uuid4().hex[:8]}"
    image = os.environ.get("LOOPCAST_TEST_IMAGE", "rabbitmq:4-management")
    docker("network", "create", name)
    login = ["--env", "RABBITMQ_DEFAULT_USER=loopcast", "--env", "RABBITMQ_DEFAULT_PASS=loopcast"]
    docker("run", "--detach", "--name", f"{name}-broker", "--network", name, "--network-alias", "broker", *login, image)
    yield name
    for box in docker("ps", "--all", "--quiet", "--filter", f"network={name}").split():
        docker("rm", "--force", "--volumes", box)
    docker("network", "rm", name)
