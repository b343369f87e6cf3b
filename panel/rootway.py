"""How a panel that is not root has root do what configuring needs: two commands, each with one way to be called.

Where the services have users of their own, the panel may run `vmwatch-nodectl` and `vmwatch-servicectl` as root, with
the prefix and nothing else on their command line (`packaging/sudoers/vmwatch`). Where its service manager lets it gain
no rights (systemd's NoNewPrivileges), a socket of the same name stands for the command.
"""

import os
import shutil
import sys
from pathlib import Path

from vmwatch.shared.paths import Paths
from vmwatch.shared.serviceuser import service_user

SUDO = ("sudo", "-n", "--")
SOCKETS = Path("/run/vmwatch")
"""`NAME.sock` there: who connects, speaks with NAME's standard input and output. Only the panel's user may."""


def needs_root(prefix: Path) -> bool:
    """Whether this panel has to ask for what belongs to others: it is not root, and the services' users are apart."""
    return os.geteuid() != 0 and service_user(Paths(prefix, "vmwatch-panel")) is not None


def command_of(program: str, prefix: Path) -> list[str]:
    """What runs one of our commands on this machine, as root where that is needed."""
    direct = [_installed(program), "--prefix", str(prefix)]
    if not needs_root(prefix):
        return direct
    socket = SOCKETS / f"{program}.sock"
    if os.access(socket, os.W_OK):
        return [sys.executable, "-m", "vmwatch.panel.rootsocket", str(socket)]
    return [*SUDO, *direct]


def explained(errors: str) -> str:
    """What sudo says, with what to do about it."""
    last = errors.strip().rpartition("\n")[2].strip() or "without a word"
    if last.startswith("sudo:"):
        return f"{last} (the panel's user needs the rules of packaging/sudoers/vmwatch in /etc/sudoers.d)"
    return last


def _installed(program: str) -> str:
    own = Path(sys.executable).with_name(program)
    return str(own) if own.exists() else shutil.which(program) or program
