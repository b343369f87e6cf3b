"""Maintenance in the panel's core: begun, prolonged, ended by a person or by time, whatever drafts nest."""

from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.maintenance import Maintenance, begin, end, end_due


def of(subject: str, until: float, began: float = 0.0) -> Maintenance:
    return Maintenance(subject, began, until, "op")


def commit(known: Known, *steps: Maintenance | str) -> Draft:
    draft = Draft(known)
    for step in steps:
        inner = Draft(draft)
        if isinstance(step, str):
            end(inner, step)
        else:
            begin(inner, step)
        inner.merge()
    draft.merge()
    return draft


def test_it_is_known_after_the_commit_and_must_be_written() -> None:
    known = Known("run")
    draft = commit(known, of("kvm-01", 50.0))
    assert draft.durable
    assert known.maintenance == {"kvm-01": of("kvm-01", 50.0)}


def test_one_that_is_prolonged_began_when_it_began() -> None:
    known = Known("run")
    commit(known, of("kvm-01", 50.0, began=10.0))
    commit(known, of("kvm-01", 90.0, began=40.0))
    assert known.maintenance["kvm-01"] == of("kvm-01", 90.0, began=10.0)


def test_one_that_is_begun_and_ended_in_one_transaction_leaves_nothing() -> None:
    known = Known("run")
    commit(known, of("kvm-01", 50.0), "kvm-01")
    assert known.maintenance == {}


def test_the_end_of_what_was_not_begun_is_nothing_to_write() -> None:
    draft = Draft(Known("run"))
    assert not end(draft, "kvm-01")
    assert not draft.durable


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 100)), st.floats(0, 100))
def test_time_ends_all_that_is_over_and_nothing_else(untils: dict[str, float], now: float) -> None:
    known = Known("run")
    commit(known, *(of(name, until) for name, until in untils.items()))
    draft = Draft(known)
    due = end_due(draft, now)
    draft.merge()
    assert set(due) == {name for name, until in untils.items() if until <= now}
    assert known.maintenance.keys() == untils.keys() - set(due)
    assert draft.durable == bool(due)
