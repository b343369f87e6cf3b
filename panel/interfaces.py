"""This machine's network interfaces, and what names resolve to: what `configureaddress` decides upon."""

import ipaddress
import socket

import psutil

from vmwatch.panel.configureaddress import Interface


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
