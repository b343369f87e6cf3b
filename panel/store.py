"""The panel's database: opened, migrated, loaded into memory, and read by lists.

Only the writer's thread writes what nodes report (`recorder`); lists read on other connections, which WAL lets
them do while it writes.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from vmwatch.panel.activity import Activity
from vmwatch.panel.installation import Installation
from vmwatch.panel.knowledge import Epoch, Known, Node
from vmwatch.panel.maintenance import Maintenance
from vmwatch.panel.problems import Problem
from vmwatch.panel.rules import Claim
from vmwatch.panel.schema import (
    attempts,
    claims,
    epochs,
    eventlog,
    installations,
    keys,
    maintenance,
    migrate,
    nodes,
    policies,
    problems,
    stats,
    subjects,
    vms,
)
from vmwatch.shared.errors import StoreError
from vmwatch.shared.states import State

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for another's lock: an account is written in milliseconds, a migration in seconds."""
WAL_PAGES = 2_000
"""So long (8 MiB) the WAL gets before it is copied into the file; the report whose commit fills it waits meanwhile."""
SHORT_WAL_PAGES = 500
"""The same where pages lie far apart: many of them take long, and no report shall wait for that."""
FILE_MODE = 0o600
"""The database holds the accounts' hashes."""
_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    # FULL: a committed event must survive a power failure, because the node forgets it after the answer
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    # KiB, of each connection; lists and exports walk along an index and need little again
    "PRAGMA cache_size=-8192",
    # the writer's connection alone copies the WAL into the file; a second one that does so beside commits meets a
    # defect of SQLite before 3.51.3 that loses pages (https://www.sqlite.org/wal.html#walresetbug)
    "PRAGMA wal_autocheckpoint=0",
)
_WRITER_PRAGMAS = (
    f"PRAGMA wal_autocheckpoint={WAL_PAGES}",
    # bytes: to which the file shrinks that grew while a long export read from it
    "PRAGMA journal_size_limit=33554432",
    # KiB: the upper pages of the event log's indexes stay in memory
    "PRAGMA cache_size=-65536",
    # what a savepoint would take back lies in memory: in a file it takes as long as all inserts together
    "PRAGMA temp_store=MEMORY",
)


@dataclass(frozen=True, slots=True)
class Host:
    """What is stored of a node beside what it reports: its number in the API, and what a person said of it."""

    id: int
    name: str
    address: str = ""
    reach: str = ""
    hidden: bool = False
    allow_install: bool = False
    """The panel may install: change and start domains here. With another panel in charge it must stay no."""
    libvirt_uri: str = ""
    """Where; empty: as `reach` and `address` say."""
    ssh: str = ""
    """[USER@]HOST[:PORT] for `reach=ssh`; empty: root at `address`."""


@dataclass
class Stored:
    """All that the panel keeps in memory of its database."""

    known: Known
    hosts: dict[str, Host] = field(default_factory=dict)
    vm_ids: dict[str, int] = field(default_factory=dict)
    subjects: dict[tuple[str, str], int] = field(default_factory=dict)
    """By (uuid, name)."""
    policies: dict[str, str] = field(default_factory=dict)
    """Values by name, of those that somebody has set."""
    activity: Activity = field(default_factory=Activity)
    last_event: int = 0
    last_stats: int = 0


def database_url(configured: str, default: Path) -> str:
    """The configured SQLAlchemy URL, or SQLite in the file `default`."""
    return configured or f"sqlite:///{default}"


class Store:
    """One database. Every method may block; none is for the event loop's thread."""

    def __init__(self, url: str) -> None:
        self._path = Path(str(make_url(url).database))
        self.engine: Engine = create_engine(url, pool_size=8, max_overflow=0)
        event.listen(self.engine, "connect", _set_up_connection)
        event.listen(self.engine, "begin", _begin)

    def open(self) -> None:
        """Create or migrate it. Raises StoreError if it is newer than this program or cannot be used."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            with self.writing() as connection:
                migrate(connection)
        except StoreError as error:
            raise StoreError(f"{self._path}: {error}") from None
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be opened: {error.strerror}") from None
        except SQLAlchemyError as error:
            raise StoreError(f"{self._path}: cannot be used: {getattr(error, 'orig', error)}") from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database from its first statement on."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction for what is rare (accounts, migrations); it excludes the writer's while it lasts."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def raw(self) -> Any:  # noqa: ANN401 - a DBAPI connection has no type
        """The driver's own connection, in autocommit; for the one writer, which keeps it."""
        connection = self.engine.raw_connection()
        for pragma in _WRITER_PRAGMAS:
            connection.cursor().execute(pragma)
        return connection

    def load(self) -> Stored:
        """All that is kept in memory, in one consistent read. Raises StoreError."""
        try:
            with self.reading() as connection:
                return _load(connection)
        except (SQLAlchemyError, ValueError, msgspec.MsgspecError) as error:
            raise StoreError(f"{self._path}: cannot be read: {getattr(error, 'orig', error)}") from None

    def close(self) -> None:
        """Close all connections; the last one folds the WAL into the file."""
        self.engine.dispose()


def _set_up_connection(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction behind our back; `_begin` does
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later could find its lock taken; one that will write says so at once.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _host(row: Any) -> Host:  # noqa: ANN401 - a row of SQLAlchemy
    names = ("id", "name", "address", "reach", "hidden", "allow_install", "libvirt_uri", "ssh")
    return Host(**{name: row[name] for name in names})


def _load(connection: Connection) -> Stored:
    stored = Stored(Known(run=secrets.token_hex(4)))
    known, names = stored.known, {}
    for row in connection.execute(select(nodes)).mappings():
        names[row["id"]] = row["name"]
        stored.hosts[row["name"]] = _host(row)
        known.nodes[row["name"]] = Node(
            newest_epoch=row["newest_epoch"],
            floor=(row["floor_epoch"], row["floor_seq"]),
            agent=row["agent"],
            interval=row["interval"],
            status=row["status"].encode(),
            said=row["said"],
            seen=row["seen"],
            doubted=row["doubted"],
            doubt=row["doubt"],
            emptied=(row["emptied_epoch"], row["emptied_at"]),
        )
    for node, epoch, base, active in connection.execute(select(epochs)):
        known.epochs[names[node], epoch] = Epoch(base, active)
    for node, epoch, seq in connection.execute(select(keys)):
        known.keys.setdefault((names[node], epoch), set()).add(seq)
    stored.vm_ids = {uuid: number for number, uuid in connection.execute(select(vms))}
    uuids = {number: uuid for uuid, number in stored.vm_ids.items()}
    for number, vm, name in connection.execute(select(subjects)):
        stored.subjects[uuids[vm], name] = number
    for row in connection.execute(select(claims)).mappings():
        mark, stated = (row["mark_epoch"], row["mark_seq"]), (row["stated_epoch"], row["stated_seq"])
        claim = Claim(
            State(row["state"]),
            row["name"],
            mark,
            row["since"],
            row["turn"],
            stated,
            row["persistent"],
            (row["persisted_epoch"], row["persisted_seq"]),
            row["moving"],
            row["departed"],
        )
        known.set_claim(uuids[row["vm"]], names[row["node"]], claim)
        known.turn = max(known.turn, claim.turn)
    for found in connection.execute(select(problems)):
        problem = Problem(*found)
        known.problems[problem.key] = problem
        known.problem_ids = max(known.problem_ids, problem.id)
    known.maintenance.update((row[0], Maintenance(*row)) for row in connection.execute(select(maintenance)))
    known.attempt_ids = connection.execute(select(func.max(attempts.c.id))).scalar() or 0
    stored.policies.update((name, value) for name, value in connection.execute(select(policies)))
    for content in connection.execute(select(installations.c.content).order_by(installations.c.id)).scalars():
        installation = msgspec.json.decode(content, type=Installation)
        known.installations[installation.uuid] = replace(installation, asked=0)
        known.installation_ids = installation.id
    stored.last_event = connection.execute(select(func.max(eventlog.c.id))).scalar() or 0
    stored.last_stats = connection.execute(select(func.max(stats.c.id))).scalar() or 0
    return stored
