"""What a check means: a machine and its agent are two problems; what nobody could tell changes neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.checkup import (
    CRITICAL,
    ILL,
    OK,
    UNKNOWN,
    WARNING,
    Looked,
    Probed,
    Result,
    is_on_purpose,
    is_unfinished,
    judge_by_life,
    judge_master,
    judge_node,
)
from vmwatch.panel.problems import Kind, Level

WELL = Looked(reachable=True, libvirt=True)
NO_LIBVIRT = Looked(reachable=True, libvirt=False, text="its libvirt does not answer: refused")
CUT_OFF = Looked(reachable=False, libvirt=False, text="no route")
RUNS = Probed(OK, "ok", "all is well")
LACKS_LIBVIRT = Probed(CRITICAL, "ill", "no libvirt", critical=frozenset({"libvirt", "libvirt_tick"}))
LACKS_MORE = Probed(CRITICAL, "ill", "no libvirt, no master", critical=frozenset({"libvirt", "master_unreachable"}))


def kinds(result: Result) -> list[Kind]:
    return [found.kind for found in result.found]


@pytest.mark.parametrize(
    ("looked", "probed", "state", "found", "over"),
    [
        (WELL, RUNS, "ok", [], [Kind.NODE_UNAVAILABLE, Kind.NODE_STOPPED]),
        (WELL, Probed(WARNING, "ill", "a backlog"), "ill", [], [Kind.NODE_UNAVAILABLE, Kind.NODE_STOPPED]),
        (WELL, Probed(OK, "disabled", "disabled"), "disabled", [], [Kind.NODE_UNAVAILABLE, Kind.NODE_STOPPED]),
        (WELL, Probed(CRITICAL, "crashed", "gone"), "crashed", [Kind.NODE_STOPPED], [Kind.NODE_UNAVAILABLE]),
        (WELL, Probed(CRITICAL, "stuck", "hangs"), "stuck", [Kind.NODE_STOPPED], [Kind.NODE_UNAVAILABLE]),
        (WELL, Probed(CRITICAL, "missing", "none"), "missing", [Kind.NODE_STOPPED], [Kind.NODE_UNAVAILABLE]),
        (WELL, Probed(UNKNOWN, "", "what?"), "unknown", [], [Kind.NODE_UNAVAILABLE]),
        (WELL, Probed(timed_out=True, text="no end"), "unreachable", [Kind.NODE_UNAVAILABLE], []),
        (CUT_OFF, None, "unreachable", [Kind.NODE_UNAVAILABLE], []),
        (NO_LIBVIRT, RUNS, "no_libvirt", [Kind.NODE_UNAVAILABLE], [Kind.NODE_STOPPED]),
        (NO_LIBVIRT, Probed(CRITICAL, "ill", "no libvirt"), "no_libvirt", [Kind.NODE_UNAVAILABLE], []),
        (NO_LIBVIRT, LACKS_LIBVIRT, "no_libvirt", [Kind.NODE_UNAVAILABLE], [Kind.NODE_STOPPED]),
        (WELL, LACKS_LIBVIRT, "ill", [Kind.NODE_STOPPED], [Kind.NODE_UNAVAILABLE]),
        (NO_LIBVIRT, LACKS_MORE, "ill", [Kind.NODE_UNAVAILABLE, Kind.NODE_STOPPED], []),
        (
            NO_LIBVIRT,
            Probed(CRITICAL, "crashed", "gone"),
            "crashed",
            [Kind.NODE_UNAVAILABLE, Kind.NODE_STOPPED],
            [],
        ),
    ],
)
def test_the_machine_and_its_agent_are_judged_apart(
    looked: Looked, probed: Probed | None, state: str, found: list[Kind], over: list[Kind]
) -> None:
    result = judge_node("kvm-01", looked, probed)
    assert (result.state, kinds(result), list(result.over)) == (state, found, over)
    assert result.is_well == (state in ("ok", "disabled"))


def test_who_stopped_an_agent_is_not_fought() -> None:
    (found,) = judge_node("kvm-01", WELL, Probed(CRITICAL, "stopped", "ended in order")).found
    assert is_on_purpose("kvm-01", f"kvm-01: {found.text}")
    assert found.level is Level.WARNING
    (found,) = judge_node("kvm-01", WELL, Probed(CRITICAL, "crashed", "gone")).found
    assert not is_on_purpose("kvm-01", f"kvm-01: {found.text}")
    assert found.level is Level.ERROR


def test_a_master_is_well_again_only_where_the_panel_hears_of_it() -> None:
    assert judge_master("m", RUNS, reports=True).over == (Kind.MASTER_STOPPED,)
    assert judge_master("m", RUNS, reports=False).over == ()
    assert judge_master("m", Probed(OK, "disabled", ""), reports=False).over == (Kind.MASTER_STOPPED,)
    assert judge_master("m", Probed(UNKNOWN), reports=True) == Result("m", "unknown")


def test_an_ill_master_that_runs_is_told_apart_from_one_that_does_not() -> None:
    (ill,) = judge_master("m", Probed(CRITICAL, "ill", "no worker"), reports=True).found
    assert ill.text == f"{ILL}: no worker"
    (stuck,) = judge_master("m", Probed(CRITICAL, "stuck", "hangs"), reports=False).found
    assert stuck.text == "stuck: hangs"


def test_what_configuring_left_undone_is_told_by_the_problems_text() -> None:
    assert is_unfinished("kvm-01", "not configured: no route")
    assert is_unfinished("kvm-01", "kvm-01: not configured; crashed: gone")
    assert not is_unfinished("kvm-01", "kvm-01: crashed: not configured")


def test_a_node_that_nobody_can_look_at_is_judged_by_its_signs_of_life() -> None:
    assert judge_by_life("kvm-01", "active", "").is_well
    silent = judge_by_life("kvm-01", "silent", "it gives no sign of life")
    assert (silent.state, silent.found, silent.over) == ("silent", (), ())


looks = st.sampled_from([WELL, NO_LIBVIRT, CUT_OFF])
probes = st.builds(
    Probed,
    st.sampled_from([OK, WARNING, CRITICAL, UNKNOWN]),
    st.sampled_from(["", "ok", "ill", "stopped", "crashed", "stuck", "missing", "misconfigured", "disabled"]),
    st.text(max_size=20),
    st.booleans(),
    st.frozensets(st.sampled_from(["libvirt", "inventory_age", "outbox", "master_unreachable"])),
)


@given(looks, probes)
def test_nothing_is_found_and_over_at_once_and_what_was_not_probed_stays(looked: Looked, probed: Probed) -> None:
    result = judge_node("kvm-01", looked, probed)
    assert not set(kinds(result)) & set(result.over)
    if not looked.reachable or probed.timed_out:
        assert Kind.NODE_STOPPED not in {*kinds(result), *result.over}
    if probed.code == CRITICAL and looked is WELL and not probed.timed_out:
        assert Kind.NODE_STOPPED in kinds(result)
