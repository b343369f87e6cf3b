"""The tables of the panel's database, and the way from an older schema to this one."""

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateColumn

from vmwatch.shared.errors import StoreError

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
"""`schema`: the version of this file's tables. `written`: when it could be written again, after it could not."""

nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False, unique=True),
    Column("address", String, nullable=False, server_default=""),
    Column("reach", String, nullable=False, server_default=""),
    Column("hidden", Boolean, nullable=False, server_default="0"),
    Column("allow_install", Boolean, nullable=False, server_default="0"),
    Column("libvirt_uri", String, nullable=False, server_default=""),
    Column("ssh", String, nullable=False, server_default=""),
    Column("newest_epoch", BigInteger, nullable=False, server_default="0"),
    Column("floor_epoch", BigInteger, nullable=False, server_default="0"),
    Column("floor_seq", BigInteger, nullable=False, server_default="0"),
    Column("agent", String, nullable=False, server_default=""),
    Column("interval", Float, nullable=False, server_default="10"),
    Column("status", String, nullable=False, server_default=""),
    Column("said", String, nullable=False, server_default=""),
    Column("seen", Float, nullable=False, server_default="0"),
    Column("doubted", Float, nullable=False, server_default="0"),
    Column("doubt", String, nullable=False, server_default=""),
    Column("emptied_epoch", BigInteger, nullable=False, server_default="0"),
    Column("emptied_at", Float, nullable=False, server_default="0"),
)
"""Cluster nodes. `hidden`: deleted by a person; its keys stay, so that nothing of it is registered twice."""

epochs = Table(
    "epochs",
    metadata,
    Column("node", Integer, ForeignKey("nodes.id"), primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("base", BigInteger, nullable=False),
    Column("last_activity", Float, nullable=False),
    sqlite_with_rowid=False,
)

keys = Table(
    "keys",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Each registered message at or above its epoch's base. Without a foreign key: it would be looked up for each row of
the busiest table, and the one statement that fills it writes the epoch's row first."""

vms = Table(
    "vms",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("uuid", String, nullable=False, unique=True),
)
"""The number by which a VM is named in the API; it stays when the VM is gone."""

claims = Table(
    "claims",
    metadata,
    Column("node", Integer, ForeignKey("nodes.id"), primary_key=True, autoincrement=False),
    Column("vm", Integer, ForeignKey("vms.id"), primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("name", String, nullable=False),
    Column("mark_epoch", BigInteger, nullable=False),
    Column("mark_seq", BigInteger, nullable=False),
    Column("since", Float, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("stated_epoch", BigInteger, nullable=False, server_default="0"),
    Column("stated_seq", BigInteger, nullable=False, server_default="0"),
    Column("persistent", Boolean, nullable=True),
    Column("persisted_epoch", BigInteger, nullable=False, server_default="0"),
    Column("persisted_seq", BigInteger, nullable=False, server_default="0"),
    Column("moving", String, nullable=False, server_default=""),
    Column("departed", Float, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""`state`: what was told, not what follows from it. By node first: a report is of one node, and then the rows that it
changes lie together on few pages."""

subjects = Table(
    "subjects",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("vm", Integer, ForeignKey("vms.id"), nullable=False),
    Column("name", String, nullable=False, index=True),
    UniqueConstraint("vm", "name"),
)
"""A VM under one of the names that it had: what an event is about. Events hold this one number, and need one index,
instead of two texts with an index each; that is most of what writing an event costs."""

eventlog = Table(
    "eventlog",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("node", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("time", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("subject", Integer, nullable=False),
    Column("event", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("state", String, nullable=False),
)
"""Registered events; `node` and `subject` are numbers of those tables, which lose no row. The id only grows, in the
order of commits: it is the cursor of lists and live pages."""

# An index of SQLite ends in the id: under one whole key of these the rows lie in the order of the list. Lists merge the
# keys that a filter fits (`strands`), so two indexes serve all combinations. The first one holds the time as well: a
# node whose clock says anything is then walked over ten times as fast.
Index("eventlog_node_event", eventlog.c.node, eventlog.c.event, eventlog.c.id, eventlog.c.time)
Index("eventlog_subject_node_event", eventlog.c.subject, eventlog.c.node, eventlog.c.event)

SPAN_ROWS = 16_384
"""Ids of one span. In the file: another number needs a migration."""

spans = Table(
    "spans",
    metadata,
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("first", Float, nullable=False),
    Column("last", Float, nullable=False),
    sqlite_with_rowid=False,
)
"""The lowest and the highest `time` of a node's events with ids from `span` * SPAN_ROWS on: where in the list a time
can be. Instead of an index: that would give the rows of a time in an order of its own."""

COUNTERS = (
    "cpu_ns",
    "memory_kib",
    "tx_packets",
    "tx_bytes",
    "rx_packets",
    "rx_bytes",
    "write_requests",
    "write_bytes",
    "read_requests",
    "read_bytes",
)
"""The counters of a sample, as the wire protocol names them."""

stats = Table(
    "stats",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("uuid", String, nullable=False),
    Column("node", String, nullable=False),
    Column("taken", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("interval", Float, nullable=False),
    Column("state", String, nullable=False),
    *(Column(name, BigInteger) for name in COUNTERS),
)
Index("stats_uuid", stats.c.uuid)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("password", String, nullable=False),
)
"""`password` is a memory-hard hash, never the password."""

problems = Table(
    "problems",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("type", String, nullable=False),
    Column("object", String, nullable=False),
    Column("level", String, nullable=False),
    Column("text", String, nullable=False),
    Column("first", Float, nullable=False),
    Column("last", Float, nullable=False),
    Column("count", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("closed", Float, nullable=False, server_default="0"),
    Column("automatic", Boolean, nullable=False, server_default="1"),
    Column("period", Float, nullable=False, server_default="300"),
    Column("most", Integer, nullable=False, server_default="5"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("tried", Float, nullable=False, server_default="0"),
    Column("reopened", Integer, nullable=False, server_default="0"),
    Column("gone", Float, nullable=False, server_default="0"),
    UniqueConstraint("type", "object"),
)
"""One row for a type and an object, however often it comes. The columns are the fields of `problems.Problem`."""

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("problem", Integer, nullable=False),
    Column("began", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("ended", Float, nullable=False),
    Column("outcome", String, nullable=False),
    Column("text", String, nullable=False),
    Column("output", String, nullable=False),
    Column("lines", Integer, nullable=False),
)
"""What was done about problems. The columns are the fields of `solving.Attempt`."""
Index("attempts_problem", attempts.c.problem)

policies = Table(
    "policies",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
    sqlite_with_rowid=False,
)
"""Those that somebody has set; the others have their default."""

installations = Table(
    "installations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("uuid", String, nullable=False),
    Column("began", Float, nullable=False),
    Column("unfinished", Boolean, nullable=False),
    Column("content", String, nullable=False),
)
"""`content`: the `Installation` as JSON. `unfinished`: something is still to be done for it."""
Index("installations_uuid", installations.c.uuid)

maintenance = Table(
    "maintenance",
    metadata,
    Column("object", String, primary_key=True),
    Column("began", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", String, nullable=False),
)
"""What is in maintenance now. The columns are the fields of `maintenance.Maintenance`."""

Migration = Callable[[Connection], None]
"""The step from one schema version to the next; it must keep all that is stored."""


def _add_columns(connection: Connection, table: Table, *names: str) -> None:
    """Columns as the table has them now; each is null or has a default of the server."""
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for name in names:
        if name not in there:
            column = str(CreateColumn(table.c[name]).compile(dialect=connection.dialect))
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {column}"))


def _tell_stated_from_mark(connection: Connection) -> None:
    """Version 2: a claim remembers which message told its state; until now its mark was taken for that."""
    _add_columns(connection, claims, "stated_epoch", "stated_seq")
    connection.execute(text("UPDATE claims SET stated_epoch = mark_epoch, stated_seq = mark_seq"))


def _judge(connection: Connection) -> None:
    """Version 3: problems; what is known of a VM's definition, of its migration, and of a node's silence."""
    problems.create(connection, checkfirst=True)
    _add_columns(connection, nodes, "doubted", "doubt", "emptied_epoch", "emptied_at")
    _add_columns(connection, claims, "persistent", "persisted_epoch", "persisted_seq", "moving", "departed")


def _index_events_for_pages(connection: Connection) -> None:
    """Pages of the event log by any combination of filters. Takes about a minute for ten million events."""
    for name in ("eventlog_node", "eventlog_subject", "eventlog_time"):
        connection.execute(text(f"DROP INDEX IF EXISTS {name}"))
    for statement in (
        "CREATE INDEX IF NOT EXISTS eventlog_node_event ON eventlog (node, event, id, time)",
        "CREATE INDEX IF NOT EXISTS eventlog_subject_node_event ON eventlog (subject, node, event)",
        "CREATE TABLE IF NOT EXISTS spans (span INTEGER NOT NULL, node INTEGER NOT NULL, first FLOAT NOT NULL,"
        " last FLOAT NOT NULL, PRIMARY KEY (span, node)) WITHOUT ROWID",
        "INSERT OR REPLACE INTO spans"
        " SELECT id / 16384, node, min(time), max(time) FROM eventlog GROUP BY id / 16384, node",
    ):
        connection.execute(text(statement))


def _add_policies(connection: Connection) -> None:
    """The table of policies."""
    policies.create(connection, checkfirst=True)


def _install(connection: Connection) -> None:
    """Version 6: installations, and where and whether the panel may make them."""
    _add_columns(connection, nodes, "allow_install", "libvirt_uri")
    installations.create(connection, checkfirst=True)


def _maintain(connection: Connection) -> None:
    """What is in maintenance."""
    maintenance.create(connection, checkfirst=True)


def _solve(connection: Connection) -> None:
    """How problems are solved, and the log of the attempts."""
    names = ("automatic", "period", "most", "attempts", "attempt", "tried", "reopened", "gone")
    _add_columns(connection, problems, *names)
    attempts.create(connection, checkfirst=True)


def _reach_by_ssh(connection: Connection) -> None:
    """Where a node is for SSH, beside its address."""
    _add_columns(connection, nodes, "ssh")


MIGRATIONS: Sequence[Migration] = (
    _tell_stated_from_mark,
    _judge,
    _index_events_for_pages,
    _add_policies,
    _install,
    _maintain,
    _solve,
    _reach_by_ssh,
)
"""The n-th one makes version n + 1 out of version n. Once released, a step never changes."""


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the newest version, inside the caller's transaction.

    Raises StoreError for a database that is newer than this program, or not the panel's.
    """
    newest = 1 + len(migrations)
    version = _version(connection)
    if version > newest:
        raise StoreError(
            f"the database has schema version {version} and this version of vmwatch-panel knows only up to"
            f" {newest}; start the newer vmwatch-panel, or restore an older copy of the database"
        )
    if version == 0:
        metadata.create_all(connection)
    else:
        for step in migrations[version - 1 :]:
            step(connection)
    if version != newest:
        connection.execute(meta.delete().where(meta.c.name == "schema"))
        connection.execute(meta.insert().values(name="schema", value=str(newest)))


def _version(connection: Connection) -> int:
    """0: an empty database."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return 0
    if "meta" not in tables:
        raise StoreError("the database is not one of vmwatch-panel; nothing in it was changed")
    text = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar()
    if text is None or not str(text).isdigit():
        raise StoreError("the database does not say which schema version it has; nothing in it was changed")
    return int(text)
