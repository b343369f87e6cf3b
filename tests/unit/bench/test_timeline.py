"""Samples as a timeline: what is certain of a value, and when nobody can say."""

from bench.veracity.record import Record
from bench.veracity.timeline import NOBODY, Span, Timeline, Value, join, joined_value


def timeline(*samples: tuple[float, float, Value]) -> Timeline:
    made = Timeline()
    for sample in samples:
        made.add(*sample)
    return made


def span(begin: float, end: float, *values: Value) -> Span:
    return Span(begin, end, frozenset(values))


def test_between_two_samples_that_show_the_same_it_is_that() -> None:
    assert timeline((0, 1, "a"), (5, 6, "a")).spans(0, 10) == [span(0, 10, "a")]


def test_between_two_samples_that_differ_it_is_one_of_both_from_the_firsts_begin_to_the_seconds_end() -> None:
    found = timeline((1, 2, "a"), (3, 4, "a"), (5, 6, "b"), (7, 8, "b")).spans(0, 10)
    assert found == [span(0, 3, "a"), span(3, 6, "a", "b"), span(6, 10, "b")]


def test_a_value_that_only_one_sample_showed_is_never_certain() -> None:
    assert timeline((0, 1, "a"), (2, 3, "b"), (4, 5, "a")).spans(0, 9) == [span(0, 5, "a", "b"), span(5, 9, "a")]


def test_a_time_without_samples_is_nobodys() -> None:
    assert Timeline().spans(0, 1) == [span(0, 1, NOBODY)]


def test_a_vm_that_migrates_is_what_it_is_where_it_runs() -> None:
    source = timeline((0, 0, "running@s"), (4, 4, "running@s"), (5, 5, "absent"), (9, 9, "absent")).spans(0, 9)
    destination = timeline((0, 0, "absent"), (1, 1, "absent"), (2, 2, "paused"), (4, 4, "paused"), (6, 6, "running@d"))
    assert join([source, destination.spans(0, 9)]) == [
        span(0, 4, "running@s"),
        span(4, 5, "running@s", "running@d", "paused"),
        span(5, 6, "running@d", "paused"),
        span(6, 9, "running@d"),
    ]


def test_of_a_vm_of_which_one_node_cannot_say_anything_only_is_known_that_it_runs_elsewhere() -> None:
    assert joined_value([NOBODY, "running@a"]) == "running@a"
    assert joined_value([NOBODY, "shutoff"]) is NOBODY
    assert joined_value(["shutoff", "absent"]) == "shutoff"


def test_a_vm_that_a_sample_lacks_is_absent_also_before_it_was_first_there() -> None:
    record = Record()
    record.add(0, 1, {"one": "shutoff"})
    record.add(2, 3, {"one": "shutoff", "two": "running@a"})
    record.add(4, 5, {"two": "running@a"})
    assert record.vms["two"].spans(0, 5) == [span(0, 3, "absent", "running@a"), span(3, 5, "running@a")]
    assert record.now() == {"two": "running@a"}


def test_a_record_of_which_nobody_could_say_anything_has_no_truth() -> None:
    record = Record()
    record.add(0, 1, {"one": "shutoff"})
    record.add_nothing(2, 3)
    assert record.now() == {"one": NOBODY}
