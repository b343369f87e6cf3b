"""The agent needs no privileges: as `nobody`, in no group, over a read-only connection, it tells all that happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import Stack
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

NOBODY = 65534

pytestmark = [needs_libvirtd(), pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")]

BECOME_NOBODY_AND_RUN = f"""
import codecs, os, sys
# Before the change: the interpreter may lie where only root reads.
import vmwatch.node.main
codecs.lookup("ascii"), codecs.lookup("idna")
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(vmwatch.node.main.main())
"""


def give_to_nobody(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


def test_an_agent_without_privileges_sees_events_lists_and_statistics(stack: Stack, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt", domains=("web",)) as daemon:
        node = stack.node("n", daemon.uri, stats_interval="1")
        give_to_nobody(node.prefix)
        command = [sys.executable, "-c", BECOME_NOBODY_AND_RUN, "--prefix", str(node.prefix)]
        with node.output.open("ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            stack.wait_listening(node)
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
            daemon.connection.lookupByName("web").create()
            uuid = daemon.uuid_of("web")

            def registered() -> list[str]:
                return [row["event"] for row in stack.panel.events(uuid=uuid)]

            wait_until(lambda: registered() == ["started"], "the event to be registered")
            wait_until(lambda: stack.panel.rows("vmstat", elid=uuid), "a sample to be registered")
        finally:
            process.terminate()
            assert process.wait(30) == 0, node.log
