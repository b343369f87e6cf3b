"""A short run of `bench/truth`: the picture beside libvirt's own word while everything that can fail does."""

import shutil
from collections.abc import Iterator

import pytest

from bench.figures import Figures
from bench.veracity.observers import CONTENDERS, FORWARDER, OURS, POLLER
from bench.veracity.outcome import Outcome
from bench.veracity.run import Run
from bench.veracity.script import NODES, Course, Deed
from tests.testbed.qemu import needs_root
from tests.testbed.stack import short_folder

pytestmark = needs_root()

SHORT = Course(seconds=30.0, seed=24, many=15, real=4, storm=True, real_change_every_s=120.0)
TIMEOUT_S = 900
"""Three quarters of a minute on a machine of its own; whoever shares one must not fail for that."""


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    folder = short_folder()
    folder.mkdir()
    try:
        yield Run(folder, SHORT).outcome()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(TIMEOUT_S)
def test_the_picture_calls_no_vm_stopped_that_runs_and_is_right_in_the_end(outcome: Outcome) -> None:
    assert outcome.troubles == []
    assert outcome.reckonings[OURS].false_stops == []
    assert outcome.wrong_at_end == 0


@pytest.mark.timeout(TIMEOUT_S)
def test_the_run_was_what_it_claims_to_be(outcome: Outcome) -> None:
    faults = {Deed.LIBVIRTD, Deed.PARTITION, Deed.AGENT, Deed.MASTER}
    assert faults <= outcome.done.keys()
    assert {"start", "migrate"} <= outcome.done.keys()
    assert outcome.samples.keys() == {*CONTENDERS, *NODES}
    assert min(outcome.samples.values()) > 5
    assert all(found.judged_s > SHORT.seconds for found in outcome.reckonings.values())


@pytest.mark.timeout(TIMEOUT_S)
def test_the_rivals_in_the_same_run_are_seen_to_be_wrong(outcome: Outcome) -> None:
    for rival in (FORWARDER, POLLER):
        assert outcome.reckonings[rival].wrong_least > 0
        assert outcome.reckonings[rival].longest is not None


@pytest.mark.timeout(TIMEOUT_S)
def test_what_is_printed_and_written_names_the_goals(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures()
    outcome.tell(figures)
    written = outcome.as_json(figures)
    assert set(written["goals"]) == {"vmwatch_false_stops", "wrong_at_end"}
    assert written["figures"]["ratio"]["value"] == outcome.ratio
    assert all(written["figures"][f"{name}_wrong_most"]["value"] >= 0 for name in CONTENDERS)
    assert "false stops" in capsys.readouterr().out
