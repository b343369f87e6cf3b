"""The outbox's file: opened, checked, and set aside if it is another node's (design 01, *Order*; 04, *Files*)."""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from vmwatch.node.database import NotNowError, guarded
from vmwatch.node.outbox import ForeignOutboxError, Outbox
from vmwatch.node.reserve import Reserve
from vmwatch.node.schema import check
from vmwatch.shared.errors import StoreError

log = logging.getLogger(__name__)

MACHINE_ID = Path("/etc/machine-id")
BUSY_S = 2.0
"""Somebody looks into the file with a tool of theirs: wait no longer than this for them."""
CHECKPOINT_PAGES = 100
"""How long the write-ahead log grows before it is moved into the database: well below the reserve."""


def machine_id(path: Path = MACHINE_ID) -> str:
    """This machine's id (machine-id(5)); empty if it has none."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
    return "" if text == "uninitialized" else text


def open_outbox(
    path: Path, node_id: str, machine: str, now_us: Callable[[], int], *, limit_bytes: int
) -> tuple[Outbox, Path | None]:
    """The outbox in `path`, made if there is none, and where an older one was set aside, if it was.

    `machine`: from `machine_id`. Raises StoreError, which names the file and what to do, if it is newer than this
    program or damaged or cannot be written; it is never deleted.
    """
    set_aside = None
    try:
        try:
            return _open(path, node_id, machine, now_us, limit_bytes), None
        except ForeignOutboxError as error:
            set_aside = _set_aside(path, now_us())
            log.error("%s: %s: set aside as %s, a new outbox begins", path, error, set_aside)
        return _open(path, node_id, machine, now_us, limit_bytes), set_aside
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened: {error.strerror}") from error


def _open(path: Path, node_id: str, machine: str, now_us: Callable[[], int], limit_bytes: int) -> Outbox:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    reserve = Reserve(path.with_name(f"{path.name}.reserve"))

    def attempt() -> Outbox:
        connection = _connect(path)
        try:
            with guarded():
                return Outbox(connection, node_id, machine, now_us, limit_bytes=limit_bytes, reserve=reserve)
        except BaseException:
            connection.close()
            raise

    try:
        outbox = attempt()
    except NotNowError as error:
        log.warning("%s: %s: tried again without the reserve", path, error)
        reserve.release()  # on a full disk even the files beside the database find no room
        outbox = attempt()
    _sync_folder(path.parent)
    return outbox


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        with guarded():
            check(connection)  # before anything is written into a file that may not be ours
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(path: Path, now_us: int) -> Path:
    """Rename the file and what SQLite keeps beside it; returns the new name."""
    aside = path.with_name(f"{path.name}.aside-{now_us}")
    for suffix in ("-wal", "-shm", ""):  # the database last: without it, nothing was set aside
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    _sync_folder(path.parent)
    return aside


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
