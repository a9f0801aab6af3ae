"""
Which IP addresses events may be posted to: pure.

An endpoint is a URL that somebody wrote, so without a guard whoever may write one reaches the inside of the network
with the forwarder's feet. Private means what the IANA special-purpose registries (RFC 6890 and its updates) keep from
being globally reachable, listed here because `ipaddress.is_global` changed between patch releases of Python. Addresses
that carry an IPv4 address within (mapped, NAT64, 6to4, Teredo) are judged by that one too.
"""

from __future__ import annotations

import ipaddress

__all__ = ["refusal"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


NEVER = _networks(
    "0.0.0.0/8",  # "this network"
    "169.254.0.0/16",  # link-local: the metadata services of the clouds
    "192.0.0.192/32",  # Oracle's metadata
    "100.100.100.200/32",  # Alibaba's metadata
    "168.63.129.16/32",  # Azure's host
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",
    "::/128",
    "fe80::/10",
    "ff00::/8",
    "fd00:ec2::/32",  # Amazon's metadata over IPv6
    "fd20:ce::254/128",  # Google's
)
"""Refused with `allow_private` too: nobody's endpoint lives there."""

PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::/96",  # the deprecated IPv4-compatible form, and ::1
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fec0::/10",
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")


def refusal(address: str, *, allow_private: bool) -> str | None:
    """
    Why nothing is posted to `address`, as a sentence that names what would allow it; None where it may.

    Raises:
        ValueError: it is no IP address.
    """
    given = ipaddress.ip_address(address.partition("%")[0])
    forms = [given, *_embedded(given)]
    if any(_in(form, NEVER) for form in forms):
        return f"{address} is a link-local, metadata or multicast address, where events are never posted"
    tunnelled = len(forms) > 1 and not _is_mapped(given)
    if tunnelled or any(_in(form, PRIVATE) for form in forms):
        if allow_private:
            return None
        return f"{address} is a private address; set allow_private: true for this endpoint if it is meant"
    return None


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _is_mapped(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _embedded(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address stands for or carries."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[Address] = []
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64 or address in _NAT64_LOCAL:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return found
