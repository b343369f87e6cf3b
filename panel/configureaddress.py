"""Where vmwatch-master shall listen (design 04, *vmwatch.configure*, 1). A core: the interfaces come as data."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Interface:
    """A network interface of the panel's machine; `addresses` in the system's order, without their masks."""

    name: str
    is_up: bool
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A node as far as its place matters. `addresses`: what its address is, or resolves to."""

    name: str
    is_local: bool
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """`listen`: the IP to bind; `connect`: the one that nodes are told. `why`: which of the ways it was, in words."""

    listen: str
    connect: str
    why: str
    warnings: tuple[str, ...] = ()


def find_address(configured: str, places: Sequence[Place], interfaces: Sequence[Interface], present: str = "") -> Found:
    """`configured` (VmwatchListenIp), else the cluster node's on which the panel runs, else the machine's first.

    `present`: the one in the master's file. It goes before the machine's first, so a name that does not resolve now, or
    an interface that is down now, moves no cluster that works.

    An address that is unspecified (0.0.0.0, ::) is listened on, and nodes are told the next one that is found.
    """
    own = {address for interface in interfaces for address in map(_plain, interface.addresses) if address}
    found = _found(places, interfaces, own, _plain(present))
    if not configured:
        return found
    address = ipaddress.ip_address(configured)
    why = f"VmwatchListenIp is {address}"
    if address.is_unspecified:
        return Found(str(address), found.connect, f"{why}; nodes send to {found.connect}: {found.why}", found.warnings)
    warnings = [] if address in own or not own else [f"VmwatchListenIp {address} is no address of this machine now"]
    if address.is_loopback and not all(place.is_local for place in places):
        warnings.append(f"VmwatchListenIp {address} is reached from this machine alone")
    return Found(str(address), str(address), why, tuple(warnings))


def _found(
    places: Sequence[Place], interfaces: Sequence[Interface], own: set[_Address], present: _Address | None
) -> Found:
    alone = all(place.is_local for place in places)
    # The panel's own node; also one that nobody called local, whose address is this machine's.
    for place in places:
        addresses = [address for address in map(_plain, place.addresses) if address is not None]
        mine = [address for address in addresses if address in own and not _is_local(address)]
        chosen = mine or [address for address in addresses if place.is_local and _may_serve(address, alone)]
        if chosen:
            taken = next((one for one in chosen if one == present), chosen[0])  # a name has them in any order
            return _same(taken, f"the panel runs on the node {place.name}, whose address is {taken}")
    if present in own and _may_serve(present, alone):
        return _same(present, f"{present} is in its file and this machine's")
    for interface in interfaces:
        for address in map(_plain, interface.addresses):
            if interface.is_up and address is not None and not _is_local(address):
                return _same(address, f"{address} of {interface.name} is the machine's first address that is not local")
    why = "the machine has no address that is not local"
    warnings = () if alone else (f"{why}: nodes elsewhere cannot reach {LOOPBACK}; set VmwatchListenIp",)
    return Found(LOOPBACK, LOOPBACK, why, warnings)


def _may_serve(address: _Address, alone: bool) -> bool:
    """A loopback address serves as long as all nodes are on this machine."""
    return not _is_local(address) or (alone and address.is_loopback)


def _same(address: _Address, why: str) -> Found:
    return Found(str(address), str(address), why)


def _is_local(address: _Address) -> bool:
    """No other machine reaches it (loopback, link-local), or it is none of one machine at all."""
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def _plain(text: str) -> _Address | None:
    """`fe80::1%eth0` without its zone; None for what is no IP address."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
