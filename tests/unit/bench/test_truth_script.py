"""The script of `bench/truth`: drawn from a seed, whole, and without an end beyond the run."""

from collections import Counter

import pytest

from bench.veracity.script import COMPRESSION, NODES, REAL, Course, Deed, Pace, Step, pick, script


def test_a_seed_gives_the_same_script_again_and_another_seed_another() -> None:
    assert script(Course(seed=1)) == script(Course(seed=1))
    assert script(Course(seed=1)) != script(Course(seed=2))


@pytest.mark.parametrize(
    ("seconds", "storm"), [(24.0, True), (60.0, False), (119.0, False), (300.0, False), (300.0, True)]
)
def test_every_kind_of_deed_is_in_it_in_order_and_ends_within_the_run(seconds: float, storm: bool) -> None:
    for seed in range(10):
        check(script(Course(seconds, seed, storm=storm)), seconds)


def check(steps: list[Step], seconds: float) -> None:
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


def test_time_passes_as_in_the_hour_while_a_fault_is_under_way_and_faster_without_one() -> None:
    pace = Pace([Step(100, Deed.MASTER, lasts_s=8), Step(105, Deed.AGENT), Step(200, Deed.AGENT)], 1200, 100)
    assert pace.run_s(0) == 0
    assert pace.run_s(1200) == pytest.approx(100)
    assert pace.run_s(110) - pace.run_s(100) == pytest.approx(10)
    assert pace.run_s(202) - pace.run_s(200) == pytest.approx(2)
    assert pace.run_s(160) - pace.run_s(150) == pytest.approx(10 / pace.quicker)
    assert pace.quicker > COMPRESSION


def test_faults_that_leave_no_time_for_the_rest_are_refused() -> None:
    with pytest.raises(ValueError, match="the faults alone take 102 s, and the run 50 s"):
        Pace([Step(100, Deed.MASTER, lasts_s=100)], 1200, 50)


def test_a_fault_meets_as_many_changes_as_in_the_hour_and_in_a_storm_many_times_as_many() -> None:
    def changes_during_partitions(storm: bool) -> float:
        met = seconds = 0.0
        for seed in range(10):
            steps = script(Course(seed=seed, storm=storm))
            for one in steps:
                if one.deed is Deed.PARTITION:
                    seconds += one.lasts_s
                    met += sum(step.deed is Deed.CHANGE and 0 <= step.at_s - one.at_s < one.lasts_s for step in steps)
        return met / seconds

    per_s = 2 * Course().many / 1200
    assert changes_during_partitions(False) == pytest.approx(per_s, rel=0.3)
    assert changes_during_partitions(True) == pytest.approx(per_s * COMPRESSION, rel=0.3)


def test_a_way_is_picked_as_often_as_its_weight_says() -> None:
    draws = Counter(pick({"a": 3, "b": 1}, number / 100) for number in range(100))
    assert draws == {"a": 75, "b": 25}
