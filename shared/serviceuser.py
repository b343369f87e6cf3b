"""As whom the services run: users of their own, where the packages have set these up and given them the prefix.

Below a prefix that was given to nobody, such as a checkout's, a service runs as whoever starts it.
"""

import grp
import os
import pwd
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.paths import Paths

MASTER_USER = "vmwatch"
NODE_USER = "vmwatch-node"
USERS = {
    "vmwatch-master": MASTER_USER,
    "vmwatch-panel": MASTER_USER,
    "vmwatch-periodic": MASTER_USER,
    "vmwatch-node": NODE_USER,
}
"""By program. The packages make them, each with a group of the same name (`packaging/rights`)."""
ACL, ACL_USER, ACL_MASK = "system.posix_acl_access", 0x02, 0x10
"""How Linux keeps a list: 4 bytes of version, then (tag, rights, number) for each entry."""


@dataclass(frozen=True)
class User:
    """`groups`: all of them, the first one too."""

    name: str
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @classmethod
    def of(cls, entry: pwd.struct_passwd) -> "User":
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, frozenset(groups))

    @classmethod
    def own(cls) -> "User":
        """The one that this process is."""
        uid, gid = os.geteuid(), os.getegid()
        return cls(name_of(uid), uid, gid, frozenset((gid, *os.getgroups())))

    @property
    def owner(self) -> str:
        """As chown wants it: with his own group."""
        return f"{self.uid}:{self.gid}" if self.name.isdigit() else f"{self.name}:"

    def may(self, path: Path, bits: int) -> bool:
        """Whether mode or access list lets this user do that (`bits`: os.R_OK and the like). Raises OSError."""
        if self.uid == 0:
            return True
        if self.uid == os.geteuid():
            return os.access(path, bits)
        found = path.stat()
        if found.st_uid != self.uid and (listed := _listed(path, self.uid)) is not None:
            return listed & bits == bits
        kind = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return (found.st_mode >> kind) & bits == bits


def _listed(path: Path, uid: int) -> int | None:
    """What the file's access list (acl(5)) lets a user do; None where it does not name him, or there is none."""
    try:
        entries = list(struct.iter_unpack("<HHI", os.getxattr(path, ACL)[4:]))
    except (OSError, struct.error):
        return None
    most = next((rights for tag, rights, _ in entries if tag == ACL_MASK), os.R_OK | os.W_OK | os.X_OK)
    return next((rights & most for tag, rights, number in entries if tag == ACL_USER and number == uid), None)


def name_of(uid: int) -> str:
    """As `ls` shows it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_of(gid: int) -> str:
    """The same of a group."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def service_user(paths: Paths) -> User | None:
    """The user as whom `paths.program` runs below this prefix; None where it runs as whoever starts it."""
    try:
        user = User.of(pwd.getpwnam(USERS[paths.program]))
    except KeyError:
        return None
    return user if any(_is_given(path, user) for path in _told_by(paths)) else None


def become_service_user(paths: Paths) -> None:
    """Of root only: be the service's user from here on, as if this program had been started by it.

    So whatever starts it (a service manager, an operator by hand), what it writes is its own. Returns if there is
    nothing to become, else never: the program begins again. Raises ConfigurationError if that cannot be.
    """
    if os.geteuid() != 0 or (user := service_user(paths)) is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, "USER": user.name, "LOGNAME": user.name, "HOME": str(paths.var)}
    try:
        os.initgroups(user.name, user.gid)
        os.setgid(user.gid)
        os.setuid(user.uid)
        # Anew, not onwards: nothing that root has opened is left, and /proc shows the process to its new owner.
        os.execve(sys.executable, sys.orig_argv, environment)
    except OSError as error:
        text = f"{paths.program} cannot run as its own user {user.name}: {sys.executable}: {error.strerror}"
        raise ConfigurationError(text) from None


def _told_by(paths: Paths) -> tuple[Path, ...]:
    """What was given to the service's user, if its prefix was: one that is wrong shall not hide it."""
    return paths.var, paths.run, paths.config, paths.log, paths.database


def _is_given(path: Path, user: User) -> bool:
    """Whether it is the user's, or a folder of which he was let in: by a group of his, or by name. Not everybody's."""
    try:
        found = path.lstat()
    except OSError:
        return False
    if found.st_uid == user.uid or not stat.S_ISDIR(found.st_mode):
        return found.st_uid == user.uid
    by_group = bool(found.st_mode & stat.S_IWGRP) and found.st_gid in user.groups
    return by_group or bool((_listed(path, user.uid) or 0) & os.W_OK)
