"""The activity check where nothing is to be kept (rule 8)."""

import pytest

from tests.unit.panel.test_activity import UUID, claim, sample
from vmwatch.panel.activity import Activity
from vmwatch.shared.states import State


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_of_a_vm_that_does_not_run_no_samples_are_kept(state: State) -> None:
    activity, known = Activity(), {"a": claim()}
    activity.observe([sample(1), sample(2)], lambda uuid, node: known[node], 0.0)
    assert len(activity) == 1
    known["a"] = claim(state)
    activity.observe([sample(3)], lambda uuid, node: known[node], 0.0)
    assert len(activity) == 0
    activity.forget(UUID, "a")
