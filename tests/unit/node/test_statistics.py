"""From libvirt's names and numbers to a domain's counters."""

from typing import Any

import pytest

from vmwatch.node.statistics import MAX_COUNT, to_stats
from vmwatch.shared.messages import DomainStats
from vmwatch.shared.states import State

UUID = "F3B06A7F-2622-5B08-85B2-D36D70F5040B"


def stats(**raw: Any) -> DomainStats:  # noqa: ANN401
    return to_stats(UUID, {"state.state": 1, **{name.replace("__", "."): value for name, value in raw.items()}})


def test_counters_are_summed_over_interfaces_and_disks() -> None:
    raw = {
        "state.state": 1,
        "cpu.time": 7,
        "balloon.current": 1024,
        "net.count": 2,
        "block.count": 2,
        **{f"net.{n}.{name}": 10 + n for n in (0, 1) for name in ("rx.bytes", "rx.pkts", "tx.bytes", "tx.pkts")},
        **{f"block.{n}.{name}": 20 + n for n in (0, 1) for name in ("rd.bytes", "rd.reqs", "wr.bytes", "wr.reqs")},
    }
    net, block = 21, 41
    expected = DomainStats(UUID.lower(), State.RUNNING, 7, 1024, net, net, net, net, block, block, block, block)
    assert to_stats(UUID, raw) == expected


def test_absent_is_not_zero() -> None:
    assert stats() == DomainStats(UUID.lower(), State.RUNNING)
    assert stats(net__count=1, block__count=0) == DomainStats(UUID.lower(), State.RUNNING)


def test_what_one_interface_has_counts_alone() -> None:
    found = to_stats(UUID, {"state.state": 1, "net.count": 2, "net.1.rx.bytes": 5})
    assert (found.rx_bytes, found.tx_bytes) == (5, None)


@pytest.mark.parametrize("nonsense", [-1, MAX_COUNT + 1, "many", 1.5])
def test_nonsense_makes_the_sum_absent(nonsense: object) -> None:
    found = to_stats(UUID, {"state.state": 1, "net.count": 2, "net.0.rx.bytes": 5, "net.1.rx.bytes": nonsense})
    assert found.rx_bytes is None


def test_a_sum_that_json_cannot_hold_is_absent() -> None:
    raw = {"state.state": 1, "net.count": 2, "net.0.rx.bytes": MAX_COUNT, "net.1.rx.bytes": 1}
    assert to_stats(UUID, raw).rx_bytes is None
    raw["net.1.rx.bytes"] = 0
    assert to_stats(UUID, raw).rx_bytes == MAX_COUNT


def test_a_domain_that_does_not_run_has_none() -> None:
    raw = {"state.state": 5, "balloon.current": 1024, "cpu.time": 5}
    assert to_stats(UUID, raw) == DomainStats(UUID.lower(), State.SHUTOFF)


def test_a_state_that_is_missing_or_new_is_unknown() -> None:
    assert to_stats(UUID, {}).state is State.UNKNOWN
    assert to_stats(UUID, {"state.state": 99}).state is State.UNKNOWN
