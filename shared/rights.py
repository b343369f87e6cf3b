"""Whether a service's files are its own, and nobody else's to read: looked at when it starts, and by `--check`.

Each mistake names the file, what is wrong, and the command that mends it.
"""

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vmwatch.shared.paths import Paths
from vmwatch.shared.servicefile import bad_path, good_path
from vmwatch.shared.serviceuser import NODE_USER, USERS, User, group_of, name_of, service_user

OTHERS = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
FOLDER_MODE = "1775"
"""Of `var` and `var/run` where they are given to a group: each makes files there, and nobody removes another's."""
PLAIN_CONFIG = ("vmwatch-panel",)
"""Whose configuration holds no secret: an administrator's own file, which others may read."""
_READ_WRITE = os.R_OK | os.W_OK
_ENTER = os.X_OK


@dataclass
class Rights:
    """`mistakes`: with one of these the service does not start. `unreadable`: its configuration cannot be read."""

    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unreadable: bool = False


def look(paths: Paths, config: Path, user: User | None = None, strict: bool | None = None) -> Rights:
    """As the user who runs this, or as `user`. `config`: the service's file, wherever it is.

    `strict`: each file has an owner and a mode; by default where the prefix was given to the services' users.
    """
    given = service_user(paths) is not None if strict is None else strict
    return _Look(paths, config, user or User.own(), given).all()


class _Look:
    """One look. `strict`: the prefix was given to users of the services, so each file has an owner and a mode.

    Elsewhere a prefix is its administrator's own: only what keeps the service from working is a mistake there.
    """

    def __init__(self, paths: Paths, config: Path, user: User, strict: bool) -> None:
        self._paths, self._config, self._user, self._strict = paths, config, user, strict
        self._found = Rights()

    def all(self) -> Rights:
        passable = [self._passage(folder) for folder in dict.fromkeys((self._config.parent, self._paths.run))]
        if passable[0]:
            self._configuration()
        else:
            self._found.unreadable = True
        if all(passable):
            for folder in (self._paths.var, self._paths.run):
                self._folder(folder)
            for path, secret in self._own_files():
                self._file(path, secret)
            if self._strict:
                self._kept_files()
        return self._found

    def _passage(self, folder: Path) -> bool:
        """Whether the user gets as far as to this folder."""
        for above in (*reversed(folder.parents), folder):
            try:
                if above.is_dir() and not self._user.may(above, _ENTER):
                    self._mistake(above, f"{self._user.name} may not pass through it", f"chmod o+x {_quoted(above)}")
                    return False
            except OSError:  # what lies below a folder that was told of already, or is just being removed
                return False
        return True

    def _configuration(self) -> None:
        path = self._config
        if not _is_file(path):
            return  # absent: who reads it says so
        if not self._user.may(path, os.R_OK):
            self._found.unreadable = True
            self._owner(path, "may not read it")
        elif self._strict and self._paths.program in PLAIN_CONFIG:
            if mode := _mode(path) & OTHERS_WRITE:
                self._mistake(path, f"mode {_mode(path):04o} lets others change it", f"chmod {_without(mode, path)}")
        elif self._strict:
            self._secret(path)

    def _own_files(self) -> Iterator[tuple[Path, bool]]:
        """(file that the service reads and writes, whether it holds what others must not know)."""
        paths = self._paths
        for path in (paths.log, paths.pid):
            yield path, False
        if paths.program == "vmwatch-master":
            for path in (paths.dead_letters, paths.returned_letters, paths.discarded_letters):
                yield path, True
        for end in ("", "-wal", "-shm"):
            yield paths.database.with_name(f"{paths.database.name}{end}"), True

    def _kept_files(self) -> None:
        """What the service does not write itself, and may not be able to: its unit may show `etc` read-only."""
        kept = [good_path(self._config), bad_path(self._config)]
        if self._paths.program == "vmwatch-panel":
            kept += [self._paths.etc / "vmwatch-ssh-key", self._paths.etc / "vmwatch-libvirt-key"]
        for path in kept:
            if _is_file(path):
                self._secret(path)

    def _file(self, path: Path, secret: bool) -> None:
        if not _is_file(path):
            return
        if not self._user.may(path, _READ_WRITE):
            self._owner(path, "may not read and write it")
        elif self._strict and secret:
            self._secret(path)

    def _secret(self, path: Path) -> None:
        """Its owner's, and nobody else's."""
        if path.stat().st_uid != self._user.uid and self._user.uid != 0:
            self._owner(path, "must own it, as it holds secrets")
        if _mode(path) & OTHERS:
            told = f"mode {_mode(path):04o} lets others read or change its secrets"
            self._mistake(path, told, f"chmod 600 {_quoted(path)}")

    def _folder(self, path: Path) -> None:
        if not path.is_dir():
            return  # it is made, if its own folder lets it
        if not self._user.may(path, os.W_OK | _ENTER):
            if os.statvfs(path).f_flag & os.ST_RDONLY:
                self._mistake(path, "is read-only here", f"mount -o remount,rw, or ReadWritePaths={path} in its unit")
                return
            told = f"{self._user.name} may not write into it (it is {name_of(path.stat().st_uid)}'s, {_shown(path)})"
            self._mistake(path, told, self._command_for_folder(path))
        elif self._strict and _mode(path) & stat.S_IWOTH and not _mode(path) & stat.S_ISVTX:
            told = f"mode {_mode(path):04o} lets everybody replace the files in it"
            self._mistake(path, told, f"chmod {FOLDER_MODE} {_quoted(path)}")

    def _command_for_folder(self, path: Path) -> str:
        user, quoted = self._user, _quoted(path)
        if path.stat().st_uid == user.uid:
            return f"chmod u+rwx {quoted}"
        if user.name not in USERS.values():
            return f"chown {user.owner} {quoted}"
        shared = next((name for name in map(group_of, sorted(user.groups)) if name == NODE_USER), user.name)
        return f"chgrp {shared} {quoted} && chmod {FOLDER_MODE} {quoted}"

    def _owner(self, path: Path, lacking: str) -> None:
        found = path.stat()
        if found.st_uid == self._user.uid:
            self._mistake(path, f"mode {_mode(path):04o}: {self._user.name} {lacking}", f"chmod 600 {_quoted(path)}")
            return
        told = f"belongs to {name_of(found.st_uid)}, and {self._user.name} {lacking}"
        self._mistake(path, told, f"chown {self._user.owner} {_quoted(path)}")

    def _mistake(self, path: Path, told: str, command: str) -> None:
        self._found.mistakes.append(f"{path}: {told}; mend it with: {command}")


def _is_file(path: Path) -> bool:
    """A file of its own; what else there may be (a pipe, as --config of a shell's `<(…)`) has no rights to judge."""
    try:
        return path.is_file()
    except OSError:
        return False


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _shown(path: Path) -> str:
    return f"mode {_mode(path):04o}, group {group_of(path.stat().st_gid)}"


def _without(bits: int, path: Path) -> str:
    who = ("g" if bits & stat.S_IWGRP else "") + ("o" if bits & stat.S_IWOTH else "")
    return f"{who}-w {_quoted(path)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
