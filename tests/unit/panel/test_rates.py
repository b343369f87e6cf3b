"""Rates of counters: never negative, never guessed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.rates import RATED, RUN_COUNTER, rates, with_rates
from vmwatch.panel.schema import COUNTERS

COUNTER = st.none() | st.integers(0, 2**53)
SAMPLE = st.fixed_dictionaries(
    {"node": st.sampled_from(["kvm-01", "kvm-02"]), "taken": st.floats(0, 4e9), **dict.fromkeys(COUNTERS, COUNTER)}
)


def sample(taken: float, node: str = "kvm-01", **counters: int) -> dict[str, Any]:
    return dict.fromkeys(COUNTERS) | {"node": node, "taken": taken} | counters


@given(st.none() | SAMPLE, SAMPLE)
def test_a_rate_is_growth_over_time_or_none_and_never_negative(
    before: dict[str, Any] | None, now: dict[str, Any]
) -> None:
    found = rates(before, now)
    assert tuple(found) == RATED
    for name, rate in found.items():
        if rate is None:
            continue
        assert before is not None
        assert now["taken"] > before["taken"]
        assert rate == (now[name] - before[name]) / (now["taken"] - before["taken"])
        assert rate >= 0


@given(SAMPLE, SAMPLE)
def test_a_counter_that_is_missing_or_went_back_has_no_rate(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, rate in rates(before, now).items():
        if before[name] is None or now[name] is None or now[name] < before[name]:
            assert rate is None


def test_a_vm_that_was_started_anew_has_no_rate_although_some_counters_have_grown() -> None:
    before, now = sample(10, cpu_ns=500, rx_bytes=5), sample(20, cpu_ns=400, rx_bytes=50)
    assert set(rates(before, now).values()) == {None}
    assert rates(before, now | {RUN_COUNTER: 500})["rx_bytes"] == 4.5


def test_a_counter_that_stands_still_has_the_rate_zero() -> None:
    assert rates(sample(10, tx_packets=5), sample(20, tx_packets=5))["tx_packets"] == 0


def test_samples_of_two_nodes_are_never_compared() -> None:
    rows = [sample(10, tx_packets=5), sample(15, "kvm-02", tx_packets=900), sample(20, tx_packets=7)]
    found = [rate["tx_packets"] for _, rate in with_rates(rows, [sample(5, "kvm-02", tx_packets=890)])]
    assert found == [None, 1.0, 0.2]
