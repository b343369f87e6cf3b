"""From facts to a verdict: each way in which a service can be ill is told from the others."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.healthcheck.samples import (
    NOW,
    PID,
    changed,
    facts,
    master_status,
    node_status,
    process,
    worker,
)
from vmwatch.healthcheck.answer import document, line
from vmwatch.healthcheck.facts import (
    Answer,
    CanaryFacts,
    ChildFacts,
    Config,
    ConfigFacts,
    Facts,
    MaintenanceFacts,
    PidFileFacts,
)
from vmwatch.healthcheck.figures import Thresholds
from vmwatch.healthcheck.levels import Level, State
from vmwatch.healthcheck.ranges import Range
from vmwatch.healthcheck.verdict import Verdict, judge

PROGRAMS = ("vmwatch-node", "vmwatch-master")
GONE: dict[str, Any] = {"process": None, "answer": Answer.ABSENT, "status": {}}
"""Nothing runs."""
WRONG = ConfigFacts(Config.WRONG, "/etc/x.conf:3: secret: is empty")


def names(verdict: Verdict) -> dict[str, Level]:
    return {finding.name: finding.level for finding in verdict.findings}


@pytest.mark.parametrize("program", PROGRAMS)
class TestState:
    def test_a_service_that_is_well_is_ok(self, program: str) -> None:
        verdict = judge(facts(program))
        assert (verdict.level, verdict.state, verdict.findings) == (Level.OK, State.OK, ())

    def test_no_process_and_no_pid_file_is_stopped(self, program: str) -> None:
        verdict = judge(facts(program, pid_file=None, **GONE))
        assert (verdict.level, verdict.state) == (Level.CRITICAL, State.STOPPED)

    def test_a_pid_file_that_was_left_is_a_crash(self, program: str) -> None:
        verdict = judge(facts(program, **GONE))
        assert (verdict.level, verdict.state) == (Level.CRITICAL, State.CRASHED)
        assert str(PID) in verdict.text

    def test_a_zombie_is_a_crash(self, program: str) -> None:
        found = facts(program, **GONE | {"process": process(program, command=(), state="zombie", holds_pid_file=None)})
        assert judge(found).state is State.CRASHED

    def test_a_recycled_number_is_a_crash(self, program: str) -> None:
        other = process(program, command=("/usr/sbin/sshd", "-D"), holds_pid_file=False)
        verdict = judge(facts(program, **GONE | {"process": other, "answer": Answer.REFUSED}))
        assert verdict.state is State.CRASHED
        assert "another program" in verdict.text

    def test_a_recycled_number_of_the_same_program_is_a_crash(self, program: str) -> None:
        """Another instance, below another prefix, may get it."""
        other = process(program, holds_pid_file=False)
        assert judge(facts(program, **GONE | {"process": other})).state is State.CRASHED

    def test_where_files_may_not_be_seen_the_start_time_tells(self, program: str) -> None:
        own = process(program, holds_pid_file=None, started=NOW - 1000)
        assert judge(facts(program, process=own)).state is State.OK
        younger = process(program, holds_pid_file=None, started=NOW - 10)
        assert judge(facts(program, **GONE | {"process": younger})).state is State.CRASHED

    def test_a_clock_that_was_set_makes_no_crash(self, program: str) -> None:
        own = process(program, started=NOW + 3600)
        assert judge(facts(program, process=own)).state is State.OK

    def test_not_installed_is_missing(self, program: str) -> None:
        assert judge(facts(program, installed=False, pid_file=None, **GONE)).state is State.MISSING

    def test_a_wrong_or_absent_configuration_is_misconfigured(self, program: str) -> None:
        for config in (WRONG, ConfigFacts(Config.ABSENT, "x does not exist")):
            verdict = judge(facts(program, config=config, pid_file=None, **GONE))
            assert (verdict.level, verdict.state) == (Level.CRITICAL, State.MISCONFIGURED)
            assert config.text in verdict.text

    def test_disabled_is_ok_and_says_so(self, program: str) -> None:
        verdict = judge(facts(program, config=ConfigFacts(Config.DISABLED), pid_file=None, **GONE))
        assert (verdict.level, verdict.state) == (Level.OK, State.DISABLED)
        assert "disabled" in line(verdict)

    def test_disabled_and_still_running_is_a_warning(self, program: str) -> None:
        verdict = judge(facts(program, config=ConfigFacts(Config.DISABLED)))
        assert (verdict.level, verdict.state) == (Level.WARNING, State.ILL)

    def test_running_with_a_file_that_became_wrong_is_a_warning(self, program: str) -> None:
        assert names(judge(facts(program, config=WRONG))) == {"configuration": Level.WARNING}

    def test_a_suspended_process_is_stuck(self, program: str) -> None:
        found = facts(program, process=process(program, state="stopped"), answer=Answer.SILENT, status={})
        verdict = judge(found)
        assert (verdict.level, verdict.state) == (Level.CRITICAL, State.STUCK)
        assert "SIGCONT" in verdict.text

    def test_a_loop_that_does_not_turn_is_stuck(self, program: str) -> None:
        status = {**facts(program).status, "turn_age_s": 31.0}
        assert judge(facts(program, status=status)).state is State.STUCK

    @pytest.mark.parametrize("answer", [Answer.ABSENT, Answer.REFUSED, Answer.SILENT, Answer.GARBLED])
    def test_a_living_process_without_status_is_stuck(self, program: str, answer: Answer) -> None:
        verdict = judge(facts(program, answer=answer, status={}))
        assert (verdict.level, verdict.state) == (Level.CRITICAL, State.STUCK)

    @pytest.mark.parametrize("answer", [Answer.ABSENT, Answer.REFUSED])
    def test_a_young_process_without_status_is_starting(self, program: str, answer: Answer) -> None:
        verdict = judge(facts(program, process=process(program, age_s=2.0), answer=answer, status={}))
        assert (verdict.level, verdict.state) == (Level.WARNING, State.STARTING)

    def test_who_may_not_look_says_unknown(self, program: str) -> None:
        for changes in ({}, {"process": None, "pid_file": None}):
            found = facts(program, answer=Answer.FORBIDDEN, answer_text="may not be read", status={}, **changes)
            assert judge(found).level is Level.UNKNOWN

    def test_a_pid_file_that_is_gone_is_a_warning_while_the_service_answers(self, program: str) -> None:
        assert names(judge(facts(program, pid_file=None))) == {"pid_file": Level.WARNING}
        assert names(judge(facts(program, pid_file=PidFileFacts(1, NOW)))) == {"pid_file": Level.WARNING}

    def test_children_that_do_not_run_are_a_warning(self, program: str) -> None:
        children = (ChildFacts(12, "zombie"), ChildFacts(13, "stopped"))
        verdict = judge(facts(program, process=process(program, children=children)))
        assert [(finding.name, finding.level) for finding in verdict.findings] == [("child", Level.WARNING)] * 2

    def test_memory_and_descriptors_have_thresholds(self, program: str) -> None:
        much = process(program, memory_bytes=4 * 1024**3, descriptors=900)
        assert names(judge(facts(program, process=much))) == {
            "memory": Level.CRITICAL,
            "descriptors": Level.WARNING,
        }

    def test_in_maintenance_all_is_told_and_nothing_counts(self, program: str) -> None:
        mark = MaintenanceFacts(NOW + 7200, "anna", "new disk")
        verdict = judge(facts(program, maintenance=mark, **GONE))
        assert (verdict.level, verdict.state, verdict.underlying) == (Level.OK, State.MAINTENANCE, State.CRASHED)
        assert names(verdict) == {"crashed": Level.CRITICAL}
        for part in ("120 more minutes", "anna", "new disk", "CRITICAL"):
            assert part in verdict.text

    def test_a_mark_that_cannot_be_read_is_no_maintenance(self, program: str) -> None:
        verdict = judge(facts(program, maintenance_error="x: line 1"))
        assert (verdict.level, verdict.state) == (Level.WARNING, State.OK)


class TestNode:
    @pytest.mark.parametrize(
        ("path", "value", "name", "level"),
        [
            (("libvirt", "answers"), False, "libvirt", Level.CRITICAL),
            (("libvirt", "connected"), False, "libvirt", Level.CRITICAL),
            (("libvirt", "tick_age_s"), 6.0, "libvirt_tick", Level.WARNING),
            (("libvirt", "tick_age_s"), 16.0, "libvirt_tick", Level.CRITICAL),
            (("outbox", "depth"), 10_001, "outbox_depth", Level.WARNING),
            (("outbox", "oldest_s"), 61.0, "outbox_age", Level.WARNING),
            (("outbox", "oldest_s"), 301.0, "outbox_age", Level.CRITICAL),
            (("outbox", "trouble"), "disk is full", "outbox", Level.CRITICAL),
            (("outbox", "drop_age_s"), 60.0, "drop_age", Level.WARNING),
            (("inventory", "age_s"), 700.0, "inventory_age", Level.WARNING),
            (("inventory", "age_s"), 1300.0, "inventory_age", Level.CRITICAL),
            (("inventory", "hung_s"), 3.0, "inventory", Level.CRITICAL),
            (("inventory", "last_error"), "no", "inventory", Level.WARNING),
            (("statistics", "age_s"), 1300.0, "statistics_age", Level.WARNING),
            (("master", "heard_age_s"), 11.0, "master_heard", Level.WARNING),
            (("master", "heard_age_s"), None, "master_heard", Level.CRITICAL),
            (("master", "seen_age_s"), 41.0, "master_seen", Level.WARNING),
            (("master", "diagnosis_kind"), "unreachable", "master_unreachable", Level.CRITICAL),
            (("master", "diagnosis_kind"), "acknowledgements_blocked", "acknowledgements_blocked", Level.CRITICAL),
            (("master", "diagnosis_kind"), "acknowledgements_invalid", "acknowledgements_invalid", Level.CRITICAL),
        ],
    )
    def test_each_figure_and_word_of_the_status_is_judged(
        self, path: tuple[str, ...], value: object, name: str, level: Level
    ) -> None:
        verdict = judge(facts(status=changed(node_status(), *path, to=value)))
        assert names(verdict) == {name: level}
        assert verdict.state is State.ILL

    def test_connecting_to_libvirt_after_the_start_is_a_warning_only(self) -> None:
        status = changed(node_status(), "libvirt", "connected", to=False) | {"uptime_s": 3.0}
        assert names(judge(facts(status=status))) == {"libvirt": Level.WARNING}
        status["libvirt"]["open_failures"] = 1
        assert names(judge(facts(status=status))) == {"libvirt": Level.CRITICAL}

    def test_thresholds_follow_the_intervals(self) -> None:
        status = changed(node_status(), "inventory", "interval_s", to=3600.0)
        assert judge(facts(status=changed(status, "inventory", "age_s", to=3700.0))).level is Level.OK

    @pytest.mark.parametrize("state", ["under way", "dropped", "not sent"])
    def test_a_canary_that_did_not_arrive_is_critical(self, state: str) -> None:
        assert names(judge(facts(canary=CanaryFacts(state, 2.0, "why"))))["canary"] is Level.CRITICAL

    def test_a_canary_that_arrived_is_ok_and_told(self) -> None:
        verdict = judge(facts(canary=CanaryFacts("acknowledged", 0.25)))
        assert verdict.level is Level.OK
        assert "canary acknowledged in 0.25 s" in line(verdict)
        assert "canary=0.25s;~:5;~:30;0" in line(verdict)


class TestMaster:
    @pytest.mark.parametrize(
        ("path", "value", "name", "level"),
        [
            (("workers",), [worker()], "workers", Level.WARNING),
            (("workers",), [], "workers", Level.CRITICAL),
            (("workers",), [worker(doing="calling", since_s=41.0), worker()], "worker_busy", Level.WARNING),
            (("workers",), [worker(doing="calling", since_s=71.0), worker()], "worker_busy", Level.CRITICAL),
            (("workers",), [worker(silent_s=41.0), worker()], "worker_silent", Level.WARNING),
            (("waiting",), 100_001, "queue", Level.WARNING),
            (("stall_s",), 61.0, "stall", Level.WARNING),
            (("panel_answer_age_s",), 46.0, "panel_answer", Level.WARNING),
            (("panel_answer_age_s",), None, "panel_answer", Level.CRITICAL),
            (("panel_trouble",), "503", "panel", Level.WARNING),
            (("dead_letters", "failure"), "no room", "dead_letters", Level.CRITICAL),
            (("nodes", "kvm-1", "clock_skew_s"), -61.0, "clock_skew", Level.WARNING),
        ],
    )
    def test_each_figure_and_word_of_the_status_is_judged(
        self, path: tuple[str, ...], value: object, name: str, level: Level
    ) -> None:
        verdict = judge(facts("vmwatch-master", status=changed(master_status(), *path, to=value)))
        assert names(verdict) == {name: level}

    def test_a_worker_that_cannot_boot_is_named_with_its_trouble(self) -> None:
        workers = [worker(), worker(state="backoff", last_trouble="exit code 78")]
        verdict = judge(facts("vmwatch-master", status=master_status() | {"workers": workers}))
        assert set(names(verdict)) == {"worker", "workers"}
        assert "exit code 78" in verdict.text

    def test_what_a_person_must_mend_is_critical(self) -> None:
        status = master_status() | {"panel_trouble": "wrong password", "panel_needs_person": True}
        assert names(judge(facts("vmwatch-master", status=status))) == {"panel": Level.CRITICAL}

    def test_a_longer_timeout_of_the_panel_allows_longer_calls(self) -> None:
        status = master_status() | {"panel_timeout_s": 300.0, "workers": [worker(doing="calling", since_s=250.0)] * 2}
        assert judge(facts("vmwatch-master", status=status)).level is Level.OK


class TestThresholds:
    def test_given_ones_count_instead_of_the_defaults(self) -> None:
        given_ones = Thresholds({"outbox_depth": Range.parse("~:5")}, {"outbox_depth": Range.parse("~:7")})
        status = changed(node_status(), "outbox", "depth", to=6)
        assert names(judge(facts(status=status), given_ones)) == {"outbox_depth": Level.WARNING}
        status = changed(node_status(), "outbox", "depth", to=8)
        assert names(judge(facts(status=status), given_ones)) == {"outbox_depth": Level.CRITICAL}


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False, width=32) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def with_any(data: st.DataObject, status: dict[str, Any]) -> dict[str, Any]:
    """The status of another version: some values are absent or something else."""
    for name in data.draw(st.lists(st.sampled_from(sorted(status)), unique=True)):
        if isinstance(status[name], dict) and data.draw(st.booleans()):
            status[name] = with_any(data, status[name]) if status[name] else {}
        elif data.draw(st.booleans()):
            del status[name]
        else:
            status[name] = data.draw(values)
    return status


@given(st.data(), st.sampled_from(PROGRAMS))
def test_a_status_of_another_version_is_judged_without_an_error(data: st.DataObject, program: str) -> None:
    status = node_status() if program == "vmwatch-node" else master_status()
    check_answer(facts(program, status=with_any(data, status)))


@given(
    st.sampled_from(PROGRAMS),
    st.sampled_from(Answer),
    st.sampled_from(Config),
    st.booleans(),
    st.sampled_from([None, PidFileFacts(PID, NOW), PidFileFacts(0, NOW), PidFileFacts(9, NOW)]),
    st.sampled_from([None, "sleeping", "zombie", "stopped", "disk-sleep"]),
    st.sampled_from([None, MaintenanceFacts(NOW + 60)]),
)
def test_every_combination_has_a_verdict(
    program: str,
    answer: Answer,
    config: Config,
    installed: bool,
    pid_file: PidFileFacts | None,
    state: str | None,
    mark: MaintenanceFacts | None,
) -> None:
    well = facts(program)
    found = replace(
        well,
        answer=answer,
        status=well.status if answer is Answer.GIVEN else {},
        config=ConfigFacts(config, "text"),
        installed=installed,
        pid_file=pid_file,
        process=None if state is None else process(program, state=state),
        maintenance=mark,
    )
    verdict = check_answer(found)
    if mark is not None:
        assert verdict.level is Level.OK


def check_answer(found: Facts) -> Verdict:
    """Whatever it is: one line, and both forms agree."""
    verdict = judge(found)
    text = line(verdict)
    assert "\n" not in text
    assert text.count("|") <= 1
    assert document(verdict, found, 0.1)["code"] == int(verdict.level)
    return verdict
