"""Which addresses are refused: the forms by which an inside is reached from outside."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast_webhook_forwarder.addresses import refusal

PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.0.1",
    "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.9", "240.0.0.1", "254.1.2.3",
    "::1", "fc00::1", "fd12:3456::1", "fec0::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
    "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::10.0.0.1", "2002:7f00:1::1", "2002:a00:1::", "64:ff9b::8.8.8.8", "2002:808:808::1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255",
    "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "::", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
    "64:ff9b:1::169.254.169.254", "::ffff:0.0.0.0",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "192.169.0.1", "11.0.0.1",
    "198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_permission(address):
    """Refused with a sentence that names the permission, and allowed with it."""
    assert "allow_private" in str(refusal(address, allow_private=False))
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_posted_to(address):
    """No permission opens the metadata services, link-local or multicast."""
    for allowed in (False, True):
        said = refusal(address, allow_private=allowed)
        assert said is not None
        assert "allow_private" not in said


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    """The guard refuses nothing that it need not."""
    assert refusal(address, allow_private=False) is None


@given(st.ip_addresses())
def test_everything_that_python_calls_private_is_refused(address):
    """The standard library's list is a lower bound of ours."""
    if not address.is_global:
        assert refusal(str(address), allow_private=False) is not None


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_never_makes_it_more_allowed(address):
    """Mapped, NAT64 and 6to4 forms are refused wherever the address that they carry is."""
    number = int(address)
    forms = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]
    for allowed in (False, True):
        if refusal(str(address), allow_private=allowed) is not None:
            assert all(refusal(str(form), allow_private=allowed) is not None for form in forms)


@pytest.mark.parametrize("text", ["", "localhost", "2130706433", "0x7f000001", "127.1", "1.2.3.4.5"])
def test_what_is_no_address_is_no_answer(text):
    """Names and odd numbers are for the resolver, whose answer is judged."""
    with pytest.raises(ValueError, match="does not appear to be"):
        refusal(text, allow_private=True)
