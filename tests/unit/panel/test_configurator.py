"""What a run of configuring leaves behind, on a real store; its nodes are at the other end of an SSH that is not."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.panel.reports import event
from tests.unit.panel.test_retention import Keeper
from vmwatch.panel.configurator import Configurator, Order
from vmwatch.panel.problems import Kind
from vmwatch.panel.removal import forget
from vmwatch.panel.store import Host
from vmwatch.panel.writer import Work
from vmwatch.shared.nodectl import Outcome, Request
from vmwatch.shared.paths import Paths

NODE = "kvm-01"
LATE = "it did not answer in time"


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A panel with one node, which is reached over SSH."""
    keeper = Keeper(tmp_path)
    keeper.settle(event(1), node=NODE)

    def reach(work: Work) -> None:
        work.draft.nodes[NODE] = work.known.nodes[NODE]
        work.writes.append(lambda recorder: recorder.save_host(replace(work.hosts[NODE], reach="ssh")))

    keeper.run(lambda: keeper.writer.do(reach))
    yield keeper
    keeper.writer.stop(10)
    keeper.store.close()


def test_a_node_is_stopped_by_its_name(keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine may be another node by now."""
    configurator, asked = Configurator(keeper.panel, Paths.of("vmwatch-panel", str(tmp_path))), []

    async def ask(host: Host, request: Request, say: Callable[[str], None], limit_s: float) -> Outcome:
        asked.append(request)
        return Outcome(True, "it is stopped")

    monkeypatch.setattr(configurator.reach, "ask", ask)
    keeper.run(lambda: configurator.stop(keeper.panel.writer.hosts[NODE], lambda part, line: None))
    assert asked == [Request("stop", {"node_id": NODE})]


@pytest.mark.parametrize("removed", [False, True])
def test_a_node_that_is_removed_while_it_is_configured_has_no_problem(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    configurator = Configurator(keeper.panel, Paths.of("vmwatch-panel", str(tmp_path)))

    async def ask(host: Host, request: Request, say: Callable[[str], None], limit_s: float) -> Outcome:
        if removed:
            await keeper.writer.do(lambda work: forget(work, host.name))
        return Outcome(False, LATE)

    monkeypatch.setattr(configurator.reach, "ask", ask)
    report = keeper.run(lambda: configurator.configure(Order(), lambda part, line: None))
    assert LATE in report.parts[-1].text
    found = [one.object for one in keeper.panel.board.problems() if one.type == Kind.NODE_STOPPED and one.is_open]
    assert found == ([] if removed else [NODE])
