"""The script of `bench/truth`: drawn from a seed, whole, and without an end beyond the run."""

from collections import Counter

import pytest

from bench.veracity.script import NODES, REAL, Course, Deed, pick, script


def test_a_seed_gives_the_same_script_again_and_another_seed_another() -> None:
    assert script(Course(seed=1)) == script(Course(seed=1))
    assert script(Course(seed=1)) != script(Course(seed=2))


@pytest.mark.parametrize("seconds", [24.0, 60.0, 300.0, 900.0])
@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_deed_is_in_it_in_order_and_ends_within_the_run(seconds: float, seed: int) -> None:
    steps = script(Course(seconds, seed))
    assert {step.deed for step in steps} == set(Deed)
    moments = [step.at_s for step in steps]
    assert moments == sorted(moments)
    assert all(step.at_s >= 0 and step.at_s + step.lasts_s <= seconds for step in steps)
    assert any(step.deed is Deed.LIBVIRTD and step.node in REAL for step in steps)


def test_a_whole_run_has_every_fault_on_every_node_and_a_partition_that_is_longer_than_three_heartbeats() -> None:
    course = Course()
    steps = script(course)
    for deed in (Deed.LIBVIRTD, Deed.AGENT, Deed.PARTITION):
        assert {step.node for step in steps if step.deed is deed} == set(NODES)
    assert any(step.lasts_s > 3 * course.heartbeat_s for step in steps if step.deed is Deed.PARTITION)


def test_a_way_is_picked_as_often_as_its_weight_says() -> None:
    draws = Counter(pick({"a": 3, "b": 1}, number / 100) for number in range(100))
    assert draws == {"a": 75, "b": 25}
