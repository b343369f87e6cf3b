"""What supervisord's events mean, on a clock that the test turns."""

from hypothesis import given
from hypothesis import strategies as st

from vmwatch.healthcheck.listener import LONGEST_TICK_S, TICK_S, Ticks
from vmwatch.healthcheck.watcher import CRASHES, CRASHES_WITHIN_S, STEADY_S, Report, Watcher

NODE, MASTER = "vmwatch-node", "vmwatch-master"


def watcher(down: tuple[str, ...] = ()) -> Watcher:
    return Watcher((NODE, MASTER), down)


def test_a_service_that_is_given_up_is_reported_and_back_only_when_it_has_run_for_a_while() -> None:
    one = watcher()
    (report,) = one.fatal(NODE, 0.0)
    assert report.down
    assert "FATAL" in report.text
    assert one.tick(1000.0) == []
    one.running(NODE, 1000.0)
    assert one.tick(1000.0 + STEADY_S - 1) == []
    assert one.tick(1000.0 + STEADY_S) == [Report(NODE, down=False)]
    assert one.tick(2000.0) == []


def test_a_service_that_waits_for_libvirtd_for_ten_minutes_is_no_news() -> None:
    one = watcher()
    one.running(NODE, 0.0)
    for second in range(0, 601, 5):
        assert one.tick(float(second)) == []
    assert one.down == set()


def test_one_that_has_lost_libvirtd_now_and_then_is_no_news() -> None:
    one = watcher()
    for minute in range(10):
        one.running(NODE, 60.0 * minute)
        assert one.exited(NODE, expected=False, code=None, now=60.0 * minute + 30) == []


def test_a_disabled_one_and_one_that_somebody_stopped_are_no_news() -> None:
    one = watcher()
    assert one.exited(NODE, expected=True, code=0, now=1.0) == []
    assert one.exited(MASTER, expected=True, code=None, now=1.0) == []
    assert one.stopped(NODE, 2.0) == []


def test_one_with_a_wrong_configuration_is_reported_with_its_exit_code() -> None:
    (report,) = watcher().exited(MASTER, expected=True, code=78, now=1.0)
    assert report.program == MASTER
    assert "exit code 78" in report.text


def test_one_that_ends_again_and_again_is_reported_once_and_not_back_while_it_goes_on() -> None:
    one, found = watcher(), list[Report]()
    for turn in range(3 * CRASHES - 1):
        one.running(NODE, float(turn))
        found += one.exited(NODE, expected=False, code=None, now=turn + 0.5)
        found += one.tick(turn + 0.6)
    assert [report.down for report in found] == [True, True]
    assert f"{CRASHES} times" in found[0].text
    one.running(NODE, 100.0)
    assert [report.down for report in one.tick(100.0 + STEADY_S)] == [False]


def test_what_was_reported_before_a_restart_of_the_listener_is_still_to_be_closed() -> None:
    one = watcher(down=(NODE, "another"))
    assert one.down == {NODE}
    one.running(NODE, 0.0)
    assert one.tick(STEADY_S) == [Report(NODE, down=False)]


def test_other_programs_are_none_of_ours() -> None:
    one = watcher()
    assert one.fatal("nginx", 0.0) == one.exited("nginx", expected=True, code=78, now=0.0) == []
    assert one.running("nginx", 0.0) == one.stopped("nginx", 0.0) == one.tick(1e6) == []


steps = st.lists(st.tuples(st.sampled_from(["fatal", "crash", "end", "run", "stop", "tick"]), st.floats(0, 40)))


@given(steps)
def test_it_is_never_back_without_having_run_steadily_and_never_back_twice(taken: list[tuple[str, float]]) -> None:
    one, now, running_since, is_down = watcher(), 0.0, float("inf"), False
    for what, later in taken:
        now += later
        if what == "run":
            reports, running_since = one.running(NODE, now), now
        elif what == "fatal":
            reports, running_since = one.fatal(NODE, now), float("inf")
        elif what == "stop":
            reports, running_since = one.stopped(NODE, now), float("inf")
        elif what == "tick":
            reports = one.tick(now)
        else:
            reports, running_since = one.exited(NODE, what == "end", 78, now), float("inf")
        for report in reports:
            assert report.down or (is_down and now - running_since >= STEADY_S)
            is_down = report.down
        assert (NODE in one.down) == is_down


def test_the_limits_leave_room_for_a_libvirtd_that_is_restarted_by_hand() -> None:
    assert CRASHES_WITHIN_S / CRASHES > 10


def test_time_goes_on_by_supervisords_ticks_and_never_back_nor_far_ahead_when_its_clock_is_set() -> None:
    ticks = Ticks()
    seen = [ticks.now]
    for when in ("1000", "1005", "1012", "500", "505", "9999999", "x", "10000004"):
        ticks.tick(when)
        seen.append(ticks.now)
    assert seen == [0.0, 5.0, 10.0, 17.0, 22.0, 27.0, 32.0, 37.0, 42.0]
    assert TICK_S < LONGEST_TICK_S
