"""The panel's database saved while it runs, and put back later, as docs/deployment.md says."""

import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.test_kills import assert_each_once_and_in_order
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import Stack
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = needs_libvirtd()

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"


def save(database: Path, into: Path) -> None:
    """By the commands of the page, with these two paths in the place of its own."""
    (script,) = re.findall(r"<<'END'\n(import sqlite3\n.*?)END\n", PAGE.read_text(), re.DOTALL)
    assert script.count('connect("/usr/local/mgr5/var/vmwatch-panel.db")') == 1
    script = script.replace("/usr/local/mgr5/var/vmwatch-panel.db", str(database))
    script = script.replace("/root/vmwatch-panel.db", str(into))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def states(stack: Stack) -> dict[str, str]:
    """The picture, by the VM's name."""
    return {row["name"]: row["vmstatus"] for row in stack.panel.vms().values()}


def starts(stack: Stack, name: str) -> int:
    return sum(row["name"] == name and row["event"] == "started" for row in stack.panel.events())


def test_a_restored_panel_shows_the_truth_and_registers_what_comes_after_it_once(stack: Stack, tmp_path: Path) -> None:
    database, saved = stack.prefix / "var" / "vmwatch-panel.db", tmp_path / "saved.db"
    with TestDriverDaemon(tmp_path / "libvirt", domains=("web", "db")) as daemon:
        web, db = (daemon.connection.lookupByName(name) for name in ("web", "db"))
        stack.start_node("kvm-01", daemon.uri)
        web.create()
        # A listing may show it before its event has come.
        wait_until(lambda: states(stack).get("web") == "running" and starts(stack, "web") == 1, "the start")
        save(database, saved)
        db.create()
        web.destroy()
        wait_until(lambda: states(stack).get("db") == "running", "what the backup does not have")
        stack.panel.terminate()
        database.write_bytes(saved.read_bytes())
        for name in ("-wal", "-shm"):
            database.with_name(database.name + name).unlink(missing_ok=True)
        stack.panel.start()
        wait_until(lambda: states(stack) == {"web": "shutoff", "db": "running"}, "the picture to be right again")
        web.create()
        wait_until(lambda: starts(stack, "web") == 2, "the next event")
        assert starts(stack, "db") == 0  # it is gone with the backup, as the page says
        assert_each_once_and_in_order(stack.panel.events())
