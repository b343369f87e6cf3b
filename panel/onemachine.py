"""One node for each machine: two would take turns with one file, and with one service. A core without I/O."""

from collections.abc import Iterable

from vmwatch.panel.ssh import SshError, Target
from vmwatch.panel.store import Host

LOCAL, SSH = "local", "ssh"


def node_there(hosts: Iterable[Host], wanted: Host) -> Host | None:
    """Which other one of these nodes is reached where `wanted` shall be; None where nobody can say."""
    place = _place(wanted)
    if place is None:
        return None
    others = (host for host in hosts if host.name != wanted.name and not host.hidden)
    return next((host for host in others if _place(host) == place), None)


def _place(host: Host) -> tuple[str, int] | None:
    """The user counts for nothing: he changes the way, not the machine."""
    if host.reach == LOCAL:
        return "", 0
    if host.reach != SSH:
        return None
    try:
        target = Target.of(host.ssh, host.address)
    except SshError:
        return None
    return target.host.lower(), target.port
