"""What each answer means."""

import pytest

from loopcast_webhook_forwarder.answers import Answer, Delivered, Fault, Gone, Refused, Retry, Slowly, judge

TABLE = {
    Delivered: [200, 201, 202, 204, 299],
    Retry: [408, 425, 429, 500, 502, 503, 504, 599, 600, 999],
    Refused: [400, 413, 422],
    Gone: [410],
    Slowly: [100, 199, 300, 301, 302, 307, 308, 401, 402, 403, 404, 405, 406, 409, 415, 418, 451],
}


@pytest.mark.parametrize(("kind", "status"), [(kind, s) for kind, statuses in TABLE.items() for s in statuses])
def test_the_table(kind, status):
    """2xx is success and nothing else; each other status has the meaning that the documentation lists."""
    assert type(judge(Answer(status=status))) is kind


def test_every_status_there_is_means_something():
    """No status falls through the table, and only 2xx is delivered."""
    delivered = {s for s in range(100, 1000) if isinstance(judge(Answer(status=s)), Delivered)}

    assert delivered == set(range(200, 300))


def test_retry_after_is_carried():
    """429 and 503 say how long to wait."""
    assert judge(Answer(status=429, retry_after=7.0)) == Retry("HTTP 429", 7.0)
    assert judge(Answer(status=503, retry_after=7.0)) == Retry("HTTP 503", 7.0)


def test_a_fault_is_retried_and_slowly_where_the_address_is_refused():
    """The network mends itself; a private address in the file does not."""
    assert judge(Fault(reason="connection refused")) == Retry("connection refused")
    assert judge(Fault(reason="private", mendable_by_people_only=True)) == Slowly("private")
