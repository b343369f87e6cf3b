"""This machine's network interfaces, and what names resolve to: what `configureaddress` decides upon."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from functools import partial

import psutil

from vmwatch.panel.configureaddress import Interface
from vmwatch.panel.daemonthread import in_thread

RESOLVED_WITHIN_S = 15.0
"""All names together: a resolver's second server is asked after 5 s."""


def interfaces() -> list[Interface]:
    """In the system's order; an interface that is down is among them, and says so."""
    stats = psutil.net_if_stats()
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        internet = tuple(one.address for one in addresses if one.family in (socket.AF_INET, socket.AF_INET6))
        found.append(Interface(name, name not in stats or stats[name].isup, internet))
    return found


def addresses_of(host: str) -> tuple[str, ...]:
    """What a host name resolves to; itself if it is an address; nothing if that is not known. May block."""
    if not host:
        return ()
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        pass
    try:
        told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in told))


async def resolved(hosts: Iterable[str], limit_s: float = RESOLVED_WITHIN_S) -> Mapping[str, tuple[str, ...]]:
    """`addresses_of` each of these, side by side: without DNS many names would wait for one another. One that takes
    longer than the limit resolves to nothing."""
    asked = {host: asyncio.ensure_future(in_thread(partial(addresses_of, host))) for host in set(hosts)}
    if not asked:
        return {}
    try:
        await asyncio.wait(asked.values(), timeout=limit_s)
        return {host: one.result() if one.done() else () for host, one in asked.items()}
    finally:
        for one in asked.values():
            one.cancel()
