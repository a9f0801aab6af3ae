"""API keys: the file, what a key permits, and how fast."""

import datetime as dt

import pytest

from loopcast.auth.api_keys import entry_of, is_api_key, make_key, read_api_keys
from loopcast.auth.grants import Rate
from loopcast.auth.rates import Bucket, Buckets
from loopcast.errors import ConfigurationError, InvalidToken

KEY, OTHER = make_key(), make_key()


def test_a_made_key_is_found_by_its_entry():
    """What the command prints for the file makes the key good for exactly what was asked."""
    keys = read_api_keys(entry_of(KEY, "ci", publish=("exp-*", 'q"\\'), rate=100), path="keys.toml")

    grants = keys.check(KEY, now=0)

    assert ("key:ci", "ci", Rate(100, 1000), None) == (grants.user, grants.key, grants.rate, grants.expires)
    assert grants.publish.permit('q"\\')
    assert not grants.subscribe
    assert is_api_key(KEY)


def test_the_file_does_not_have_the_key():
    """Whoever reads the file of keys cannot use them."""
    assert KEY not in entry_of(KEY, "ci", publish=("*",))
    assert KEY.removeprefix("lck_") not in entry_of(KEY, "ci", publish=("*",))


@pytest.mark.parametrize(
    "key",
    [OTHER, "lck_", KEY + "x", KEY[:-1], KEY.lower(), "lck_\udce9"],
    ids=["another", "none", "longer", "shorter", "lower case", "not ASCII"],
)
def test_any_other_key_permits_nothing(key):
    """A key is good as a whole or not at all."""
    keys = read_api_keys(entry_of(KEY, "ci", publish=("*",)), path="keys.toml")

    with pytest.raises(InvalidToken) as caught:
        keys.check(key, now=0)

    assert "unknown_key" == caught.value.reason


def test_a_key_may_expire():
    """From its `expires` on, a key permits nothing."""
    keys = read_api_keys(entry_of(KEY, "ci", publish=("*",)) + "expires = 2027-01-01T00:00:00Z\n", path="keys.toml")
    end = dt.datetime(2027, 1, 1, tzinfo=dt.UTC).timestamp()

    assert end == keys.check(KEY, now=end - 1).expires
    with pytest.raises(InvalidToken, match="expired"):
        keys.check(KEY, now=end)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[[key]", "keys.toml"),
        ("[[keys]]", "unknown field `keys`"),
        ('[[key]]\nname = "a"', "sha256"),
        (entry_of(KEY, "ci") + "rates = 1", "unknown field `rates`"),
        (entry_of(KEY, "ci") + "rate = 0", "rate"),
        (entry_of(KEY, "ci") + "publish = 'exp-*'", "publish"),
        (entry_of(KEY, "ci") + "publish = ['']", "'ci': publish has ''"),
        (entry_of(KEY, "ci") + "expires = 2027-01-01T00:00:00", "expires"),
        (entry_of(KEY, "ci") + entry_of(OTHER, "ci"), "two keys 'ci'"),
        (entry_of(KEY, "ci") + entry_of(KEY, "cd"), "two keys 'cd'"),
        (entry_of(KEY, "a b"), "name"),
        (entry_of(KEY, "a\n"), "name"),
    ],
    ids=lambda value: value if "sha256 = " not in value else "entry",
)
def test_a_bad_file_is_refused_as_a_whole(text, hint):
    """One wrong entry refuses the file, and the sentence says which."""
    with pytest.raises(ConfigurationError) as caught:
        read_api_keys(text, path="keys.toml")

    assert hint in str(caught.value)


def test_an_empty_file_has_no_keys():
    """No key at all is a file of keys, too."""
    assert frozenset() == read_api_keys("", path="keys.toml").names


def test_a_bucket_gives_its_burst_and_then_its_rate():
    """What is taken at once is the burst; after that, the rate."""
    bucket = Bucket(10, 5, now=0)

    assert 0 == bucket.wait(0)
    bucket.take(5, 0)
    assert pytest.approx(0.1) == bucket.wait(0)
    assert 0 == bucket.wait(0.1)
    bucket.take(1, 0.1)
    assert 0 == bucket.wait(1000)
    bucket.take(5, 1000)
    assert 0 < bucket.wait(1000), "time that nobody used gives no more than the burst"


def test_a_batch_is_paid_for_by_waiting():
    """A batch larger than the burst passes whole, and the next one waits until it is paid."""
    bucket = Bucket(10, 5, now=0)
    bucket.take(105, 0)

    assert pytest.approx(10.1) == bucket.wait(0)
    assert pytest.approx(5.1) == bucket.wait(5)


def test_a_small_burst_can_be_waited_for():
    """A bucket that holds less than one event is full enough when it is full."""
    bucket = Bucket(0.5, 0.5, now=0)

    assert 0 == bucket.wait(0)
    bucket.take(1, 0)
    assert pytest.approx(2) == bucket.wait(0)


def test_a_clock_that_goes_back_gives_nothing():
    """Time that comes twice is counted once."""
    bucket = Bucket(1, 1, now=100)
    bucket.take(1, 100)

    assert pytest.approx(1) == bucket.wait(50)


def test_users_have_buckets_of_their_own():
    """What one user takes, another still has; a user's own rate counts before the default."""
    buckets = Buckets(Rate(1, 1), most=2)
    buckets.of("a", None, 0).take(1, 0)

    assert 1 == buckets.of("a", None, 0).wait(0)
    assert 0 == buckets.of("b", None, 0).wait(0)
    assert 0 == buckets.of("a", Rate(5, 5), 0).wait(0)
    assert None is Buckets(None).of("a", None, 0)
