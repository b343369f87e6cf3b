"""One node for each machine."""

import pytest

from vmwatch.panel.onemachine import node_there
from vmwatch.panel.store import Host

HERE = Host(1, "kvm-01", reach="local")
THERE = Host(2, "kvm-02", reach="ssh", ssh="root@192.0.2.7:2222")
PLAIN = Host(3, "kvm-03", "192.0.2.8", "ssh")
BY_HAND = Host(4, "kvm-04", "192.0.2.9", "manual")
NODES = (HERE, THERE, PLAIN, BY_HAND)


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (Host(0, "new", reach="local"), HERE),
        (Host(0, "new", reach="ssh", ssh="root@192.0.2.7:2222"), THERE),
        (Host(0, "new", reach="ssh", ssh="vmwatch@192.0.2.7:2222"), THERE),
        (Host(0, "new", reach="ssh", ssh="192.0.2.8"), PLAIN),
        (Host(0, "new", "192.0.2.8", "ssh"), PLAIN),
        (Host(0, "new", reach="ssh", ssh="root@192.0.2.7"), None),
        (Host(0, "new", "192.0.2.9", "manual"), None),
        (Host(0, "new", "192.0.2.9"), None),
        (Host(0, "new", reach="ssh"), None),
    ],
)
def test_a_machine_that_is_a_node_already_is_found_by_the_way_to_it(wanted: Host, there: Host | None) -> None:
    assert node_there(NODES, wanted) is there


def test_a_node_is_not_in_its_own_way_and_a_removed_one_in_nobodys() -> None:
    assert node_there(NODES, HERE) is None
    assert node_there([Host(1, "kvm-01", reach="local", hidden=True)], Host(0, "new", reach="local")) is None
