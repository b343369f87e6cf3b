"""The panel away for some seconds under load: bounded memory, no lost sign of life, no fresh event behind the backlog.

The short form of `bench/outage`; what it measures is said there.
"""

from bench.figures import Figures
from bench.outage import Plan, measure

SHORT = Plan(seconds=20.0, nodes=6, per_s=300.0, processes=1, before_s=4.0)


def test_an_outage_under_load_ends_with_every_event_registered_once_and_no_node_forgotten() -> None:
    checks = measure(SHORT, Figures())
    assert checks.hold, checks.text()
