"""The one folder below which everything of a demo is, and the configuration files in it."""

import os
import re
import secrets
import shutil
import string
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmwatch.shared import conffile
from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.statussocket import MAX_PATH_BYTES

PARENT = Path("/tmp")
"""Not TMPDIR: the path of a UNIX socket is short, and another user must get through to libvirt's (demo_libvirt)."""
PREFIX = "vmwatch-demo-"
MOST_PATH_BYTES = MAX_PATH_BYTES - len("/var/run/supervisord.sock.1234567")
"""The longest socket in it: supervisord makes its own under a temporary name with a pid."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/+-]+")
MARK = "vmwatch-demo"
"""The name of a file that says that a folder is a demo's, and may be used by the next one."""

LOOPBACK = "127.0.0.1"
HEARTBEAT_S = 2
STATISTICS_S = 10
"""Shorter than a service's defaults, so that a visitor need not wait for what they show."""
SECRET_LENGTH = 32


class DemoError(VmwatchError):
    """The demo cannot go on; the text says why, and what to do."""


@dataclass(frozen=True)
class Access:
    """Where a demo's services listen, and the secrets between them."""

    panel_port: int
    master_port: int
    secret: str
    admin_password: str
    service_password: str
    admin: str = "admin"
    service: str = "vmwatch"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.panel_port}/vmmgr"


def new_access(panel_port: int, master_port: int) -> Access:
    """Fresh secrets."""
    letters = string.ascii_uppercase + string.digits
    return Access(
        panel_port,
        master_port,
        secret="".join(secrets.choice(letters) for _ in range(SECRET_LENGTH)),
        admin_password=secrets.token_urlsafe(9),
        service_password=secrets.token_urlsafe(24),
    )


class DemoFolder:
    """`path` with its parts. `is_temporary`: it goes when the demo ends."""

    def __init__(self, path: Path, *, is_temporary: bool) -> None:
        self.path = path
        self.is_temporary = is_temporary
        self.etc = path / "etc"
        self.var = path / "var"
        self.run = path / "var" / "run"
        self.conf_d = path / "etc" / "conf.d"

    @classmethod
    def make(cls, chosen: Path | None, keep: bool) -> "DemoFolder":
        """A new folder in /tmp, or the chosen one. Raises DemoError if that cannot be used."""
        try:
            if chosen is None:
                made = cls(Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT)), is_temporary=not keep)
            else:
                made = cls(_usable(chosen), is_temporary=False)
                made.path.mkdir(parents=True, exist_ok=True)
            try:
                made._fill()
            except BaseException:
                made.remove()
                raise
        except OSError as error:
            raise DemoError(f"{error.filename}: cannot be used for the demo: {error.strerror}") from None
        return made

    def remove(self) -> None:
        """Delete it if it is temporary."""
        if self.is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def write_services(self, access: Access, node_id: str, libvirt_uri: str) -> None:
        """The configuration of the panel, the master and the node."""
        master = str(Endpoint(LOOPBACK, access.master_port))
        # The last two: where configuring on its page would have the master listen; it shall move nothing.
        panel = f"PanelListen {LOOPBACK}:{access.panel_port}\nVmwatchListenIp {LOOPBACK}\n"
        conffile.write_atomically(self.etc / "vmmgr.conf", f"{panel}VmwatchListenPort {access.master_port}\n")
        conffile.write(
            self.etc / "vmwatch-master.conf",
            {
                "listen": master,
                "secret": access.secret,
                "panel_url": access.url,
                "panel_user": access.service,
                "panel_password": access.service_password,
            },
        )
        conffile.write(
            self.etc / "vmwatch-node.conf",
            {
                "connect": master,
                "secret": access.secret,
                "node_id": node_id,
                "libvirt_uri": libvirt_uri,
                "heartbeat_interval": str(HEARTBEAT_S),
                "stats_interval": str(STATISTICS_S),
            },
        )

    def _fill(self) -> None:
        # Root's libvirtd is another user's process (demo_libvirt): it may pass through, and read nothing.
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (self.path / MARK).touch()
        for folder in (self.etc, self.var, self.run, self.conf_d):
            folder.mkdir(mode=0o700, exist_ok=True)


def _usable(chosen: Path) -> Path:
    """The chosen folder's full path. Raises DemoError, because nobody's files may end up in the demo's way."""
    path = chosen.absolute()
    if not _PLAIN_PATH.fullmatch(str(path)):
        # It becomes part of a libvirt address and of supervisord's configuration, each with its own quoting.
        raise DemoError(f"--folder {path}: only letters, digits and . _ / + - are allowed in its path")
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise DemoError(f"--folder {path}: at most {MOST_PATH_BYTES} bytes are allowed, because of UNIX sockets in it")
    if path.exists() and not path.is_dir():
        raise DemoError(f"--folder {path}: is not a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / MARK).exists():
        raise DemoError(f"--folder {path}: is not empty, and was not made by an earlier demo")
    return path
