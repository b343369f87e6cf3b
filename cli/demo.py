"""`vmwatch demo`: a panel, a master, a node and some VMs on this machine, below one folder, until Ctrl-C."""

import contextlib
import os
import select
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vmwatch.cli.client import PanelClient, PanelError
from vmwatch.cli.demo_domains import VMS
from vmwatch.cli.demo_folder import LOOPBACK, Access, DemoError, DemoFolder, new_access
from vmwatch.cli.demo_libvirt import OwnLibvirt, VisitorsLibvirt
from vmwatch.cli.demo_supervisord import Program, Supervisord, programs_path
from vmwatch.cli.follow import EventTail
from vmwatch.cli.ports import Ports
from vmwatch.cli.table import event_line, plain
from vmwatch.shared.exits import Exit
from vmwatch.shared.messages import DEFAULT_PORT
from vmwatch.shared.signals import Signals
from vmwatch.shared.statussocket import read_status

PANEL_PORT = 1500
START_LIMIT_S = 90.0
STOP_LIMIT_S = 40.0
ACCOUNT_LIMIT_S = 60.0
POLL_S = 0.1
CALL_LIMIT_S = 5.0


class Stopped(Exception):
    """The visitor wants to stop: Ctrl-C, SIGTERM, or whoever read our output is gone (the terminal, `| head`)."""


def run(libvirt_uri: str, folder: Path | None, keep: bool, out: Console) -> int:
    """The demo; returns its exit code. Raises VmwatchError if it cannot be started."""
    signals = Signals()
    signals.install()
    place = DemoFolder.make(folder, keep)
    try:
        Demo(place, VisitorsLibvirt(libvirt_uri) if libvirt_uri else OwnLibvirt(place), signals, out).run()
    except Stopped:
        pass
    finally:
        place.remove()
    return Exit.OK


class Demo:
    """One run, from the first process to the last."""

    def __init__(
        self, folder: DemoFolder, libvirt: OwnLibvirt | VisitorsLibvirt, signals: Signals, out: Console
    ) -> None:
        self._folder = folder
        self._libvirt = libvirt
        self._signals = signals
        self._out = out

    def run(self) -> None:
        """Start everything, tell the visitor, print events; ends with Stopped, or DemoError if a part fails."""
        self._say(f"vmwatch demo: everything is below {self._folder.path}")
        programs = self._libvirt.programs()
        with Ports() as ports:
            self._run(programs, self._choose_access(ports))

    def _run(self, programs: list[Program], access: Access) -> None:
        self._folder.write_services(access, self._libvirt.node_id, self._libvirt.uri)
        services = Supervisord(self._folder, programs)
        try:
            for name, role, password in (
                (access.admin, "admin", access.admin_password),
                (access.service, "service", access.service_password),
            ):
                self._set_account(name, role, password)
            client = PanelClient(access.url, access.admin, access.admin_password, timeout_s=CALL_LIMIT_S)
            self._pause(0)  # has the visitor had enough already?
            services.start()
            self._wait_until_up(services, client, programs)
            self._introduce(access)
            self._show_events(services, client)
        finally:
            self._end(services)

    def _choose_access(self, ports: Ports) -> Access:
        panel, master = ports.choose(LOOPBACK, PANEL_PORT), ports.choose(LOOPBACK, DEFAULT_PORT, 2)
        if panel != PANEL_PORT:
            self._say(f"Port {PANEL_PORT} is taken: the panel uses {panel}.")
        if master != DEFAULT_PORT:
            taken = f"{DEFAULT_PORT} or {DEFAULT_PORT + 1}"
            self._say(f"Port {taken} is taken: the master uses {master} and {master + 1}.")
        return new_access(panel, master)

    def _set_account(self, name: str, role: str, password: str) -> None:
        command = ["vmwatch-panel", "--prefix", str(self._folder.path), "user", "set", name, "--role", role]
        try:
            made = subprocess.run(
                command,
                input=f"{password}\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=ACCOUNT_LIMIT_S,
                env={**os.environ, "PATH": programs_path()},
                start_new_session=True,  # Ctrl-C is for us
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DemoError(f"vmwatch-panel could not make its accounts: {error}") from None
        if made.returncode != 0:
            raise DemoError(f"vmwatch-panel could not make its accounts:\n{made.stdout}")

    def _wait_until_up(self, services: Supervisord, client: PanelClient, programs: list[Program]) -> None:
        """Wait until the chain has delivered: what libvirt says has come to the panel."""
        names = ", ".join([program.name for program in programs] + ["panel", "master", "node"])
        self._say(f"Starting {names} ...")
        is_up = self._vms_arrived if programs else self._node_speaks
        deadline = time.monotonic() + START_LIMIT_S
        while not is_up(client):
            if not services.is_running:
                raise DemoError(f"supervisord has ended:\n{services.told_by('supervisord')}")
            if failed := services.failed():
                said = (f"{name} has failed ({why}):\n{services.told_by(name)}" for name, why in failed.items())
                raise DemoError("\n".join(said))
            if time.monotonic() > deadline:
                told = "\n".join(f"  {name}:\n{services.told_by(name)}" for name in services.names)
                raise DemoError(f"not up after {START_LIMIT_S:g} s. What the programs say:\n{told}")
            self._pause(POLL_S)

    def _vms_arrived(self, client: PanelClient) -> bool:
        try:
            states = {row.get("name"): row.get("vmstatus") for row in client.all_rows("vm")}
        except PanelError:
            return False
        return all(states.get(vm.name) == vm.state for vm in VMS)

    def _node_speaks(self, client: PanelClient) -> bool:
        """The panel answers, the master has heard the node, and the node knows whether its libvirt answers."""
        try:
            client.rows("vm", p_cnt=1)
            master = read_status(self._folder.run / "vmwatch-master.sock")
        except (PanelError, OSError, ValueError):
            return False
        node = master.get("nodes", {}).get(self._libvirt.node_id, {})
        libvirt = self._node_libvirt()
        return bool(node.get("alive") and (libvirt.get("connected") or libvirt.get("open_failures")))

    def _node_libvirt(self) -> dict[str, object]:
        """What the node says about its libvirt; empty while it says nothing."""
        try:
            libvirt = read_status(self._folder.run / "vmwatch-node.sock").get("libvirt", {})
        except (OSError, ValueError):
            return {}
        return libvirt if isinstance(libvirt, dict) else {}

    def _introduce(self, access: Access) -> None:
        self._say(f"\n  page      {access.url}\n  account   {access.admin}\n  password  {access.admin_password}\n")
        if isinstance(self._libvirt, OwnLibvirt):
            self._say(f"It watches {len(VMS)} VMs of libvirt's test driver. Try in another terminal:\n")
            for command in ("destroy web-1", "start archive-1", "resume staging-1"):
                self._say(f"  virsh -c '{self._libvirt.uri}' {command}")
            self._say("\nand, because nothing gets lost when a part dies, kill the master in between:\n")
            self._say(f"  kill -9 $(cat {self._folder.run / 'vmwatch-master.pid'})\n")
        else:
            self._introduce_visitors()
        self._say("Each event is printed when the panel has registered it. Ctrl-C ends the demo.\n")

    def _introduce_visitors(self) -> None:
        libvirt, uri = self._node_libvirt(), self._libvirt.uri
        if libvirt.get("connected"):
            self._say(f"It watches the VMs of {uri}, read-only: it changes nothing there.\n")
            return
        self._say(f"It will watch the VMs of {uri}, read-only. Nobody answers there yet:")
        self._say(f"  {plain(str(libvirt.get('last_error', '')))}")
        self._say("The node waits for it, and tries again by itself.\n")

    def _show_events(self, services: Supervisord, client: PanelClient) -> None:
        newest = client.newest_events(1)
        tail = EventTail(client, int(newest[-1]["id"]) if newest else 0)
        while True:
            self._pause(tail.wait_s)
            rows = tail.poll()
            if tail.notice:
                self._say(tail.notice)
            for row in rows:
                self._say(event_line(row))
            if not services.is_running:
                raise DemoError(f"supervisord has ended:\n{services.told_by('supervisord')}")

    def _end(self, services: Supervisord) -> None:
        """In order if that is quick, else, or when asked a second time, at once."""
        try:
            with contextlib.suppress(Stopped):
                self._say("\nStopping ...")
            asked = self._signals.stop_requests + self._signals.reload_requests
            services.stop(STOP_LIMIT_S, lambda: self._signals.stop_requests + self._signals.reload_requests > asked)
        finally:
            services.close()
        gone = "Nothing is left." if self._folder.is_temporary else f"Its files are in {self._folder.path}."
        with contextlib.suppress(Stopped):
            self._say(f"Stopped. {gone}")

    def _pause(self, seconds: float) -> None:
        """Wait, or raise Stopped as soon as a signal says so."""
        select.select([self._signals.wakeup_fd], [], [], seconds)
        self._signals.drain()
        # Nobody's configuration is to be read again: SIGHUP comes from the closed terminal.
        if self._signals.stop_requests or self._signals.reload_requests:
            raise Stopped

    def _say(self, text: str | Text) -> None:
        try:
            self._out.print(text, soft_wrap=True)  # addresses and commands stay whole, for copying
            self._out.file.flush()
        except (OSError, SystemExit):  # SystemExit is what rich makes of a broken pipe
            raise Stopped from None
