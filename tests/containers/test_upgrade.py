"""
From an earlier version to this one, and back, under load: each service alone, so that in between both are at work.

Runs where `LOOPCAST_TEST_UPGRADE_FROM` is the tag of images that were built of an earlier commit.
"""

import os
import subprocess

import pytest
from containers import docker
from rolling import roll

from loopcast.settings import SERVICES

BEFORE = os.environ.get("LOOPCAST_TEST_UPGRADE_FROM", "")

pytestmark = pytest.mark.skipif(not BEFORE, reason="LOOPCAST_TEST_UPGRADE_FROM names no earlier images")


@pytest.fixture(scope="module")
def tag(images):
    """The stack begins with the earlier version."""
    for service in SERVICES:
        if subprocess.run(
            ["docker", "image", "inspect", f"loopcast-{service}:{BEFORE}"], capture_output=True
        ).returncode:
            pytest.skip(f"needs the image loopcast-{service}:{BEFORE}")
    return BEFORE


def revision(stack, service):
    """The commit that a service's container was built of."""
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    return docker("inspect", "--format", label, stack.container(service))


@pytest.mark.parametrize("way", ["forward", "back"])
def test_versions_beside_each_other_lose_nothing(stack, images, hook, way):
    """
    What was emitted is in the rows, at the webhook and on the viewer's screen, once and in order, whoever is of today.

    Back without the recorder: its database stays as the newer version made it.
    """
    order = list(SERVICES) if way == "forward" else [name for name in SERVICES if name != "recorder"]
    began = {service: revision(stack, service) for service in order}
    stack.environment["IMAGE_TAG"] = images if way == "forward" else BEFORE
    rolled = roll(stack, hook, order, f"upgraded-{way}")

    assert dict.fromkeys(order, 0) == rolled.codes
    assert all(began[service] != revision(stack, service) for service in order)
    assert rolled.emitted == rolled.seen == rolled.rows == list(dict.fromkeys(rolled.told))
    assert [] == rolled.faults
