"""Who looks, all the time: at each libvirt's own word, and at the three pictures."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import libvirt
import psutil
import requests

from bench.veracity.record import Record
from bench.veracity.rivalpanel import RivalPanel, shown
from bench.veracity.verdict import UNKNOWN
from tests.testbed.background import Background
from tests.testbed.daemon import PrivateDaemon
from tests.testbed.migration import Hypervisor
from tests.testbed.stack import ADMIN, Panel
from vmwatch.shared.states import ACTIVE, State, state_of_libvirt

OURS, FORWARDER, POLLER = "vmwatch", "forwarder", "poller"
CONTENDERS = (OURS, FORWARDER, POLLER)
ANSWER_LIMIT_S = 30.0


class Observer(Background):
    """A thread that looks once in each period, in the `with` block."""

    def __init__(self, period_s: float) -> None:
        self.failure = ""
        self._period_s = period_s
        super().__init__()

    def look(self) -> None:
        """Take one sample."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            due_at = time.monotonic()
            while not self.ended.wait(max(0.0, due_at - time.monotonic())):
                due_at = max(due_at + self._period_s, time.monotonic())
                self.look()
        except Exception as error:  # told at the end of the run, which then counts for nothing
            self.failure = f"{type(self).__name__}: {type(error).__name__}: {error}"


class Witness(Observer):
    """Asks one libvirt for the state of all its domains, over a connection of its own.

    While libvirtd is away, a QEMU that lives is what it was, and one that does not live is shut off. A VM of the test
    driver lives and dies with its libvirtd: what it is meanwhile nobody knows.
    """

    def __init__(self, node: str, daemon: PrivateDaemon, period_s: float) -> None:
        super().__init__(period_s)
        self.record = Record()
        self.away_s = 0.0
        self._node = node
        self._daemon = daemon
        self._connection: libvirt.virConnect | None = None
        self._lock = threading.Lock()
        self._processes: dict[str, psutil.Process] = {}
        """Of the active VMs, by UUID."""

    def look(self) -> None:
        with self._lock:
            begin = time.monotonic()
            try:
                values = self._ask()
            except libvirt.libvirtError:
                self._connection = None
                self._look_at_processes(begin)
                self.away_s += self._period_s
            else:
                self.record.add(begin, time.monotonic(), values)

    @contextlib.contextmanager
    def looking(self, uuid: str) -> Iterator[None]:
        """A change of this VM is made inside; it is looked at before and after that, and no other look lies between."""
        with self._lock:
            self._look_at(uuid)
            yield
            self._look_at(uuid)

    def look_at(self, uuid: str) -> None:
        """Take a sample of one VM, which will soon be something else."""
        with self._lock:
            self._look_at(uuid)

    def _look_at(self, uuid: str) -> None:
        if self._connection is None:
            return
        begin = time.monotonic()
        try:
            value = self._value(self._connection.lookupByUUIDString(uuid))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                return
            value = State.ABSENT
        self.record.add_one(begin, time.monotonic(), uuid, value)

    def _ask(self) -> dict[str, str]:
        if self._connection is None:
            self._connection = libvirt.openReadOnly(self._daemon.uri)
        values: dict[str, str] = {}
        for domain in self._connection.listAllDomains():
            try:
                uuid = domain.UUIDString().lower()
                values[uuid] = self._value(domain)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                continue  # it has just vanished
            self._note_process(uuid, domain, values[uuid])
        return values

    def _value(self, domain: libvirt.virDomain) -> str:
        return shown(state_of_libvirt(domain.state()[0]), self._node)

    def _note_process(self, uuid: str, domain: libvirt.virDomain, value: str) -> None:
        if not isinstance(self._daemon, Hypervisor):
            return
        if value.partition("@")[0] not in ACTIVE:
            self._processes.pop(uuid, None)
        elif uuid not in self._processes or not self._processes[uuid].is_running():
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):  # it is just starting, or ending
                self._processes[uuid] = psutil.Process(self._daemon.qemu_pid(domain.name()))

    def _look_at_processes(self, begin: float) -> None:
        if not isinstance(self._daemon, Hypervisor):
            self.record.add_nothing(begin, time.monotonic())
            return
        values: dict[str, str] = {}
        for uuid, value in self.record.now().items():
            if value is None:
                continue
            process = self._processes.get(uuid)
            ended = value.partition("@")[0] in ACTIVE and process is not None and not _lives(process)
            values[uuid] = State.SHUTOFF if ended else value
        self.record.add(begin, time.monotonic(), values)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Onlooker(Observer):
    """Looks at all three pictures, one right after the other."""

    def __init__(self, panel: Panel, rivals: RivalPanel, period_s: float) -> None:
        super().__init__(period_s)
        self.records = {name: Record() for name in CONTENDERS}
        self.unanswered = 0
        self._panel = panel
        self._session = requests.Session()
        self._session.auth = ADMIN
        self._pictures: dict[str, Callable[[], dict[str, str]]] = {
            OURS: self._ours,
            FORWARDER: rivals.forwarded,
            POLLER: rivals.polled,
        }

    def look(self) -> None:
        for name, picture in self._pictures.items():
            begin = time.monotonic()
            values = picture()
            self.records[name].add(begin, time.monotonic(), values)

    def _ours(self) -> dict[str, str]:
        try:
            parameters: dict[str, str | int] = {"func": "vm", "out": "json", "p_cnt": 1000}
            answer = self._session.get(self._panel.url, params=parameters, timeout=ANSWER_LIMIT_S)
            answer.raise_for_status()
            elements = answer.json()["doc"].get("elem", [])
        except requests.RequestException:
            # Who gets no answer knows nothing.
            self.unanswered += 1
            return dict.fromkeys(self.records[OURS].vms, UNKNOWN)
        rows = elements if isinstance(elements, list) else [elements]
        return {row["uuid"]["$"]: shown(row["vmstatus"]["$"], row["hostnode"]["$"]) for row in rows}
