"""Three nodes of RabbitMQ 4, and one after the other killed under load."""

import pytest
from cluster import SIZE, Cluster
from containers import Viewer, docker, free_port, recorded, until
from load import RATE, Load

EXPERIMENT = "clustered"
LOG = "loopcast.log.0"
CONFINED = ["--read-only", "--cap-drop", "ALL", "--env", "LOOPCAST_ALLOW_ANONYMOUS=true"]
URL = "LOOPCAST_AMQP_URL=amqp://loopcast:loopcast@broker:5672/"


@pytest.fixture(scope="module")
def cluster(engine):
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def urls(cluster, images):
    """Where producer, gateway and recorder are, each a container beside the cluster."""
    found = {}
    for service, port in {"producer": 8700, "gateway": 8701, "recorder": 8704}.items():
        here = free_port()
        place = ["--network", cluster.name, "--publish", f"127.0.0.1:{here}:{port}"]
        docker("run", "--detach", *place, *CONFINED, "--env", URL, f"loopcast-{service}:{images}")
        found[service] = f"http://127.0.0.1:{here}"
    until(lambda: cluster.leader(LOG), why=lambda: str(cluster.ask("queues")))
    return found


def test_the_log_is_on_every_node(cluster, urls):
    """A stream that the services declared has a replica on each of the three."""
    until(lambda: len(cluster.ask(f"queues/%2F/{LOG}").get("members", [])) == SIZE)

    assert {f"rabbit@{node}" for node in cluster.nodes} == set(cluster.ask(f"queues/%2F/{LOG}")["members"])


def test_nodes_are_killed_without_losing_an_event_or_a_viewer(cluster, urls):
    """
    The node that leads the log is killed, twice, each time with events under way; it comes back in between.

    What was emitted is in the rows and on the viewer's screen, once and in order.
    """
    load = Load(urls["producer"], EXPERIMENT)
    viewer = Viewer(urls["gateway"], EXPERIMENT)
    killed = []
    try:
        until(lambda: len(viewer.events) > RATE)
        for _ in range(2):
            node = cluster.leader(LOG)
            docker("kill", node)
            killed.append(node)
            seen = load.sent
            until(lambda mark=seen: len(viewer.events) > mark + RATE, 120)
            docker("start", node)
            cluster.await_running(SIZE)
    finally:
        load.end()
    until(lambda: len(viewer.events) >= load.sent, why=lambda: f"{len(viewer.events)} of {load.sent}")
    until(lambda: len(recorded(urls["recorder"], EXPERIMENT)) >= load.sent)
    viewer.close()
    expected = list(range(load.sent))

    assert 2 == len(killed)
    assert expected == [event["data"]["number"] for event in viewer.events]
    assert [] == viewer.faults
    assert expected == [event["data"]["number"] for event in recorded(urls["recorder"], EXPERIMENT)]
