"""The solvers that the panel has: what is stopped is configured again (design 04, *Health*)."""

from vmwatch.panel.configurator import Configurator
from vmwatch.panel.problems import Kind, Problem
from vmwatch.panel.solvers import Result, Solver, Solvers, Tell


def add_remedies(solvers: Solvers, configurator: Configurator) -> None:
    """Where nobody else has added one."""

    async def master(problem: Problem, tell: Tell) -> Result:
        report = await configurator.solve_master(lambda part, text: tell(f"{part}: {text}"))
        return Result(report.ok, report.text)

    async def node(problem: Problem, tell: Tell) -> Result:
        report = await configurator.solve_node(problem.object, lambda part, text: tell(f"{part}: {text}"))
        return Result(report.ok, report.text)

    async def removed(problem: Problem, tell: Tell) -> Result:
        part = await configurator.finish_removal(problem.object, lambda part, text: tell(f"{part}: {text}"))
        return Result(part.ok, part.text)

    remedies: dict[Kind, Solver] = {Kind.MASTER_STOPPED: master, Kind.NODE_STOPPED: node, Kind.RETURNED: removed}
    for kind, solver in remedies.items():
        if solvers.of(kind) is None:
            solvers.add(kind, solver)
