"""Files of dead letters: JSON lines that several programs write, and that survive a power cut (design 01).

`var/vmwatch-master.dead` holds what the panel refused, `.returned` beside it what a person sends again, `.discarded`
what a person gave up, without the messages themselves. Whoever rewrites one takes its lock with flock(2) first and
puts the new file in its place by rename while holding it: a line is only written to a file that is still in its
place after its lock was had.

Others may write to that folder. A link, and a file of somebody who has no business there, is neither read nor written.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from vmwatch.shared.messages import Count, Label, NodeId
from vmwatch.shared.ownfile import CAREFULLY, check_own

FILE_MODE = 0o600
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | CAREFULLY
_REPLACED_MOST = 3
"""So often in a row the file may be replaced under our hands before we come back later."""
PATIENCE_S = 10.0
LOCK_POLL_S = 0.02

_T = TypeVar("_T")


class Key(NamedTuple):
    """Which message a letter is: unique for ever."""

    node: str
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.node}/{self.epoch}/{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """`NODE/EPOCH/SEQ`; raises ValueError for anything else."""
        node, *numbers = text.split("/")
        if not node or len(numbers) != 2 or not all(n.isascii() and n.isdigit() and len(n) < 17 for n in numbers):
            raise ValueError(f"{text!r} is not allowed; NODE/EPOCH/SEQ is, as in the list")
        return cls(node, int(numbers[0]), int(numbers[1]))


class Letter(Struct):
    """One line of a file. `message`: its JSON as the node sent it; a text where it was none."""

    time: Label
    node: NodeId
    epoch: Count
    seq: Count
    reason: str
    message: Raw = Raw(b"null")

    @property
    def key(self) -> Key:
        return Key(self.node, self.epoch, self.seq)

    @property
    def is_whole(self) -> bool:
        """The message is what a node sent: it can be sent again."""
        return bytes(self.message).startswith(b"{")


class Line(NamedTuple):
    """A line as it is in its file, and the letter that it says; None for half a line of a crash."""

    text: bytes
    letter: Letter | None


_letter = msgspec.json.Decoder(Letter)


def parse(data: bytes) -> list[Line]:
    """The lines of a file."""
    return [Line(text, _parsed(text)) for text in data.split(b"\n") if text.strip()]


def _parsed(text: bytes) -> Letter | None:
    try:
        return _letter.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read(path: Path) -> list[Line]:
    """The lines of the file, none if there is no such file. Raises OSError."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return []


def append(path: Path, lines: bytes) -> None:
    """Append and fsync; on failure the file is as it was before. Raises OSError (BlockingIOError: it is in use)."""
    handle = _open_locked(path)
    try:
        size = os.fstat(handle).st_size
        if not size and os.geteuid() == 0:
            os.fchown(handle, *_owner(path))
        if size and os.pread(handle, 1, size - 1) != b"\n":
            lines = b"\n" + lines  # a crash or a full disk left half a line
        try:
            _write_all(handle, lines)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
        if not size:
            _sync_folder(path.parent)
    finally:
        os.close(handle)


def rewrite(path: Path, keep: Callable[[Line], bool]) -> int:
    """Drop the lines that are not to be kept; returns how many went. Raises OSError (BlockingIOError: it is in use).

    A crash leaves the old file or the new one. One of which nothing is left becomes empty, and stays.
    """
    if not path.exists():
        return 0
    handle = _open_locked(path)
    try:
        before = parse(_read_all(handle))
        kept = [line for line in before if keep(line)]
        if len(kept) < len(before):
            _replace(path, b"".join(line.text + b"\n" for line in kept), handle)
        return len(before) - len(kept)
    finally:
        os.close(handle)


def empty(path: Path, size: int) -> bool:
    """Remove all lines, unless there are more than these `size` bytes. True: what comes begins at the beginning.

    Raises OSError (BlockingIOError: it is in use).
    """
    handle = _open_locked(path)
    try:
        now = os.fstat(handle).st_size
        if now == size:
            os.ftruncate(handle, 0)
            os.fsync(handle)
        return now <= size  # a smaller one is another file: somebody has removed that one
    finally:
        os.close(handle)


def read_from(path: Path, offset: int, most: int) -> bytes:
    """Whole lines from `offset` on, about `most` bytes of them, and what a crash left behind the last one.

    None are left where it is empty. Raises OSError (BlockingIOError: it is in use; FileNotFoundError).
    """
    path.stat()  # it is not made here
    handle = _open_locked(path)
    try:
        left = max(0, os.fstat(handle).st_size - offset)
        data = os.pread(handle, min(left, most), offset)
        if len(data) == left:
            return data
        end = data.rfind(b"\n") + 1
        return data[:end] if end else os.pread(handle, left, offset)
    finally:
        os.close(handle)


def patiently(act: Callable[[], _T], timeout_s: float = PATIENCE_S) -> _T:
    """For a command: the same again while the file is in use. Raises OSError."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            return act()
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(LOCK_POLL_S)


def encode(letters: Iterable[Letter]) -> bytes:
    """The lines of these letters."""
    return b"".join(msgspec.json.encode(letter) + b"\n" for letter in letters)


def _open_locked(path: Path) -> int:
    """The file's descriptor, locked while the file is in its place. Raises OSError (BlockingIOError: in use)."""
    for _ in range(_REPLACED_MOST):
        handle = os.open(path, _FLAGS, FILE_MODE)
        try:
            # The other owner that root meets is the service that reads what root writes for it.
            owners = (os.geteuid(),) if os.geteuid() else (0, _owner(path)[0])
            found = check_own(handle, owners)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(found, path.lstat()):
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)
    raise BlockingIOError(0, "the file is being replaced")


def _owner(path: Path) -> tuple[int, int]:
    """User and group of what root writes: whose the dead letters are, as the service may run as another user."""
    dead = path.with_suffix(".dead")
    try:
        like = (path.parent if dead == path else dead).lstat()
    except FileNotFoundError:
        like = path.parent.stat()
    return like.st_uid, like.st_gid


def _replace(path: Path, data: bytes, locked: int) -> None:
    """`locked`: the descriptor of the file that gives way; it keeps its owner and its rights."""
    was = os.fstat(locked)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        try:
            os.fchmod(handle, was.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(handle, was.st_uid, was.st_gid)
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _read_all(handle: int) -> bytes:
    size, chunks = os.fstat(handle).st_size, []
    offset = 0
    while offset < size and (chunk := os.pread(handle, size - offset, offset)):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_folder(folder: Path) -> None:
    """So that a new file's name is on the disk too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
