"""The panel's picture of the VMs beside the truth."""

from collections.abc import Mapping

from tests.testbed.stack import Panel
from tests.testbed.waiting import wait_until

RIGHT_LIMIT_S = 60
EXAMPLES = 5

Seen = tuple[str, str, str]
"""Node, name (empty: not known), state."""


def truth_of_listing(node: str, listing: Mapping[str, tuple[str, str]]) -> dict[str, Seen]:
    """From libvirt's own list, (name, state) by UUID."""
    return {uuid: (node, name, state) for uuid, (name, state) in listing.items()}


def truth_of_states(node: str, states: Mapping[str, str]) -> dict[str, Seen]:
    """From states by UUID."""
    return {uuid: (node, "", state) for uuid, state in states.items()}


def differences(panel: Panel, truth: Mapping[str, Seen]) -> list[str]:
    """What the panel's function `vm` says otherwise, a sentence for each VM."""
    rows = panel.vms()
    found = []
    for uuid in sorted(truth.keys() | rows.keys()):
        row = rows.get(uuid)
        node, name, state = truth.get(uuid, ("", "", "gone"))
        shown = (row["hostnode"], row["name"] if name else "", row["vmstatus"]) if row else ("", "", "gone")
        if shown != (node, name, state):
            found.append(f"wrong at the end: {uuid}: the panel says {shown}, and the truth is {(node, name, state)}")
    return found


def wait_right(panel: Panel, truth: Mapping[str, Seen]) -> list[str]:
    """Wait until the panel says the truth; the differences that stay."""
    try:
        wait_until(lambda: not differences(panel, truth), "the picture to be right", RIGHT_LIMIT_S)
    except AssertionError:
        return differences(panel, truth)
    return []
