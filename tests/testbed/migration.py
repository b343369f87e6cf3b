"""Live migration between two hypervisors on one machine: two private libvirtd with QEMU, and one disk for both.

What is needed for it: different `host_uuid` (the host's name may be the same), a disk at a path that both see, and
`VIR_MIGRATE_UNSAFE`, since libvirt does not know that both look at the same file. Peer-to-peer, tunnelled, managed
and post-copy migration all work like that; what libvirt tells of them is in `tests/unit/panel/migrations.py`.
"""

import contextlib
import threading
import uuid
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import libvirt

from tests.testbed import guests
from tests.testbed.qemu import CONFIGURATION_FOLDER, QemuDaemon
from tests.testbed.waiting import LOOPBACK, free_port, wait_until
from tests.testbed.wire import OTHER_LOOPBACK

SLOW_MIB_S = 1
"""At this speed the memory of `guests.dirties_memory` never gets over."""
FAST_MIB_S = 1000
UNDER_WAY_BYTES = 4 * 1024 * 1024
END_LIMIT_S = 120
DISK = "hda"


KEEPALIVE = """
keepalive_interval = 2
keepalive_count = 4
"""
"""After so long (10 s, not 30 s) libvirtd gives up another one to which it migrates and that says nothing."""


class Hypervisor(QemuDaemon):
    """One of the two."""

    def furnish(self, root: Path) -> None:
        super().furnish(root)
        with (root / CONFIGURATION_FOLDER / "qemu.conf").open("a") as configuration:
            configuration.write(KEEPALIVE)


class Way(StrEnum):
    """How the memory goes over, and who conducts it."""

    NATIVE = "native"
    """libvirtd talks to libvirtd (peer-to-peer), QEMU to QEMU."""
    TUNNELLED = "tunnelled"
    """All of it through the connection from libvirtd to libvirtd."""
    MANAGED = "managed"
    """The client talks to both libvirtd, QEMU to QEMU."""


class Hypervisors:
    """Two hypervisors, and a connection to each; the VMs' disks lie in `folder`. They live in the `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = Hypervisor(folder / "source")
        self.destination = Hypervisor(folder / "destination")
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            for daemon in (self.source, self.destination):
                opening.enter_context(daemon)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def clear(self) -> None:
        """Both serve, and have no VM: the next test finds them as if they were new."""
        for daemon in (self.source, self.destination):
            if not daemon.is_running:
                daemon.start()
            daemon.thaw()
            with contextlib.closing(self.connect(daemon)) as connection:
                for domain in connection.listAllDomains():
                    for end in (domain.destroy, domain.undefine):
                        with contextlib.suppress(libvirt.libvirtError):  # it does not run, or has no definition
                            end()
                wait_until(lambda: not connection.listAllDomains(), "its VMs to be gone")

    def connect(self, daemon: QemuDaemon) -> libvirt.virConnect:
        """A connection of the test's own; it is closed by the daemon's end."""
        return libvirt.open(daemon.uri)

    def start(self, name: str, *, sector: bytes | None = None, transient: bool = False) -> libvirt.virDomain:
        """A VM that runs on the source, and has begun to write into its memory."""
        image = guests.write_disk(self.folder / f"{name}.img", sector or guests.dirties_memory())
        return boot(self.connect(self.source), guests.domain_xml(name, str(uuid.uuid4()), image), transient=transient)


def boot(connection: libvirt.virConnect, xml: str, *, transient: bool = False) -> libvirt.virDomain:
    """Start the VM; returns when it has read its boot sector."""
    if transient:
        domain = connection.createXML(xml)
    else:
        domain = connection.defineXML(xml)
        domain.create()
    wait_until(lambda: domain.blockStats(DISK)[1] >= guests.SECTOR_BYTES, f"{domain.name()} to boot")
    return domain


class Migration:
    """One migration, in a thread of its own: begun by `with`, and cancelled at its end if it still goes on.

    `port`: the destination's QEMU listens there on 127.0.0.2, the source's calls 127.0.0.1: a `Wire` stands between.
    `uri`: where the libvirtd in charge reaches the destination's, if not at its own address. `name`: what the VM is
    called there, if not as before.
    """

    def __init__(
        self,
        domain: libvirt.virDomain,
        destination: QemuDaemon,
        way: Way = Way.NATIVE,
        *,
        flags: int = 0,
        slow: bool = False,
        port: int = 0,
        uri: str = "",
        name: str = "",
    ) -> None:
        self.domain = domain
        self.error: libvirt.libvirtError | None = None
        self._uri = uri or destination.uri
        self._way = way
        self._flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE | flags
        self._parameters: dict[str, str | int] = {}
        if way is not Way.TUNNELLED:
            self._parameters[libvirt.VIR_MIGRATE_PARAM_URI] = f"tcp://{LOOPBACK}:{port or free_port()}"
        if port:
            self._parameters[libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS] = OTHER_LOOPBACK
        if name:
            self._parameters[libvirt.VIR_MIGRATE_PARAM_DEST_NAME] = name
        if slow:
            self._parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = SLOW_MIB_S
        if flags & libvirt.VIR_MIGRATE_POSTCOPY:
            # Else the rest may be over before the destination's libvirtd learns that it is post-copy, and says so.
            self._parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY] = SLOW_MIB_S
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(libvirt.libvirtError):
                self.domain.abortJob()
            self._thread.join(END_LIMIT_S)

    @property
    def is_under_way(self) -> bool:
        """Memory goes over, and some of it waits to. Raises libvirt's error if the migration has failed by itself."""
        if self.error is not None:
            raise self.error
        with contextlib.suppress(libvirt.libvirtError):
            return int(self.domain.jobStats().get("memory_remaining", 0)) > UNDER_WAY_BYTES
        return False

    def wait_under_way(self) -> None:
        """Wait until memory goes over; a slow migration then stays like that."""
        wait_until(lambda: self.is_under_way, f"the memory of {self.domain.name()} to go over")

    def speed_up(self) -> None:
        """Let a slow migration come to its end."""
        self.domain.migrateSetMaxSpeed(FAST_MIB_S)

    def cancel(self) -> None:
        """As `virsh domjobabort` does."""
        self.domain.abortJob()

    def finish(self) -> str:
        """Wait for the end: what went wrong in libvirt's words, or an empty string."""
        wait_until(lambda: not self._thread.is_alive(), "the migration to end", END_LIMIT_S)
        return "" if self.error is None else str(self.error)

    def _run(self) -> None:
        try:
            # Over a connection of its own: beside a call that lasts, libvirt's client (9.0) may never send another.
            with contextlib.closing(libvirt.open(self.domain.connect().getURI())) as own:
                self._migrate(own.lookupByUUIDString(self.domain.UUIDString()))
        except libvirt.libvirtError as error:
            self.error = error

    def _migrate(self, domain: libvirt.virDomain) -> None:
        if self._way is Way.MANAGED:
            with contextlib.closing(libvirt.open(self._uri)) as there:
                domain.migrate3(there, self._parameters, self._flags)
            return
        flags = self._flags | libvirt.VIR_MIGRATE_PEER2PEER
        if self._way is Way.TUNNELLED:
            flags |= libvirt.VIR_MIGRATE_TUNNELLED
        domain.migrateToURI3(self._uri, self._parameters, flags)
