"""`policy`: the cluster's policies."""

from vmwatch.panel.convention import Done, Form, Listing
from vmwatch.panel.functions import OPERATORS, VIEWERS, Call, Function
from vmwatch.panel.paging import Page
from vmwatch.panel.policies import SETTINGS, changes_of, values_of
from vmwatch.panel.writer import Work


async def policies(call: Call) -> Listing:
    """All policies: name, value, and what it means."""
    values = values_of(call.panel.board.policies)
    rows = [{"id": s.name, "name": s.name, "value": values[s.name], "meaning": s.meaning} for s in SETTINGS]
    return Page.of(call.params).cut(rows)


async def edit(call: Call) -> Form | Done:
    """Each policy is a parameter of its name; those that are not given stay. `sok=ok` performs it."""
    changes = changes_of(call.params)
    if not call.params.sok:
        return Form(values_of(call.panel.board.policies) | changes)

    def job(work: Work) -> None:
        work.writes.append(lambda recorder: recorder.save_policies(changes))

    await call.panel.writer.do(job)
    return Done(changes)


FUNCTIONS = (
    Function("policy", policies, VIEWERS),
    Function("policy.edit", edit, OPERATORS, changes=True),
)
