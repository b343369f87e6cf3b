"""The activity check through the panel's API, its database and the operator's command."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.test_panel_api import VIEWER, error_of, post, set_user, settle
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, Panel, plain
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import EPOCH, NODE, Message, entry, inventory, stats, uuid_of
from vmwatch.shared.exits import Exit

DEFAULTS = {"check_vm_activity": "off", "activity_window": "0", "activity_min_running": "0", "activity_exempt": ""}
FIRST_S = 2000.0
INTERVAL_S = 600.0


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Panel]:
    with Panel(tmp_path) as panel:
        yield panel


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    """For tests after which all policies are what they were."""
    panel = Panel(tmp_path_factory.mktemp("panel"))
    set_user(panel, *VIEWER, "viewer")
    with panel:
        yield panel


def samples(*counts: tuple[int, int], first_seq: int = 2, name: str = "web") -> list[Message]:
    """One after the other, an interval apart; the first at `FIRST_S`."""
    return [
        stats(seq, name, taken=FIRST_S + INTERVAL_S * (seq - 2), tx_packets=sent, write_requests=written)
        for seq, (sent, written) in enumerate(counts, first_seq)
    ]


def warnings(panel: Panel, name: str = "web") -> str:
    return panel.vms()[uuid_of(name)]["warnings"]


def policies(panel: Panel) -> dict[str, str]:
    return {row["name"]: row["value"] for row in panel.rows("policy")}


def vmwatch(panel: Panel, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VMWATCH_URL": panel.url, "VMWATCH_PASSWORD": ADMIN[1]}
    return subprocess.run(
        [command("vmwatch"), *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_an_idle_vm_is_warned_of_in_the_list_as_long_as_the_policy_is_on(panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="running", mail="running"), *samples((5, 5), (5, 6))))
    assert panel.rows("vm", warnings="on") == []
    panel.change("policy.edit", check_vm_activity="on")
    assert warnings(panel).startswith("tx_packets since 1970-01-01T")
    assert [row["name"] for row in panel.rows("vm", warnings="on")] == ["web"]
    settle(panel, entry(*samples((6, 7), first_seq=4)))
    assert warnings(panel) == ""
    settle(panel, entry(*samples((6, 7), first_seq=5)))
    assert [part.split()[0] for part in warnings(panel).split(", ")] == ["tx_packets", "write_requests"]
    panel.change("policy.edit", activity_exempt=uuid_of("web").upper())
    assert warnings(panel) == ""
    panel.change("policy.edit", activity_exempt="", check_vm_activity="off")
    assert warnings(panel) == ""


def test_after_a_restart_the_panel_warns_as_before_and_goes_on_with_the_next_sample(panel: Panel) -> None:
    panel.change("policy.edit", check_vm_activity="on", activity_exempt="mail")
    settle(panel, entry(inventory(1, 0, web="running"), *samples((4, 4), (5, 5), (5, 5), (5, 5))))
    before = warnings(panel)
    assert before
    panel.kill()
    panel.start()
    wait_until(lambda: uuid_of("web") in panel.vms(), "the panel to answer again")
    assert warnings(panel) == before
    assert policies(panel) == DEFAULTS | {"check_vm_activity": "on", "activity_exempt": "mail"}
    settle(panel, entry(*samples((5, 6), first_seq=6)))
    assert warnings(panel) == before.split(", ")[0]


def test_a_report_that_comes_twice_changes_no_warning(panel: Panel) -> None:
    panel.change("policy.edit", check_vm_activity="on")
    body = entry(inventory(1, 0, web="running"), *samples((5, 5), (5, 5)))
    settle(panel, body)
    before = warnings(panel)
    verdict = settle(panel, body)[0]
    assert (verdict.applied, verdict.known) == (0, 3)
    assert warnings(panel) == before != ""


def test_a_new_epoch_of_the_agent_and_another_node_do_not_disturb_a_warning(panel: Panel) -> None:
    panel.change("policy.edit", check_vm_activity="on")
    settle(panel, entry(inventory(1, 0, web="running"), *samples((5, 5), (5, 5))))
    before = warnings(panel)
    settle(panel, entry(*samples((9, 9), (10, 10)), node="kvm-02"))
    assert warnings(panel) == before
    settle(panel, entry(inventory(1, 0, web="running"), *samples((5, 5), first_seq=4), epoch=EPOCH + 1))
    assert warnings(panel) == before


def test_a_warning_goes_away_when_the_node_sends_no_more_statistics(panel: Panel) -> None:
    panel.change("policy.edit", check_vm_activity="on")
    settle(panel, entry(inventory(1, 0, web="running")))
    settle(panel, entry(*(stats(seq, tx_packets=5, taken=1000.0 + seq) | {"interval": 1} for seq in (2, 3))))
    assert warnings(panel)

    def is_gone() -> bool:
        settle(panel, entry())  # signs of life alone, as they come every few seconds
        return warnings(panel) == ""

    wait_until(is_gone, "the warning to go away")


def test_a_node_that_is_deleted_takes_its_warnings_along(panel: Panel) -> None:
    panel.change("policy.edit", check_vm_activity="on")
    settle(panel, entry(inventory(1, 0, web="running"), *samples((5, 5), (5, 5))))
    assert warnings(panel)
    panel.change("vmhostnode.delete", elid=NODE)
    assert panel.rows("vm", warnings="on") == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("check_vm_activity", "yes", "one of on, off"),
        ("check_vm_activity", "", "is missing"),
        ("activity_window", "-1", "from 0 to 604800"),
        ("activity_window", "ten", "from 0 to 604800"),
        ("activity_min_running", "604801", "from 0 to 604800"),
        ("activity_exempt", "x" * 20_001, "20000 characters"),
    ],
)
def test_a_wrong_value_names_the_policy_and_what_is_allowed(untouched: Panel, name: str, value: str, said: str) -> None:
    doc = untouched.change("policy.edit", **{"activity_window": "60", name: value})
    assert error_of(doc) == ("value", name)
    assert said in doc["error"]["msg"]["$"]
    assert policies(untouched) == DEFAULTS, "nothing of a wrong call is done"


def test_a_viewer_sees_the_policies_and_may_not_change_them(untouched: Panel) -> None:
    answer = requests.get(untouched.url, params={"func": "policy", "out": "json"}, auth=VIEWER, timeout=60)
    rows: list[dict[str, Any]] = answer.json()["doc"]["elem"]
    assert {plain(row)["name"] for row in rows} == set(DEFAULTS)
    assert all(plain(row)["meaning"] for row in rows)
    doc = post(untouched, "policy.edit", auth=VIEWER, sok="ok", check_vm_activity="on")
    assert error_of(doc) == ("access", "policy.edit")


def test_without_sok_the_form_is_shown_and_nothing_changes(untouched: Panel) -> None:
    doc = post(untouched, "policy.edit", check_vm_activity="on")
    assert {name: doc[name]["$"] for name in DEFAULTS} == DEFAULTS | {"check_vm_activity": "on"}
    assert policies(untouched) == DEFAULTS


def test_the_operators_command_shows_and_sets_policies(panel: Panel) -> None:
    done = vmwatch(panel, "policy", "check_vm_activity=on", "activity_exempt=a, b=c")
    assert done.returncode == Exit.OK, done.stderr
    shown = {row.split("\t")[0]: row.split("\t")[1] for row in done.stdout.splitlines()}
    assert shown == DEFAULTS | {"check_vm_activity": "on", "activity_exempt": "a, b=c"}
    wrong_ones = (("check_vm_activity", "NAME=VALUE"), ("speed=9", "no policy speed"), ("activity_window=x", "whole"))
    for wrong, said in wrong_ones:
        failed = vmwatch(panel, "policy", wrong)
        assert failed.returncode == Exit.FAILURE
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr
    settle(panel, entry(inventory(1, 0, web="running", mail="running"), *samples((5, 5), (5, 5))))
    listed = vmwatch(panel, "vms", "--warnings").stdout.splitlines()
    assert [row.split("\t")[1] for row in listed] == ["web"]
    assert "tx_packets since" in listed[0]
