"""Whether anything moves behind the master."""

from vmwatch.shared.handover import Doing, PresenceDone, Refused, Settled
from vmwatch.supervisor.progress import Progress


def test_nothing_in_flight_is_no_stall() -> None:
    progress = Progress(0.0)
    progress.look(100.0, 0)
    assert progress.stall_s(100.0) == 0.0


def test_messages_that_nobody_settles_are_a_stall_that_ends_with_the_first_settled_one() -> None:
    progress = Progress(0.0)
    progress.look(10.0, 0)
    progress.look(11.0, 5)
    progress.heard(40.0, Doing(1, "calling", [1]))
    assert progress.stall_s(70.0) == 60.0
    progress.heard(70.0, Settled(1, [1], [], []))
    progress.look(71.0, 4)
    assert progress.stall_s(72.0) == 2.0


def test_only_what_the_panel_answered_counts_as_an_answer() -> None:
    progress = Progress(0.0)
    assert progress.panel_answer_age_s(9.0) is None
    progress.heard(10.0, PresenceDone(1, delivered=False))
    progress.heard(10.0, Settled(1, [], [Refused(7, "always fails")], []))
    assert progress.panel_answer_age_s(11.0) is None
    progress.heard(12.0, PresenceDone(1, delivered=True))
    assert progress.panel_answer_age_s(15.0) == 3.0
    progress.heard(20.0, Settled(1, [3], [], []))
    assert progress.panel_answer_age_s(21.0) == 1.0
