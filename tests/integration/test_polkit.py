"""Who may monitor libvirt: with a real polkitd and libvirtd's own policy, as Debian has them, and with our rule."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.testbed.daemon import can_mask, find_program, needed_programs
from tests.testbed.ownusers import ROOT, enter, lacking, within
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.cli.kept import Kept

POLKITD = Path("/usr/lib/polkit-1/polkitd")
RULE = ROOT / "packaging" / "polkit" / "60-vmwatch.rules"
NARROW = """
polkit.addRule(function (action, subject) {
    if (action.id == "org.libvirt.unix.monitor") { return polkit.Result.NO; }
});
"""
RULES = Path("etc/polkit-1/rules.d")
AGENT, STRANGER = "vmwatch-node", "nobody"

pytestmark = [
    pytest.mark.skipif(not can_mask(), reason="needs root and mount namespaces"),
    pytest.mark.skipif(
        bool(lacking() or needed_programs("libvirtd", "virsh", "dbus-daemon", str(POLKITD))),
        reason="needs libvirtd, virsh, dbus-daemon, polkitd, sudo (make setup)",
    ),
]


class Guarded(TestDriverDaemon):
    """Its read-only socket asks polkit, as libvirtd's does where nobody has changed that."""

    __test__ = False

    def _new_keeper(self) -> Kept:
        made = super()._new_keeper()
        conf = self.folder / "libvirtd.conf"
        conf.write_text(conf.read_text().replace('= "none"', '= "polkit"'))
        return made


class Bus:
    """A system bus with polkitd on it, and a libvirtd, in a mount namespace with users and rules of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        (folder / "prefix").mkdir()
        self._holder = Kept(
            [*enter(folder, folder / "prefix", "node"), "sleep", "infinity"], log=folder / "holder.log"
        )
        stack.callback(self._holder.close)
        self.pid = self._holder.start()
        self.root = Path(f"/proc/{self.pid}/root")
        wait_until(lambda: Path(f"/proc/{self.pid}/comm").read_text().strip() == "sleep", "the users to be made")
        (self.root / "run" / "dbus").mkdir()
        stack.callback(self._run(find_program("dbus-daemon") or "", "--system", "--nofork", "--nopidfile"))
        wait_until((self.root / "run" / "dbus" / "system_bus_socket").exists, "the bus to be there")
        self._polkitd = self._run(str(POLKITD), "--no-debug")
        stack.callback(lambda: self._polkitd())
        self.daemon = Guarded(folder / "libvirt", domains=("web",))
        stack.callback(self.daemon.close)
        self.daemon.prefix = ("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--")  # type: ignore[misc]
        self.daemon.start()

    def rules(self, **texts: str) -> None:
        """These and no others are in force; polkitd is started again, for certain."""
        folder = self.root / RULES
        for path in folder.glob("*.rules"):
            path.unlink()
        for name, text in texts.items():
            (folder / f"{name.replace('_', '-')}.rules").write_text(text)
        self._polkitd()
        self._polkitd = self._run(str(POLKITD), "--no-debug")

    def lists(self, user: str, *, readonly: bool = True) -> str:
        """What `virsh list` says to this user; empty if it lists."""
        address = self.daemon.uri_readonly if readonly else self.daemon.uri
        words = ["virsh", *(["-r"] if readonly else []), "-c", address, "list", "--all"]
        done = within(self.pid, *words, user=user)
        return "" if done.returncode == 0 and "web" in done.stdout else done.stderr

    def _run(self, *words: str) -> Callable[[], None]:
        """Start it there; what is returned ends it."""
        process = subprocess.Popen(
            ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def end() -> None:
            process.kill()
            process.wait()

        return end


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with ExitStack() as stack:
        yield Bus(tmp_path_factory.mktemp("polkit"), stack)


def test_the_distributions_default_lets_everybody_monitor_and_nobody_manage(bus: Bus) -> None:
    bus.rules()
    assert wait_until(lambda: not bus.lists(AGENT), "the agent to be let in")
    assert not bus.lists(STRANGER)
    assert "authentication" in bus.lists(AGENT, readonly=False)


def test_our_rule_lets_the_agent_in_where_an_administrator_has_narrowed_that(bus: Bus) -> None:
    bus.rules(**{"90_narrow": NARROW})
    wait_until(lambda: "authentication" in bus.lists(STRANGER), "polkitd to be back")
    assert "authentication" in bus.lists(AGENT)
    bus.rules(**{"60_vmwatch": RULE.read_text(), "90_narrow": NARROW})
    assert wait_until(lambda: not bus.lists(AGENT), "the agent to be let in")
    assert "authentication" in bus.lists(STRANGER)
    assert "authentication" in bus.lists(AGENT, readonly=False)
