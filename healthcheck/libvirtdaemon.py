"""Which of libvirt's daemons this machine has: one for all drivers (libvirtd), or one for each (virtqemud for QEMU)."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from vmwatch.healthcheck.facts import DaemonFacts

DAEMONS = ("virtqemud", "libvirtd")
"""In the order in which libvirt's own clients look for them."""
SOCKETS = {
    "virtqemud": (Path("/run/libvirt/virtqemud-sock-ro"), Path("/run/libvirt/virtqemud-sock")),
    "libvirtd": (Path("/run/libvirt/libvirt-sock-ro"), Path("/run/libvirt/libvirt-sock")),
}


def find_daemon(uri: str) -> DaemonFacts | None:
    """The one that serves `uri` (empty: the usual one); None if that is another machine's, or needs no daemon."""
    try:
        parts = urlsplit(uri)
        socket = parse_qs(parts.query).get("socket", [""])[0]
        elsewhere = bool(parts.hostname)
    except ValueError:
        return None
    if elsewhere or (parts.scheme.startswith("test") and not socket):
        return None
    told = _by_socket_name(Path(socket)) if socket else ""
    running = _running()
    for name in (told,) if told else DAEMONS:
        if pids := running.get(name):
            return DaemonFacts(name, pids[0] if len(pids) == 1 else 0)
    return _by_socket([Path(socket)] if socket else [], told)


def _running() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in DAEMONS:
            found.setdefault(process.info["name"], []).append(process.pid)
    return found


def _by_socket_name(socket: Path) -> str:
    """`libvirt-sock` is libvirtd's, `virtqemud-sock` virtqemud's."""
    return next((name for name in DAEMONS if socket.name.startswith(name.removesuffix("d"))), "")


def _by_socket(sockets: list[Path], told: str) -> DaemonFacts:
    """None of them is seen to run: systemd may hold the socket and start it when it is asked."""
    candidates = {told: sockets} if sockets else SOCKETS
    for name, paths in candidates.items():
        for path in paths:
            try:
                if path.is_socket():
                    return DaemonFacts(name, socket=str(path))
            except OSError:
                continue
    return DaemonFacts()
