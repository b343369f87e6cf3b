"""The installation's core: one outcome, whatever comes, in whatever order, however often, and from whenever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import json as msgspec_json
from msgspec.structs import replace

from vmwatch.panel.installation import (
    GONE,
    Action,
    Answer,
    Boot,
    Installation,
    Kind,
    Outcome,
    Phase,
    Verb,
    answered,
    cancelled,
    expired,
    happened,
    label,
    listed,
    pending,
    refused,
)
from vmwatch.panel.rules import Mark
from vmwatch.shared.states import State

EPOCH = 1_763_900_000_000_000
WALL = 1000.0
SHUTDOWN, DESTROYED, FAILED = 1, 2, 6


def begun(reboots: int = 1) -> Installation:
    return Installation(
        id=1,
        key="k",
        uuid="u",
        name="web",
        node="n",
        boot=Boot.CDROM,
        image="",
        reboots=reboots,
        limit_s=3600.0,
        began=WALL,
        left=reboots,
        place=(EPOCH, 5),
    )


def answer(now: Installation, kind: Kind = Kind.DONE, text: str = "") -> Installation:
    action = pending(now)
    assert action is not None
    return answered(now, action, Answer(kind, text), WALL + 60, 60.0)


def listing(now: Installation, seq: int, state: State, reason: int = SHUTDOWN, *, fresh: bool = True) -> Installation:
    return listed(replace(now, ask=False), EPOCH, seq - 1, seq, state, reason, WALL, fresh=fresh)


def told(now: Installation, seq: int, event: str, detail: str = "", epoch: int = EPOCH) -> Installation:
    return happened(now, (epoch, seq), event, detail, WALL)


def running(reboots: int = 1) -> Installation:
    """After its first start, which is event 11."""
    now = answer(listing(answer(begun(reboots)), 10, State.SHUTOFF))
    return told(now, 11, "started", "booted")


def test_the_way_from_begin_to_installed() -> None:
    now = begun(2)
    assert pending(now) == Action(Verb.PREPARE)
    now = answer(now)
    assert (now.phase, now.ask, pending(now)) == (Phase.LISTING, True, None)
    now = listing(now, 10, State.SHUTOFF)
    assert (now.phase, now.place, pending(now)) == (Phase.STARTING, (EPOCH, 10), Action(Verb.START, 1))
    now = told(answer(now), 11, "started")
    now = told(told(now, 12, "shutdown", "guest"), 13, "stopped", "shutdown")
    assert (now.phase, now.left, pending(now)) == (Phase.STARTING, 1, Action(Verb.START, 2))
    now = told(told(answer(now), 14, "started"), 15, "stopped", "shutdown")
    assert (now.phase, now.left, pending(now)) == (Phase.BOOTING, 0, Action(Verb.START, 3, disk=True))
    now = answer(now)
    assert (now.outcome, now.spent_s, pending(now)) == (Outcome.INSTALLED, 60.0, Action(Verb.RESTORE))
    assert now.undecided is False
    assert now.unfinished is True
    now = answer(now)
    assert (now.phase, pending(now)) == (Phase.DONE, None)
    assert label(now) == "installed in 60 s"


def test_an_event_that_comes_twice_counts_once() -> None:
    now = told(running(3), 13, "stopped", "shutdown")
    assert now.left == 2
    assert told(now, 13, "stopped", "shutdown") == now
    assert told(told(now, 11, "started"), 13, "stopped", "shutdown") == now


@pytest.mark.parametrize("place", [(EPOCH, 11), (EPOCH, 4), (EPOCH - 1, 10**6)])
def test_an_event_of_an_older_start_counts_nothing(place: Mark) -> None:
    now = running(3)
    ends = ("stopped", "shutdown"), ("stopped", "destroyed"), ("crashed", "panicked"), ("undefined", "removed")
    for event, detail in ends:
        assert happened(now, place, event, detail, WALL) == now


def test_a_backlog_of_an_older_start_that_comes_before_ours_counts_nothing() -> None:
    now = answer(begun(2))
    now = told(told(now, 6, "started"), 7, "stopped", "shutdown")
    now = listing(now, 10, State.SHUTOFF)
    late = told(told(now, 8, "started"), 9, "stopped", "shutdown")
    assert late == now
    assert now.left == 2


@pytest.mark.parametrize(
    ("event", "detail", "reason"),
    [
        ("stopped", "destroyed", "destroyed by an operator"),
        ("stopped", "failed", "crashed"),
        ("stopped", "crashed", "crashed"),
        ("crashed", "panicked", "crashed"),
        ("stopped", "migrated", "migrated"),
        ("stopped", "saved", "saved"),
        ("stopped", "detail_17", "detail_17"),
        ("undefined", "removed", "gone"),
    ],
)
def test_an_end_that_is_no_reboot_is_a_failure_that_says_which(event: str, detail: str, reason: str) -> None:
    now = told(running(), 12, event, detail)
    assert now.outcome is Outcome.FAILED
    assert reason in now.reason
    assert pending(now) == Action(Verb.RESTORE)


def test_a_pause_is_no_reboot_and_a_rename_no_end() -> None:
    now = running()
    for event, detail in (("suspended", "paused"), ("resumed", "unpaused"), ("undefined", "renamed"), ("reboot", "")):
        assert told(now, 12, event, detail) == now


@pytest.mark.parametrize(
    ("reason", "counts"), [(SHUTDOWN, True), (DESTROYED, False), (FAILED, False), (0, False), (8, False), (99, False)]
)
def test_after_a_gap_a_listing_tells_the_end_and_its_event_counts_no_second_time(reason: int, counts: bool) -> None:
    now = listed(running(3), EPOCH + 1, 0, 2, State.SHUTOFF, reason, WALL, fresh=False)
    assert (now.outcome is Outcome.NONE) is counts
    if counts:
        assert (now.left, now.phase) == (2, Phase.STARTING)
        assert told(now, 1, "stopped", "shutdown", EPOCH + 1) == now
        assert told(now, 12, "stopped", "shutdown") == now


def test_a_listing_that_was_begun_before_the_start_tells_no_end() -> None:
    now = running()
    assert listed(now, EPOCH, 10, 14, State.SHUTOFF, SHUTDOWN, WALL, fresh=False) == now
    now = answer(listing(answer(begun()), 10, State.SHUTOFF))
    assert listing(now, 12, State.SHUTOFF, fresh=False) == replace(now, ask=False)


def test_a_guest_that_still_runs_after_a_new_epoch_goes_on() -> None:
    now = listed(running(), EPOCH + 1, 0, 2, State.RUNNING, 1, WALL, fresh=True)
    assert now == running()
    assert told(now, 3, "stopped", "shutdown", EPOCH + 1).phase is Phase.BOOTING


def test_a_start_whose_event_was_lost_is_found_in_a_listing() -> None:
    now = answer(listing(answer(begun(2)), 10, State.SHUTOFF))
    assert (now.phase, now.ask) == (Phase.AWAITING, True)
    assert listing(now, 14, State.RUNNING).phase is Phase.RUNNING
    ended = listing(now, 14, State.SHUTOFF)
    assert (ended.phase, ended.left, ended.step) == (Phase.STARTING, 1, 2)


def test_an_end_without_a_beginning_asks_for_a_listing_and_the_late_beginning_is_taken() -> None:
    now = answer(listing(answer(begun(2)), 10, State.SHUTOFF))
    now = replace(now, ask=False)
    now = told(now, 12, "stopped", "shutdown")
    assert (now.phase, now.ask) == (Phase.AWAITING, True)
    now = told(now, 11, "started")
    assert listing(now, 14, State.SHUTOFF).left == 1


def test_an_unsure_start_is_done_again_only_after_a_fresh_listing_and_a_pause() -> None:
    now = answer(listing(answer(begun()), 10, State.SHUTOFF), Kind.UNSURE)
    assert (now.phase, now.ask, pending(now)) == (Phase.UNSURE, True, None)
    assert listing(now, 12, State.RUNNING).phase is Phase.RUNNING
    sure = listing(now, 12, State.SHUTOFF)
    assert pending(sure) == Action(Verb.START, 1, sure=True)
    assert sure.pause_s > 0
    # its events were on their way: it is not started a second time
    assert pending(told(told(sure, 11, "started"), 12, "stopped", "shutdown")) == Action(Verb.START, 2, disk=True)


def test_what_may_succeed_later_is_tried_with_longer_pauses_until_the_time_limit_which_tells_it() -> None:
    now, pauses = begun(), []
    for _ in range(9):
        now = answer(now, Kind.AGAIN, "libvirt cannot be reached")
        pauses.append(now.pause_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    now = expired(now, WALL + 3600, 3600.0)
    assert now.outcome is Outcome.FAILED
    assert "time limit of 3600 s" in now.reason
    assert "cannot be reached" in now.reason
    for _ in range(20):  # the definition is put back however long that takes
        now = answer(now, Kind.AGAIN, "libvirt cannot be reached")
        assert pending(now) == Action(Verb.RESTORE)
    assert answer(now).phase is Phase.DONE


def test_what_libvirt_refuses_is_the_reason_and_a_refused_restoring_is_noted() -> None:
    now = answer(begun(), Kind.FAILED, "the VM has no disk")
    assert (now.outcome, now.reason) == (Outcome.FAILED, "the VM has no disk")
    now = answer(now, Kind.FAILED, "no")
    assert (now.phase, now.spoiled, now.note) == (Phase.DONE, True, "no")


def test_an_answer_to_what_is_not_pending_any_more_changes_nothing() -> None:
    starting = listing(answer(begun(2)), 10, State.SHUTOFF)
    action = pending(starting)
    assert action is not None
    now = told(starting, 11, "started")
    assert answered(now, action, Answer(Kind.FAILED, "late"), WALL, 1.0) == now
    now = told(now, 12, "stopped", "shutdown")
    assert answered(now, action, Answer(Kind.DONE), WALL, 1.0) == now


def test_what_is_decided_stays_decided() -> None:
    for decided in (told(running(), 12, "stopped", "destroyed"), cancelled(running(), WALL, 1.0)):
        for later in (decided, answer(decided)):
            assert expired(later, WALL, 9.0) == later
            assert cancelled(later, WALL, 9.0) == later
            assert refused(later, "no", WALL, 9.0) == later
            assert told(later, 13, "stopped", "shutdown") == later
            assert listing(later, 14, State.ABSENT) == later


def test_a_start_by_somebody_keeps_no_late_end_of_ours_from_counting() -> None:
    now = told(running(2), 14, "started", "booted")
    assert told(now, 12, "stopped", "shutdown").left == 1


def test_a_vm_that_a_listing_does_not_show_is_gone() -> None:
    waiting = answer(begun())
    starting = listing(waiting, 10, State.SHUTOFF)
    for now in (waiting, answer(starting), answer(starting, Kind.UNSURE), told(starting, 11, "started")):
        gone = listing(now, 14, State.ABSENT)
        assert (gone.outcome, gone.reason) == (Outcome.FAILED, GONE)


def test_an_installation_survives_being_stored() -> None:
    now = told(running(3), 13, "stopped", "shutdown")
    assert msgspec_json.decode(msgspec_json.encode(now), type=Installation) == now


RUN = (("resumed", "unpaused"), ("started", "booted"), ("shutdown", "guest"), ("stopped", "shutdown"))


@settings(max_examples=300)
@given(st.data())
def test_a_run_is_counted_once_in_whatever_order_its_messages_come(data: st.DataObject) -> None:
    """One run of the VM: its events, a listing that was begun before it and one after it, repeated and shuffled."""
    now = answer(listing(answer(begun(2)), 10, State.SHUTOFF))
    messages = [*((11 + n, *what) for n, what in enumerate(RUN)), (11, "early", ""), (15, "late", "")]
    order = data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages), max_size=5))))
    asked = now.ask
    for seq, event, detail in order:
        if event == "early":
            now = listed(now, EPOCH, 10, seq, State.SHUTOFF, SHUTDOWN, WALL, fresh=False)
        elif event == "late":
            now = listed(now, EPOCH, 14, seq, State.SHUTOFF, SHUTDOWN, WALL, fresh=False)
        else:
            now = told(now, seq, event, detail)
        asked |= now.ask
        assert now.left >= 1
        assert now.undecided
    if now.left == 2:  # what was asked for comes at last
        assert asked
        now = listing(now, 16, State.SHUTOFF)
    assert (now.left, now.phase, now.step) == (1, Phase.STARTING, 2)


class Countdown(RuleBasedStateMachine):
    """A hypervisor, a node and a panel that may do anything at any time; the core is told of it late or never.

    The hypervisor is the truth: `ends` are the runs that ended by themselves since the installation's first start.
    """

    @initialize(reboots=st.integers(1, 4))
    def begin(self, reboots: int) -> None:
        self.now = begun(reboots)
        self.outcomes: list[Outcome] = []
        self.active = False
        self.reason = SHUTDOWN
        self.mark: tuple[int, bool] = (0, False)
        self.seq = 20
        self.epoch = EPOCH
        self.wire: list[tuple[Mark, str, str]] = []
        self.lost = False
        self.asked = False
        self.ends = 0
        self.disk_runs = 0

    def _become(self, after: Installation) -> None:
        assert after.turn >= self.now.turn
        if self.now.outcome is not Outcome.NONE:
            assert (after.outcome, after.reason, after.spent_s) == (self.now.outcome, self.now.reason, self.now.spent_s)
        elif after.outcome is not Outcome.NONE:
            self.outcomes.append(after.outcome)
        self.asked |= after.ask
        self.now = msgspec_json.decode(msgspec_json.encode(replace(after, ask=False)), type=Installation)

    def _emit(self, event: str, detail: str) -> None:
        self.seq += 1
        if not self.lost:
            self.wire.append(((self.epoch, self.seq), event, detail))

    @precondition(lambda self: pending(self.now) is not None)
    @rule(commits=st.booleans(), reaches=st.booleans())
    def act(self, commits: bool, reaches: bool) -> None:
        """Perform what is pending; the panel may be killed before the answer is committed."""
        action = pending(self.now)
        assert action is not None
        result = self._perform(action) if reaches else Answer(Kind.AGAIN, "not reached")
        if commits:
            self._become(answered(self.now, action, result, WALL, 1.0))

    def _perform(self, action: Action) -> Answer:
        if action.verb is not Verb.START:
            return Answer(Kind.DONE)
        if self.active:
            return Answer(Kind.DONE if self.mark[1] == action.disk else Kind.AGAIN)
        if self.mark == (action.step, action.disk) and not action.sure:
            return Answer(Kind.UNSURE)
        self.mark, self.active = (action.step, action.disk), True
        self.disk_runs += action.disk
        self._emit("started", "booted")
        return Answer(Kind.DONE)

    @precondition(lambda self: self.active and not self.mark[1])
    @rule()
    def reboot(self) -> None:
        self.active, self.reason = False, SHUTDOWN
        self.ends += 1
        self._emit("stopped", "shutdown")

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, again: bool) -> None:
        """The VM's events come in order, the first of them perhaps more than once."""
        place, event, detail = self.wire[0] if again else self.wire.pop(0)
        self._become(happened(self.now, place, event, detail, WALL))

    @rule()
    def old_event(self) -> None:
        self._become(happened(self.now, (EPOCH - 1, 10**6), "stopped", "destroyed", WALL))
        self._become(happened(self.now, (EPOCH, 3), "stopped", "shutdown", WALL))

    @rule()
    def list_all(self) -> None:
        """A complete listing; what is before it on the wire comes first."""
        while self.wire:
            place, event, detail = self.wire.pop(0)
            self._become(happened(self.now, place, event, detail, WALL))
        as_of = self.seq
        self.seq += 1
        state = State.RUNNING if self.active else State.SHUTOFF
        fresh, self.asked = self.asked, False
        self._become(listed(self.now, self.epoch, as_of, self.seq, state, self.reason, WALL, fresh=fresh))

    @rule()
    def agent_goes(self) -> None:
        """libvirtd or the agent is away: what happens is told by nobody."""
        self.lost = True

    @rule()
    def agent_comes(self) -> None:
        """A new epoch begins with a listing, which the panel may have asked for."""
        if self.lost:
            self.lost, self.epoch, self.seq = False, self.epoch + 1, 0
            self.list_all()

    @rule(how=st.sampled_from(["expired", "cancelled"]))
    def stop(self, how: str) -> None:
        """Seldom before the outcome: most examples shall come to one by themselves."""
        if self.now.undecided and self.ends < self.now.reboots + 2:
            return
        self._become((expired if how == "expired" else cancelled)(self.now, WALL, 1.0))

    @invariant()
    def one_outcome_at_most(self) -> None:
        assert len(self.outcomes) <= 1

    @invariant()
    def nothing_is_counted_that_did_not_happen(self) -> None:
        assert self.now.reboots - self.now.left <= self.ends

    @invariant()
    def from_the_disk_only_after_all_reboots(self) -> None:
        assert self.disk_runs == 0 or self.ends >= self.now.reboots

    def teardown(self) -> None:
        """Left alone, with everything working, it comes to its one outcome."""
        for _ in range(200):
            if self.now.phase is Phase.DONE:
                break
            self.agent_comes()
            self.list_all()
            if pending(self.now) is not None:
                self.act(commits=True, reaches=True)
            elif self.active and not self.mark[1]:
                self.reboot()
        assert self.now.phase is Phase.DONE
        assert self.outcomes == [self.now.outcome]
        if self.outcomes == [Outcome.INSTALLED]:
            assert self.disk_runs >= 1


Countdown.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCountdown = Countdown.TestCase
