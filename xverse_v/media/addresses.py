"""Which IP addresses belong to the public internet. A pure answer about a text; nothing is looked up.

Python's `is_global` is the start, not the end: it calls multicast global, and an address inside another one (IPv6
carries IPv4 in several ways) is reached at the inner address, so that one is judged too.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# Global by the register, yet no place of an image: the relays of 6to4, and the address at which every machine of one
# large cloud (Azure) finds the services of its host.
_NEVER = tuple(ip_network(text) for text in ("192.88.99.0/24", "168.63.129.16/32"))
_UNICAST = IPv6Network("2000::/3")  # all of IPv6 that has been given out
_NAT64 = IPv6Network("64:ff9b::/96")  # how a network without IPv4 reaches it
_TUNNELS = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))  # Teredo and 6to4, both retired


def is_public(text: str) -> bool:
    """Whether this is an address of the public internet: not private, local, reserved or multicast, not a tunnel, and
    without a scope (`%eth0`). IPv4 inside IPv6 (mapped, NAT64) counts as the IPv4 it is."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_v4(address)
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return _is_public_v4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_v4(IPv4Address(address.packed[-4:]))
    return _is_public_v6(address)


def _is_public_v4(address: IPv4Address) -> bool:
    local = address.is_private or address.is_loopback or address.is_link_local or address.is_unspecified
    if local or address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _NEVER)


def _is_public_v6(address: IPv6Address) -> bool:
    if address not in _UNICAST or any(address in tunnel for tunnel in _TUNNELS):
        return False
    return address.is_global and not address.is_private and not address.is_reserved
