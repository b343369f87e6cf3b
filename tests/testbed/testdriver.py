"""A private libvirtd that serves libvirt's test driver: VMs without any guest, and events across processes."""

import contextlib
import uuid
from pathlib import Path
from typing import ClassVar

import libvirt

from tests.testbed.daemon import PrivateDaemon

DEFAULT_DOMAIN = "test"
"""The domain that each instance of the driver begins with, everywhere under the same UUID."""

DOMAIN_XML = """\
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory>8192</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
</domain>
"""


class TestDriverDaemon(PrivateDaemon):
    """A libvirtd with the test driver, for root and for a user without privileges alike.

    The driver's state (its VMs) lives only while some connection is open, so one is held here; a killed or
    terminated daemon has lost its VMs when it is back. A test that wants them back gives `domains`: these are
    defined each time before anyone else can connect.
    """

    __test__ = False  # pytest would take a class of this name for tests
    driver: ClassVar[str] = "test"
    path: ClassVar[str] = "/default"
    # Even with this driver alone, libvirtd of root writes a token below /run/libvirt.
    masked: ClassVar[tuple[str, ...]] = ("/run",)

    def __init__(self, folder: Path, *, domains: tuple[str, ...] = (), host_uuid: str | None = None) -> None:
        super().__init__(folder, host_uuid=host_uuid)
        self.domains = domains
        self._holder: libvirt.virConnect | None = None

    @property
    def connection(self) -> libvirt.virConnect:
        """The connection that holds the state; a test may use it too."""
        if self._holder is None:
            raise RuntimeError("libvirtd does not run")
        return self._holder

    def uuid_of(self, name: str) -> str:
        """The UUID that `define` gives: another one at each daemon, and the same one again after a restart."""
        return str(uuid.uuid5(uuid.UUID(self.host_uuid), name))

    def define(self, name: str, uuid: str | None = None) -> libvirt.virDomain:
        """A new persistent domain, shut off."""
        return self.connection.defineXML(DOMAIN_XML.format(name=name, uuid=uuid or self.uuid_of(name)))

    def prepare(self) -> None:
        """Take hold of the state and put our domains in the place of the default one."""
        self._holder = libvirt.open(self.private_uri)
        default = self.connection.lookupByName(DEFAULT_DOMAIN)
        default.destroy()
        default.undefine()
        for name in self.domains:
            self.define(name)

    def kill(self) -> None:
        super().kill()
        self._let_go()

    def terminate(self) -> None:
        super().terminate()
        self._let_go()

    def stop(self, graceful: bool = True) -> None:
        """`terminate` or `kill`; `start` may follow either."""
        if graceful:
            self.terminate()
        else:
            self.kill()

    def close(self) -> None:
        super().close()
        # Only now: closing asks the daemon, and a frozen one would never answer.
        self._let_go()

    def _let_go(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            with contextlib.suppress(libvirt.libvirtError):  # its daemon is gone
                holder.close()
