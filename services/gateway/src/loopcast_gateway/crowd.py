"""How many come from where, and how fast: limits on connections and handshakes. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence

from loopcast.auth import Bucket

__all__ = ["Crowd", "client_address", "networks"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HANDSHAKE_BURST_SECONDS = 2.0


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """
    The networks that are written so, or addresses.

    Raises:
        ValueError: one is none.
    """
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def client_address(peer: str, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """
    Who is behind a connection from `peer` with this `X-Forwarded-For`.

    Only what a trusted proxy wrote is believed: from the right, the first address that is not one of theirs.
    """
    if forwarded is None or not _is_in(peer, trusted):
        return peer
    address = peer
    for part in reversed(forwarded.split(",")):
        address = part.strip()
        if not _is_in(address, trusted):
            return address if _parsed(address) is not None else peer
    return address


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _is_in(text: str, trusted: Sequence[Network]) -> bool:
    address = _parsed(text)
    return address is not None and any(address in network for network in trusted)


class Crowd:
    """
    Counts connections by address and by user, and handshakes by time. A limit of 0 is none.

    Loopback is not limited as an address: it is this machine's owner, or a proxy that nobody said to trust.
    """

    def __init__(self, *, per_address: int, per_user: int, handshakes: float) -> None:
        self._per_address = per_address
        self._per_user = per_user
        self._handshakes = handshakes
        self._bucket: Bucket | None = None
        self._addresses: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    def wait(self, now: float) -> float:
        """In how many seconds another handshake is taken; 0 takes this one."""
        if not self._handshakes:
            return 0.0
        if self._bucket is None:
            self._bucket = Bucket(self._handshakes, HANDSHAKE_BURST_SECONDS * self._handshakes, now=now)
        wait = self._bucket.wait(now)
        if not wait:
            self._bucket.take(1, now)
        return wait

    def has_room(self, address: str) -> bool:
        """Whether one more connection may come from `address`."""
        if not self._per_address or self._addresses[address] < self._per_address:
            return True
        parsed = _parsed(address)
        return parsed is None or parsed.is_loopback

    def enter(self, address: str) -> None:
        """A connection came from `address`."""
        self._addresses[address] += 1

    def leave(self, address: str, user: str) -> None:
        """A connection of `user`, if that was known, went."""
        _one_less(self._addresses, address)
        if user:
            _one_less(self._users, user)

    def name(self, user: str) -> bool:
        """Whether one more connection may be of `user`; if so, it is counted."""
        if self._per_user and self._users[user] >= self._per_user:
            return False
        self._users[user] += 1
        return True


def _one_less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
