"""The promise under every fault, simulated: registered exactly once, in order per VM, and the picture is the truth."""

import os

from tests.simulation.cluster import Cluster
from tests.simulation.seeds import Broken, run, run_side_by_side, shrink
from tests.simulation.storm import drawn

SEEDS = int(os.environ.get("VMWATCH_SEEDS", "10000"))


def test_every_message_is_registered_once_and_the_picture_is_true_whatever_fails() -> None:
    found = [broken for _, chunk in run_side_by_side(range(SEEDS)) for broken in chunk]
    assert not found, "\n".join(str(shrink(broken)) for broken in found[:3])


def test_a_seed_replays_exactly() -> None:
    def story(seed: int) -> tuple[int, list[object]]:
        cluster = Cluster(drawn(seed))
        cluster.run()
        return cluster.world.steps, list(cluster.panel.registered)

    assert story(7) == story(7)


def test_a_broken_promise_prints_the_command_that_replays_it() -> None:
    broken = Broken(3, "lost: 1", ("strike0", "lose"))
    assert str(broken).endswith("python -m tests.simulation 3 --without strike0,lose")


def test_a_part_of_a_storm_that_is_left_out_leaves_the_others_as_they_are() -> None:
    whole = drawn(3)
    part = drawn(3, ["strike0"])
    assert part.strikes == whole.strikes[1:]
    assert (part.nodes, part.weather) == (whole.nodes, whole.weather)
    assert run(3, ["strike0"]) is None
