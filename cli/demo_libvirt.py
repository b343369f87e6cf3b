"""Which libvirt the demo watches: one of its own, or the visitor's.

Its own serves only libvirt's test driver: VMs that need no hypervisor, with real events over real sockets. It is an
unprivileged libvirtd, also where root runs the demo (as user nobody, then): libvirtd as root writes below /run/libvirt
whatever its configuration says, and an unprivileged one nowhere but below XDG_RUNTIME_DIR and its like.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys

from vmwatch.cli.demo_folder import DemoError, DemoFolder
from vmwatch.cli.demo_supervisord import Program
from vmwatch.shared.messages import NODE_ID

UNPRIVILEGED = "nobody"
LIBVIRTD_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""libvirtd lies in a folder that is not on every user's PATH."""
LIBVIRTD_CONF = """\
unix_sock_dir = "{folder}"
log_outputs = "3:stderr"
"""
PROBE_LIMIT_S = 15
PROBE = """
import sys, libvirt
libvirt.registerErrorHandler(lambda context, error: None, None)
try:
    libvirt.openReadOnly(sys.argv[1])
except libvirt.libvirtError as error:
    print(error)
    sys.exit(3 if error.get_error_domain() == libvirt.VIR_FROM_URI
             or error.get_error_code() in (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_ARG) else 4)
"""
"""Exit code 3: libvirt will never accept such an address; 4: nobody answers there now."""
NEVER = 3
OWN_NODE = "kvm-01"


class OwnLibvirt:
    """A private libvirtd below the demo's folder, and the process that holds its VMs."""

    node_id = OWN_NODE

    def __init__(self, folder: DemoFolder) -> None:
        self._folder = folder
        self._home = folder.path / "libvirt"
        self._private = self._home / "libvirt-sock"
        self.socket = folder.path / "libvirt-sock"
        """Where visitors and the node connect; it is there when the VMs are."""

    @property
    def uri(self) -> str:
        return f"test+unix:///default?socket={self.socket}"

    def programs(self) -> list[Program]:
        """What supervisord shall run, after writing its files. Raises DemoError if libvirtd cannot run here."""
        daemon = shutil.which("libvirtd", path=LIBVIRTD_PATH)
        if daemon is None:
            raise DemoError(
                "libvirtd is not installed, which would hold the demo's VMs. `make setup` installs it (Debian: package"
                " libvirt-daemon-system); --libvirt-uri watches VMs of another one"
            )
        self._make_home()
        home = str(self._home)
        own = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), home)
        return [
            Program(
                "libvirtd",
                [daemon, "--config", f"{home}/libvirtd.conf", "--pid-file", f"{home}/libvirtd.pid"],
                priority=10,
                # No drivers but the test driver, which is built in.
                environment={**own, "LIBVIRT_DRIVER_DIR": f"{home}/drivers"},
                user=UNPRIVILEGED if os.geteuid() == 0 else "",
            ),
            Program(
                "domains",
                [sys.executable, "-I", "-m", "vmwatch.cli.demo_domains", str(self._private), str(self.socket)],
                priority=20,
            ),
        ]

    def _make_home(self) -> None:
        drivers = self._home / "drivers"
        drivers.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = self._home / "libvirtd.conf"
        configuration.write_text(LIBVIRTD_CONF.format(folder=self._home))
        self.socket.unlink(missing_ok=True)
        if os.geteuid() != 0:
            return
        user = _unprivileged()
        for path in (self._home, drivers, configuration):
            os.chown(path, user.pw_uid, user.pw_gid)
        for parent in self._home.parents:
            if not parent.stat().st_mode & 0o001:
                raise DemoError(
                    f"--folder {self._folder.path}: user {UNPRIVILEGED}, as whom the demo's libvirtd runs, cannot get"
                    f" through {parent}; choose another folder, such as one in /tmp"
                )


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise DemoError(f"there is no user {UNPRIVILEGED}, as whom the demo's libvirtd would run") from None


class VisitorsLibvirt:
    """The libvirtd at an address of the visitor's; it is only read."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        name = socket.gethostname()
        self.node_id = name if NODE_ID.fullmatch(name) else "this-host"

    def programs(self) -> list[Program]:
        """Nothing to run. Raises DemoError if libvirt will never accept this address."""
        try:
            # A process of its own, without the terminal: it may hang, or ask for a password.
            probe = subprocess.run(
                [sys.executable, "-I", "-c", PROBE, self.uri],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROBE_LIMIT_S,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return []  # whether it is only slow, the node will find out
        except ValueError as error:  # a NUL in it
            raise DemoError(f"--libvirt-uri: {error}") from None
        if probe.returncode == NEVER:
            raise DemoError(f"--libvirt-uri {self.uri}: {probe.stdout.strip()}")
        return []
