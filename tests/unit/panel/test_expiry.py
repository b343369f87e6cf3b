"""What retention may take, whatever the clocks say; and the size of its steps."""

from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.expiry import AHEAD_S, DAY_S, Finished, Label, Sample, Thinning, forgettable, last_old, present
from vmwatch.panel.pace import Pace

NOW = 1_800_000_000.0
YEAR_S = 365 * DAY_S
SANE = st.floats(NOW - 5 * YEAR_S, NOW)
ANY = st.floats(0, NOW + 100 * YEAR_S)


def test_a_panels_clock_that_is_ahead_makes_nothing_old() -> None:
    told = {"kvm-01": NOW, "kvm-02": NOW - 5}
    for received in (NOW, NOW + 10 * YEAR_S):  # also where it registered something meanwhile
        assert present(NOW + 10 * YEAR_S, received, told) == NOW


def test_one_nodes_clock_does_not_count_against_the_others() -> None:
    for wrong in (0.0, NOW - 20 * DAY_S, NOW + 10 * YEAR_S):
        assert abs(present(NOW, NOW, {"kvm-01": NOW - 1, "kvm-02": NOW - 2, "kvm-03": wrong}) - NOW) <= 2
        assert abs(present(NOW + YEAR_S, NOW, {"kvm-01": NOW, "kvm-02": NOW, "kvm-03": wrong}) - NOW) <= 2


def test_nodes_without_a_clock_leave_it_to_the_newest_row() -> None:
    assert present(NOW, NOW - 5, {"kvm-01": 100.0}) == NOW - 5
    assert present(NOW + YEAR_S, NOW, {"kvm-01": 100.0}) == NOW
    assert present(NOW, NOW, {}) == NOW


@given(SANE, SANE, st.dictionaries(st.text(max_size=2), ANY, max_size=5))
def test_the_present_is_never_later_than_the_panels_clock(wall: float, received: float, told: dict[str, float]) -> None:
    assert present(wall, received, told) <= wall


@given(st.lists(st.tuples(ANY, ANY), max_size=20), SANE)
def test_what_goes_is_a_beginning_and_holds_nothing_that_is_fresh_by_a_label_that_can_be_true(
    times: list[tuple[float, float]], oldest: float
) -> None:
    labels = [Label(number, *pair) for number, pair in enumerate(times, 1)]
    last = last_old(labels, oldest, NOW)
    for row in labels[: last or 0]:
        assert not oldest <= row.received <= NOW + AHEAD_S
        assert row.received < oldest or not oldest <= row.told <= NOW + AHEAD_S


def test_rows_of_a_moment_when_the_panels_clock_was_wrong_neither_stay_for_ever_nor_take_others_along() -> None:
    old, fresh, ahead, behind = NOW - YEAR_S, NOW - DAY_S, NOW + 9 * YEAR_S, 0.0
    oldest = NOW - 30 * DAY_S
    rows = [Label(1, old, old), Label(2, ahead, old), Label(3, ahead, ahead), Label(4, old, old), Label(5, fresh, old)]
    assert last_old(rows, oldest, NOW) == 4
    assert last_old([Label(1, ahead, fresh), Label(2, old, old)], oldest, NOW) is None
    assert last_old([Label(1, fresh, fresh), Label(2, behind, fresh)], oldest, NOW) is None
    assert last_old([Label(1, ahead, ahead), Label(2, ahead, ahead)], oldest, NOW) is None
    assert last_old([], oldest, NOW) is None


SAMPLES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 40_000)), max_size=60)


@given(SAMPLES, st.lists(st.integers(1, 9), max_size=9))
def test_thinning_keeps_the_first_sample_of_each_vm_node_and_hour_however_it_is_cut(
    drawn: list[tuple[str, str, int]], cuts: list[int]
) -> None:
    rows = sorted(drawn, key=lambda row: row[2])
    samples = [Sample(number, uuid, node, float(taken)) for number, (uuid, node, taken) in enumerate(rows, 1)]
    thinning, gone, rest = Thinning(3600.0), [], samples
    for cut in [*cuts, len(samples)]:
        gone += thinning.surplus(rest[:cut])
        rest = rest[cut:]
    kept = [sample for sample in samples if sample.id not in gone]
    hours = [(sample.uuid, sample.node, sample.taken // 3600) for sample in kept]
    assert len(set(hours)) == len(hours)
    first: dict[tuple[str, str, float], int] = {}
    for sample in samples:
        first.setdefault((sample.uuid, sample.node, sample.taken // 3600), sample.id)
    assert [sample.id for sample in kept] == sorted(first.values())
    assert thinning.surplus([]) == []
    assert Thinning(3600.0).surplus(kept) == []


@given(SAMPLES, st.lists(st.integers(0, 9), max_size=4))
def test_a_removal_of_surplus_that_failed_costs_no_vm_node_and_hour_its_last_sample(
    drawn: list[tuple[str, str, int]], committed: list[int]
) -> None:
    samples = [Sample(number, uuid, node, float(taken)) for number, (uuid, node, taken) in enumerate(drawn, 1)]
    thinning, kept = Thinning(3600.0), samples
    for steps in [*committed, len(samples)]:
        gone = thinning.surplus(kept)[:steps]
        kept = [sample for sample in kept if sample.id not in gone]
    assert {(row.uuid, row.node, row.taken // 3600) for row in kept} == {
        (row.uuid, row.node, row.taken // 3600) for row in samples
    }


def test_thinning_forgets_vms_that_are_gone() -> None:
    thinning = Thinning(3600.0)
    thinning.surplus([Sample(number, str(number), "kvm-01", 3600.0 * number) for number in range(100)])
    thinning.forget(3600.0 * 90)
    assert len(thinning) == 10


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 10)), max_size=30))
def test_a_step_is_never_larger_than_allowed_and_shrinks_at_once_when_one_took_too_long(
    taken: list[tuple[int, float]],
) -> None:
    pace = Pace(0.01, 20, 2000)
    for rows, seconds in taken:
        pace.took(rows, seconds)
        assert 20 <= pace.rows <= min(2000, max(20, 2 * max(rows, 1)))
        if seconds > 0.01:
            assert pace.rows <= max(20, rows)


def test_steps_settle_where_they_take_the_wanted_time() -> None:
    for seconds_a_row in (1e-6, 2e-5, 1e-4):
        pace = Pace(0.01, 20, 2000)
        for _ in range(20):
            pace.took(pace.rows, pace.rows * seconds_a_row)
        assert pace.rows == min(2000, int(0.01 / seconds_a_row)) or abs(pace.rows * seconds_a_row - 0.01) < 1e-3


FINISHED = st.lists(st.builds(Finished, st.integers(1, 60), st.sampled_from("abc"), st.integers(0, 100).map(float)))


@given(FINISHED, st.sets(st.sampled_from("abc")), st.integers(0, 100))
def test_old_installations_go_but_the_newest_of_a_vm_that_is_there_and_the_last_of_all(
    found: list[Finished], there: set[str], oldest: int
) -> None:
    found = list({row.id: row for row in found}.values())
    gone = forgettable(found, oldest, there)
    left = [row for row in found if row not in gone]
    assert all(row.ended < oldest for row in gone)
    assert not found or max(row.id for row in found) == max(row.id for row in left)
    for uuid in there:
        of_vm = [row.id for row in found if row.uuid == uuid]
        assert not of_vm or max(of_vm) in [row.id for row in left]
    # No more than one for each VM that is there, one more, and what is young.
    assert len([row for row in left if row.ended < oldest]) <= len(there) + 1
