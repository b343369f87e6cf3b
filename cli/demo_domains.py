"""Holds the demo's VMs: they live in libvirt's test driver, whose state lives while a connection is open.

    python -m vmwatch.cli.demo_domains SOCKET PUBLIC_SOCKET

It runs beside libvirtd, makes the VMs, and only then gives libvirtd's socket its public name: nobody sees a libvirtd
without them. When libvirtd ends it takes the name away and ends too; started again, it waits for the next libvirtd.
"""

import contextlib
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import libvirt

from vmwatch.shared.exits import Exit
from vmwatch.shared.states import State

OPEN_LIMIT_S = 60.0
RETRY_S = 0.05
NAMESPACE = uuid.UUID("8a4bb1ac-6c55-4a0e-8f0a-3d3c7f0e5d4e")
"""The same VM has the same UUID in each demo: one that uses an older demo's folder goes on with its VMs."""
DEFAULT_DOMAIN = "test"
"""The VM with which each test driver begins."""

DOMAIN_XML = """\
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
</domain>
"""


@dataclass(frozen=True)
class DemoVm:
    """A VM of the demo; one that is not `persistent` is transient."""

    name: str
    state: State
    persistent: bool = True


VMS = (
    DemoVm("web-1", State.RUNNING),
    DemoVm("db-1", State.RUNNING),
    DemoVm("staging-1", State.PAUSED),
    DemoVm("archive-1", State.SHUTOFF),
    DemoVm("ci-job-1", State.RUNNING, persistent=False),
)


def make_vm(connection: libvirt.virConnect, vm: DemoVm) -> None:
    """Define or create it, and bring it into its state."""
    xml = DOMAIN_XML.format(name=vm.name, uuid=uuid.uuid5(NAMESPACE, vm.name))
    if not vm.persistent:
        domain = connection.createXML(xml)
    else:
        domain = connection.defineXML(xml)
        if vm.state is not State.SHUTOFF:
            domain.create()
    if vm.state is State.PAUSED:
        domain.suspend()


def open_patiently(uri: str) -> libvirt.virConnect:
    """A connection to a libvirtd that is just starting; raises libvirt.libvirtError if it does not in time."""
    deadline = time.monotonic() + OPEN_LIMIT_S
    while True:
        try:
            return libvirt.open(uri)
        except libvirt.libvirtError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def hold(uri: str, publish: Callable[[], None]) -> None:
    """Make the VMs, `publish`, and return when libvirtd has ended. Raises libvirt.libvirtError."""
    ended = False

    def closed(connection: libvirt.virConnect, reason: int, opaque: object) -> None:
        nonlocal ended
        ended = True

    # No keepalive: from a libvirtd that is only frozen the VMs must not vanish.
    libvirt.virEventRegisterDefaultImpl()
    connection = open_patiently(uri)
    connection.registerCloseCallback(closed, None)
    default = connection.lookupByName(DEFAULT_DOMAIN)
    default.destroy()
    default.undefine()
    for vm in VMS:
        make_vm(connection, vm)
    publish()
    while not ended:
        libvirt.virEventRunDefaultImpl()


def main() -> int:
    """The program; returns its exit code, which is never that of a success: it should run as long as the demo."""
    private, public = (Path(argument) for argument in sys.argv[1:])
    # libvirt prints each error besides raising it; while libvirtd starts, errors are what is expected.
    libvirt.registerErrorHandler(lambda context, error: None, None)
    try:
        public.unlink(missing_ok=True)
        hold(f"test+unix:///default?socket={private}", lambda: public.symlink_to(private))
        print("libvirtd has ended", file=sys.stderr)
    except libvirt.libvirtError as error:
        print(f"libvirt: {error}", file=sys.stderr)
    finally:
        with contextlib.suppress(OSError):
            public.unlink(missing_ok=True)
    return Exit.FAILURE


if __name__ == "__main__":
    sys.exit(main())
