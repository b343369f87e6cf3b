"""The installation's core where listings and events contradict each other, or come again (rule 7)."""

import pytest
from msgspec.structs import replace

from tests.unit.panel.test_installation import (
    EPOCH,
    SHUTDOWN,
    WALL,
    answer,
    begun,
    listing,
    running,
    told,
)
from vmwatch.panel.installation import Installation, Kind, Outcome, Phase, expired, listed
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.knowledge import Draft, Known
from vmwatch.shared.states import State


def awaiting() -> Installation:
    """Its first run has ended with event 13, and libvirt has begun the second."""
    return answer(told(running(3), 13, "stopped", "shutdown"))


@pytest.mark.parametrize("state", [State.RUNNING, State.SHUTOFF, State.ABSENT])
@pytest.mark.parametrize("seq", [12, 13])
def test_a_listing_from_before_the_last_end_changes_nothing_whatever_it_was_asked_for(state: State, seq: int) -> None:
    now = awaiting()
    assert now.phase is Phase.AWAITING
    assert listed(now, EPOCH, seq - 1, seq, state, SHUTDOWN, WALL, fresh=True) == now


def test_an_end_that_comes_again_after_a_listing_of_the_next_run_counts_once() -> None:
    """The listing was begun before that end was written down, and saw the run that followed it."""
    now = listed(awaiting(), EPOCH, 12, 15, State.RUNNING, 1, WALL, fresh=True)
    assert (now.phase, now.left) == (Phase.RUNNING, 2)
    assert told(now, 13, "stopped", "shutdown") == now


@pytest.mark.parametrize("reason", [0, SHUTDOWN])
def test_a_listing_in_which_libvirt_does_not_know_the_state_is_no_end(reason: int) -> None:
    now = replace(running(2), ask=False)
    assert listing(now, 14, State.UNKNOWN, reason) == now


def test_a_listed_crash_is_a_failure_although_its_reason_has_the_number_of_a_shutdown() -> None:
    """virDomainCrashedReason 1 is *panicked*, virDomainShutoffReason 1 is *shutdown*."""
    now = listing(running(2), 14, State.CRASHED, SHUTDOWN)
    assert (now.outcome, now.left) == (Outcome.FAILED, 2)
    assert "crashed" in now.reason


def test_what_failed_again_and_again_is_put_back_at_once_when_its_time_is_over() -> None:
    now = begun()
    for _ in range(8):
        now = answer(now, Kind.AGAIN, "libvirt cannot be reached")
    over = expired(now, WALL + 3600, 3600.0)
    assert (over.phase, over.pause_s, over.failures, over.note) == (Phase.RESTORING, 0.0, 0, "")


def test_what_does_not_change_an_installation_writes_nothing() -> None:
    draft, now = Draft(Known("run")), running()
    keep_installation(draft, now, told(now, 5, "stopped", "shutdown"), WALL)
    assert (draft.installations, draft.durable) == ({}, False)
