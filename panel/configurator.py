"""`vmwatch.configure` (design 04): decides with `configureplan`, and has it done on the master's host and on the nodes.

`configure`, `solve_master` and `solve_node` are what a call, a problem's solver and a node that was added lead to; they
may be called at any time, one works at a time, and each tells its progress.
"""

import asyncio
import logging
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from vmwatch.panel.accounts import Accounts
from vmwatch.panel.checkup import NOT_CONFIGURED, is_on_purpose
from vmwatch.panel.configureaddress import Found, Place, find_address
from vmwatch.panel.configuredrift import drifted
from vmwatch.panel.configuremaster import set_up
from vmwatch.panel.configurepanel import panel_values
from vmwatch.panel.configureplan import Plan, Values, Wish, files_of, make_plan, new_secret
from vmwatch.panel.configurereport import MASTER, Part, Report, Say, port_advice
from vmwatch.panel.configureruns import Run, Runs
from vmwatch.panel.daemonthread import in_thread
from vmwatch.panel.functions import Panel
from vmwatch.panel.interfaces import interfaces, resolved
from vmwatch.panel.nodereach import NodeReach
from vmwatch.panel.problems import Kind, Level, close_problem, raise_problem
from vmwatch.panel.removal import finish_removal
from vmwatch.panel.removed import TOLD, returned
from vmwatch.panel.ssh import SshError, Target
from vmwatch.panel.store import Host
from vmwatch.panel.writer import NotCommitted, Work, WriterBusy
from vmwatch.shared import conffile, nodectl
from vmwatch.shared.confedit import valid_values
from vmwatch.shared.endpoints import parse_endpoint
from vmwatch.shared.errors import ConfigurationError, VmwatchError
from vmwatch.shared.nodectl import Outcome, Request
from vmwatch.shared.paths import Paths
from vmwatch.shared.servicefile import good_path, read
from vmwatch.shared.settings import MasterSettings

log = logging.getLogger(__name__)

MOST_NODES = 8
"""At a time."""
NODE_LIMIT_S = 150.0
"""One node's: two starts, each looked at for 40 s, and what SSH and libvirt take."""
CHECK_LIMIT_S = 45.0
STOP_LIMIT_S = 45.0
SKEW_S = 60.0
REACHED = ("local", "ssh")
FIREWALL_LIMIT_S = 5.0


@dataclass(frozen=True)
class Order:
    """What shall be configured beside the master. `nodes`: names; None: all of the cluster. `solves`: the part whose
    problem this is an attempt to solve: a failure is that attempt's outcome, and not the problem once more."""

    nodes: frozenset[str] | None = None
    wish: Wish = Wish()
    solves: str = ""


class Configurator:
    """One for a panel, in its event loop."""

    def __init__(self, panel: Panel, paths: Paths) -> None:
        self._panel = panel
        self._paths = Paths(paths.prefix, MASTER)
        self._working = asyncio.Lock()
        self._setting_up = threading.Lock()
        self._added: set[str] = set()
        self.reach = NodeReach(paths)
        self.runs = Runs()

    async def keep(self) -> None:
        """Until cancelled: what goes on then is ended. First what an upgrade left to do."""
        try:
            self._begin_after_upgrade()
            await asyncio.Event().wait()
        finally:
            await self.runs.close()

    def begin(self, cause: str, order: Order) -> Run:
        """A run in the background."""
        return self.runs.begin(cause, lambda say: self.configure(order, say))

    def node_added(self, name: str) -> Run:
        """The master and that node; several that come together are configured together."""
        self._added.add(name)

        async def work(say: Say) -> Report:
            async with self._working:
                names, self._added = frozenset(self._added), set()
                if not names:
                    return Report((Part(name, True, "was configured together with another one"),))
                await asyncio.gather(*(self._tell_lacks(host, say) for host in self._hosts() if host.name in names))
                return await self._configure(Order(names), say)

        return self.runs.begin(f"the node {name} was added", work)

    def nodes_removed(self, names: Iterable[str], stopped: Iterable[Part]) -> Run:
        """The master alone: without a node it is disabled. `stopped`: what was done on the nodes, told first."""

        async def work(say: Say) -> Report:
            for part in stopped:
                say(part.name, part.text if part.ok else f"FAILED: {part.text}")
            return await self.configure(Order(frozenset()), say)

        return self.runs.begin(f"removed: {', '.join(names)}", work)

    async def configure(self, order: Order, say: Say) -> Report:
        """All that the order names; never raises VmwatchError: what failed is told by its part."""
        async with self._working:
            return await self._configure(order, say)

    async def solve_master(self, say: Say) -> Report:
        """Solves `vmwatch_master_stopped`: the whole subsystem is configured again."""
        return await self.configure(Order(wish=Wish(lift=False), solves=MASTER), say)

    async def solve_node(self, name: str, say: Say) -> Report:
        """Solves `vmwatch_node_stopped`: that node is configured again."""
        return await self.configure(Order(frozenset({name}), Wish(lift=False), name), say)

    async def finish_removal(self, name: str, say: Say) -> Part:
        """Solves `removed_node_reports`: its service is stopped now that it is there, and it goes from the lists."""
        host = self._panel.writer.hosts.get(name)
        if host is None or host.hidden:
            return Part(name, True, "it is removed")
        return await finish_removal(self._panel, name, await self.stop(host, say))

    async def check(self, host: Host) -> Outcome:
        """What a machine that shall become a node lacks."""
        sent = self._panel.clock.wall()
        outcome = await self.reach.ask(host, Request(nodectl.CHECK), lambda line: None, CHECK_LIMIT_S)
        if outcome.checks:
            skew = _skew_s(outcome.time, sent, self._panel.clock.wall())
            text = f"its clock and the panel's differ by {skew:.0f} s"
            outcome.checks.append(nodectl.Check("clock", skew <= SKEW_S, text))
            if skew > SKEW_S:
                outcome.ok, outcome.text = False, "; ".join(c.text for c in outcome.checks if not c.ok)
        return outcome

    async def _tell_lacks(self, host: Host, say: Say) -> None:
        """What a node lacks is told before it is set up; it is set up all the same, and the agent waits for it."""
        if host.reach in REACHED:
            for check in (await self.check(host)).checks:
                if not check.ok:
                    say(host.name, f"MISSING: {check.text}")

    async def stop(self, host: Host, say: Say) -> Part:
        """vmwatch-node ends there, its file goes, and it does not come back at boot; not if it has another name now."""
        if host.reach not in REACHED:
            return Part(host.name, True, "nothing is done there: it is not reached (reach)", counts=False)
        request = Request(nodectl.STOP, {"node_id": host.name})
        outcome = await self.reach.ask(host, request, lambda line: say(host.name, line), STOP_LIMIT_S)
        return Part(host.name, outcome.ok, outcome.text)

    async def file_of(self, name: str) -> Values:
        """What the node's file is to say. Raises ConfigurationError before the master has a secret."""
        present = await in_thread(self._present)
        if "secret" not in present:
            raise ConfigurationError("vmwatch-master is not configured yet; call vmwatch.configure first")
        plan = make_plan(present, await self._address(present), self._port, [name], {}, "", Wish())
        return plan.nodes[name]

    def _begin_after_upgrade(self) -> None:
        """A panel that has nodes, and gets this subsystem with an upgrade, configures it."""
        managed = [host.name for host in self._hosts() if host.reach]
        if managed and not self._paths.config.exists():
            self.begin("there are nodes and no vmwatch-master.conf: an upgrade", Order())

    def _hosts(self) -> list[Host]:
        """Those that are configured: one that was removed and reports all the same waits for a person's word."""
        back = returned(self._panel.board.problems())
        hosts = list(self._panel.writer.hosts.values())
        return sorted((host for host in hosts if not host.hidden and host.name not in back), key=lambda h: h.id)

    @property
    def _port(self) -> int:
        return self._panel.settings.vmwatch_listen_port

    async def _configure(self, order: Order, say: Say) -> Report:
        hosts = self._hosts()
        try:
            plan, before = await self._plan(hosts, order.wish)
        except VmwatchError as error:
            say(MASTER, f"FAILED: {error}")
            return await self._concluded(Report((Part(MASTER, False, str(error)),)), order.solves)
        for note in plan.notes:
            say(MASTER, note)
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            with suppress(RuntimeError):  # the panel has ended meanwhile
                loop.call_soon_threadsafe(say, MASTER, line)

        def work() -> Part:
            with self._setting_up:  # a call that was cancelled leaves its thread at work
                return set_up(self._paths, plan, tell)

        if order.solves not in ("", MASTER) and plan.nodes == before and self._rests():
            master = Part(MASTER, True, "somebody stopped it on purpose, and it stays so", counts=False)
        else:
            master = await in_thread(work)
            await asyncio.sleep(0)  # its last lines first
        say(MASTER, master.text if master.ok else f"FAILED: {master.text}")
        chosen = [host for host in hosts if order.nodes is None or host.name in order.nodes]
        if order.nodes is not None and plan.nodes != before:
            chosen = hosts  # what every node's file says has changed
        nodes = await self._configure_nodes(chosen, plan, master.ok and master.counts, say)
        gone = sorted((order.nodes or frozenset()) - {host.name for host in hosts})
        back = returned(self._panel.board.problems())
        none = "there is no such node in the cluster"
        lost = [Part(name, False, TOLD if name in back else none, counts=False) for name in gone]
        return await self._concluded(Report((master, *nodes, *lost)), order.solves)

    def _rests(self) -> bool:
        """Has somebody stopped the master on purpose, as far as the last check saw?"""
        found = (one for one in self._panel.board.problems() if one.key == (Kind.MASTER_STOPPED, MASTER))
        return any(one.is_open and is_on_purpose(one.object, one.text) for one in found)

    async def _plan(self, hosts: list[Host], wish: Wish) -> tuple[Plan, Mapping[str, Values]]:
        """The plan, and what the nodes' files were to say before it."""
        present = await in_thread(self._present)
        accounts = Accounts(self._panel.store)
        panel = await in_thread(lambda: panel_values(self._panel.settings, accounts, present))
        address = await self._address(present)
        names = [host.name for host in hosts]
        plan = make_plan(present, address, self._port, names, panel, new_secret(secrets.choice), wish)
        return plan, files_of(present, names)

    def _present(self) -> dict[str, str]:
        """What the master's file says; where it is wrong or gone, what the last good one said."""
        path = self._paths.config
        text = read(path)
        try:
            conffile.parse(path, text, MasterSettings)
            return valid_values(text, MasterSettings)
        except ConfigurationError:
            return valid_values(read(good_path(path)), MasterSettings) | valid_values(text, MasterSettings)

    async def _address(self, present: Mapping[str, str]) -> Found:
        hosts = self._hosts()
        told = [_address_of(host) for host in hosts]
        known = await resolved(told)
        places = [Place(host.name, host.reach == "local", known[at]) for host, at in zip(hosts, told, strict=True)]
        listens = parse_endpoint(present["listen"]).host if "listen" in present else ""
        own = await in_thread(interfaces)
        return find_address(self._panel.settings.vmwatch_listen_ip, places, own, listens)

    async def _configure_nodes(self, hosts: list[Host], plan: Plan, master_works: bool, say: Say) -> list[Part]:
        places = asyncio.Semaphore(MOST_NODES)
        firewall = await in_thread(_firewall) if any(host.reach == "ssh" for host in hosts) else ""

        async def one(host: Host) -> Part:
            if host.reach not in REACHED:
                drift = drifted(self._panel, host, plan.nodes[host.name])
                return Part(host.name, not drift, f"{drift}{_unmanaged(host)}", counts=False)
            if plan.disabled:
                return Part(host.name, True, "left as it is while the master is disabled", counts=False)
            async with places:
                return await self._configure_node(host, plan.nodes[host.name], firewall if master_works else "", say)

        async def told(host: Host) -> Part:
            part = await one(host)
            say(host.name, part.text if part.ok else f"FAILED: {part.text}")
            return part

        return list(await asyncio.gather(*(told(host) for host in hosts)))

    async def _configure_node(self, host: Host, values: Values, firewall: str, say: Say) -> Part:
        where = "on this machine" if host.reach == "local" else f"at {host.ssh or host.address} over SSH"
        say(host.name, f"is configured {where}")
        request = Request(nodectl.CONFIGURE, dict(values))
        sent = self._panel.clock.wall()
        outcome = await self.reach.ask(host, request, lambda line: say(host.name, line), NODE_LIMIT_S)
        text = outcome.text
        if firewall and host.reach == "ssh" and (advice := port_advice(outcome.ports, firewall)):
            text += f"; {advice}"
        skew = _skew_s(outcome.time, sent, self._panel.clock.wall()) if outcome.time else 0.0
        if skew > SKEW_S:
            text += f"; its clock and the panel's differ by {skew:.0f} s"
        return Part(host.name, outcome.ok, text)

    async def _concluded(self, report: Report, solves: str) -> Report:
        """Each part that failed is a problem; one that works has none of this kind any more."""

        def job(work: Work) -> None:
            for part in report.parts:
                if part.name != MASTER and not work.has_node(part.name):
                    continue  # removed meanwhile: nothing would ever close its problem
                kind = Kind.MASTER_STOPPED if part.name == MASTER else Kind.NODE_STOPPED
                if part.counts and not part.ok and part.name != solves:
                    raise_problem(work.draft, work.now, kind, part.name, Level.ERROR, f"{NOT_CONFIGURED}: {part.text}")
                elif part.counts and part.ok:
                    close_problem(work.draft, work.now, kind, part.name)

        try:
            await self._panel.writer.do(job)
        except (WriterBusy, NotCommitted) as error:
            log.warning("what came of configuring is no problem in the list: %s", error)
        return report


def _address_of(host: Host) -> str:
    """An IP address, a name, or nothing."""
    if host.address or not host.ssh:
        return host.address
    try:
        return Target.of(host.ssh, "").host
    except SshError:
        return ""


def _unmanaged(host: Host) -> str:
    if host.reach == "manual":
        return f"reach=manual: nothing is written there; `vmwatch node config {host.name}` prints its file"
    return "nothing is written there: how to reach it is not set (reach: local, ssh or manual)"


def _skew_s(told: float, sent: float, received: float) -> float:
    """How far a clock that said `told` between two moments is off at least."""
    return max(0.0, sent - told, told - received)


def _firewall() -> str:
    """Which command opens a port here; it is only ever printed."""
    program = shutil.which("firewall-cmd")
    if program is None:
        return "nft"
    try:
        state = subprocess.run([program, "--state"], capture_output=True, timeout=FIREWALL_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "nft"
    return "firewalld" if state.returncode == 0 else "nft"
