"""A service's file, put in place: never one that is wrong, never without need, and the last good one kept beside it."""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from vmwatch.shared import conffile
from vmwatch.shared.confedit import edited, valid_values
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.serviceuser import User, name_of

_S = TypeVar("_S")


@dataclass(frozen=True)
class Placed(Generic[_S]):
    """`before`: None if there was no file, or a wrong one. `dropped`: its lines that were wrong."""

    before: _S | None
    after: _S
    written: bool
    dropped: tuple[str, ...]

    def differing(self) -> set[str]:
        """The settings that changed; all of them where there were none."""
        names = {field.name for field in fields(self.after)}  # type: ignore[arg-type]
        if self.before is None:
            return names
        return {name for name in names if getattr(self.before, name) != getattr(self.after, name)}


def good_path(path: Path) -> Path:
    """Where the last good file is kept."""
    return path.with_name(f"{path.name}.good")


def bad_path(path: Path) -> Path:
    """Where a file is kept that was wrong, for who wrote it."""
    return path.with_name(f"{path.name}.bad")


def read(path: Path) -> str:
    """Its text, empty if there is none. What is no UTF-8 comes as marks, which no value allows."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def place(
    path: Path,
    kind: type[_S],
    changes: Mapping[str, str | None],
    check: Callable[[_S], Any] = lambda settings: None,
    owner: User | None = None,
) -> Placed[_S]:
    """Make `changes` in the file. Raises ConfigurationError, and then nothing was written.

    `check` may raise it too, for what a settings object alone does not show. `owner`: the user whose service it is,
    where root writes it; what somebody else has put there is not touched.
    """
    text, good = _read_owned(path, owner), _read_owned(good_path(path), owner)
    before = _parsed(path, text, kind)
    # One that was lost comes back with all that its last good one said.
    made = edited(text if path.exists() else good, kind, changes, valid_values(good, kind))
    after = conffile.parse(path, made.text, kind).settings
    check(after)
    tight = path.exists() and not conffile.mode_warnings(path) and (owner is None or path.stat().st_uid == owner.uid)
    if made.text == text and tight:
        return Placed(before, after, False, ())
    given = (owner.uid, owner.gid) if owner is not None else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if before is not None:
            conffile.write_atomically(good_path(path), text, owner=given)
        elif text:
            conffile.write_atomically(bad_path(path), text, owner=given)
        conffile.write_atomically(path, made.text, owner=given)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    return Placed(before, after, True, made.dropped)


def _read_owned(path: Path, owner: User | None) -> str:
    """As `read`; with an `owner` root follows no name that somebody else has put there, and reads nobody else's file
    for him: looked at after it was opened, so that it cannot be exchanged in between."""
    if owner is None:
        return read(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigurationError(f"{path}: is no file of its own; remove it with: rm {path}") from None
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise ConfigurationError(f"{path}: is no file of its own; remove it with: rm {path}")
        if found.st_uid not in (0, owner.uid):
            told = f"belongs to {name_of(found.st_uid)}, and only {owner.name}'s or root's is used"
            raise ConfigurationError(f"{path}: {told}; mend it with: chown {owner.owner} {path}")
        return file.read().decode("utf-8", "replace")


def _parsed(path: Path, text: str, kind: type[_S]) -> _S | None:
    try:
        return conffile.parse(path, text, kind).settings
    except ConfigurationError:
        return None
