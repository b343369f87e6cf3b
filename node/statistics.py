"""Statistics of all domains in one call (design 02, *Message types*; 06, lesson *Stats*)."""

from typing import Any

import libvirt

from vmwatch.shared.messages import DomainStats
from vmwatch.shared.states import State, state_of_libvirt

STATS_LIMIT_S = 60.0
"""A call that takes longer is called hung, and its result is not used."""
MAX_COUNT = 2**53 - 1

_WANTED = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)

_SUMS = {
    # our name: libvirt's group and the rest of its name (virConnectGetAllDomainStats)
    "tx_packets": ("net", "tx.pkts"),
    "tx_bytes": ("net", "tx.bytes"),
    "rx_packets": ("net", "rx.pkts"),
    "rx_bytes": ("net", "rx.bytes"),
    "write_requests": ("block", "wr.reqs"),
    "write_bytes": ("block", "wr.bytes"),
    "read_requests": ("block", "rd.reqs"),
    "read_bytes": ("block", "rd.bytes"),
}


def collect(connection: Any) -> list[DomainStats]:  # noqa: ANN401 - libvirt-python has no types
    """Counters of every domain; raises libvirtError.

    NOWAIT: a domain that is busy answers with what is known without asking it, and delays nobody.
    """
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    return [to_stats(domain.UUIDString(), raw) for domain, raw in connection.getAllDomainStats(_WANTED, flags)]


def to_stats(uuid: str, raw: dict[str, Any]) -> DomainStats:
    """One domain's counters from what libvirt calls them; absent where it gives none, or no count."""
    stats = DomainStats(uuid.lower(), state_of_libvirt(raw.get("state.state", 0)))
    if stats.state is State.SHUTOFF:
        return stats  # libvirt still tells the memory that it would have
    stats.cpu_ns = _total([raw.get("cpu.time")])
    stats.memory_kib = _total([raw.get("balloon.current")])
    for name, (group, rest) in _SUMS.items():
        setattr(stats, name, _total([raw.get(f"{group}.{index}.{rest}") for index in range(_count(raw, group))]))
    return stats


def _count(raw: dict[str, Any], group: str) -> int:
    count = raw.get(f"{group}.count", 0)
    return count if isinstance(count, int) else 0


def _total(values: list[Any]) -> int | None:
    """The sum of what is given; None if nothing is, or if something is no count that JSON can hold."""
    given = [value for value in values if value is not None]
    if not given or any(not isinstance(value, int) or value < 0 for value in given):
        return None
    total = sum(given)
    return total if total <= MAX_COUNT else None
