"""The database: versions, what survives a restart, and what retention may take."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests.unit.panel.reports import EPOCH, NODE, entry, event, inventory, report, stats, uuid_of
from vmwatch.panel import schema
from vmwatch.panel.attempts import Attempts
from vmwatch.panel.events import Events, Filter
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind, Level, raise_problem
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.registration import register
from vmwatch.panel.schema import MIGRATIONS, migrate
from vmwatch.panel.store import Store
from vmwatch.shared.errors import StoreError
from vmwatch.shared.report import decode_report
from vmwatch.shared.states import State


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "panel.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{path}")
    store.open()
    yield store
    store.close()


def schema_version(connection: Connection) -> str | None:
    return connection.execute(text("SELECT value FROM meta WHERE name = 'schema'")).scalar()


def register_all(store: Store, *bodies: bytes, now: float = 1000.0) -> None:
    """As the writer does it, without its thread."""
    stored = store.load()
    recorder = Recorder(store, stored)
    for body in bodies:
        draft = Draft(stored.known)
        register(draft, decode_report(body), now)
        with recorder.savepoint():
            recorder.write(draft, now)
        recorder.commit()
        draft.merge()
    recorder.close()


def test_a_new_database_is_readable_by_its_owner_alone_and_loses_no_commit_in_a_power_failure(
    store: Store, path: Path
) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with store.reading() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_the_writers_connection_alone_copies_the_write_ahead_log_into_the_file(store: Store, path: Path) -> None:
    """A second one that does so beside commits meets a defect of SQLite that loses pages."""
    with store.writing() as connection:
        connection.execute(text("CREATE TABLE filler (content BLOB)"))
        connection.execute(text("INSERT INTO filler VALUES (zeroblob(24000000))"))
    assert path.stat().st_size < 24_000_000
    fill(store, 1)
    assert path.stat().st_size > 24_000_000


def test_the_write_ahead_log_gives_back_what_it_took_while_a_reader_held_it(store: Store, path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    with store.writing() as connection:
        connection.execute(text("CREATE TABLE filler (content BLOB)"))
    with store.reading() as reader, reader.begin():
        reader.execute(text("SELECT count(*) FROM nodes"))
        for _ in range(5):
            fill(store, 8_000_000)
        assert log.stat().st_size > 40_000_000
    for _ in range(3):
        fill(store, 1)
    assert log.stat().st_size < 34_000_000


def test_what_the_writer_may_take_back_needs_no_temporary_file(store: Store) -> None:
    rows = [(bytes(1000),)] * 1000
    with closing(store.raw()) as writer:
        cursor = writer.cursor()
        cursor.execute("CREATE TABLE filler (content BLOB)")
        cursor.executemany("INSERT INTO filler VALUES (?)", rows)
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("SAVEPOINT report")
        cursor.execute("UPDATE filler SET content = zeroblob(999)")
        files = [str(file.resolve()) for file in Path("/proc/self/fd").iterdir()]
        cursor.execute("ROLLBACK TO report")
        assert cursor.execute("SELECT DISTINCT length(content) FROM filler").fetchall() == [(1000,)]
        cursor.execute("ROLLBACK")
    assert not [name for name in files if "etilqs" in name]  # SQLite's name of its temporary files


def fill(store: Store, size: int) -> None:
    """A commit of so many bytes by the writer's connection."""
    with closing(store.raw()) as writer:
        writer.cursor().execute("INSERT INTO filler VALUES (zeroblob(?))", (size,))


def test_a_newer_schema_is_refused_and_the_file_is_left_as_it_is(store: Store, path: Path) -> None:
    with store.writing() as connection:
        connection.execute(text("UPDATE meta SET value = '99'"))
    store.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"schema version 99 .* only up to {1 + len(MIGRATIONS)}"):
        Store(f"sqlite:///{path}").open()
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(StoreError, match="not one of vmwatch-panel"):
        Store(f"sqlite:///{tmp_path}/other.db").open()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"junk" * 4096)
    with pytest.raises(StoreError, match=r"junk\.db: cannot be used"):
        Store(f"sqlite:///{tmp_path}/junk.db").open()


def test_an_older_schema_is_migrated_step_by_step_and_keeps_its_rows(store: Store) -> None:
    register_all(store, report(entry(event(1))))

    def next_but_one(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE nodes ADD COLUMN note TEXT NOT NULL DEFAULT 'one'"))

    def last(connection: Connection) -> None:
        connection.execute(text("UPDATE nodes SET note = note || ', two'"))

    with store.writing() as connection:
        migrate(connection, (*MIGRATIONS, next_but_one, last))
    with store.reading() as connection:
        assert connection.execute(text("SELECT note FROM nodes")).scalar() == "one, two"
        assert schema_version(connection) == str(3 + len(MIGRATIONS))


def test_claims_of_schema_1_are_taken_to_have_been_told_at_their_mark(store: Store) -> None:
    register_all(store, report(entry(event(4))))
    with store.writing() as connection:
        for name in ("stated_epoch", "stated_seq"):
            connection.execute(text(f"ALTER TABLE claims DROP COLUMN {name}"))
        connection.execute(text("DROP TABLE policies"))
        connection.execute(text("UPDATE meta SET value = '1' WHERE name = 'schema'"))
    store.open()
    claim = store.load().known.claim(uuid_of("web"), NODE)
    assert claim is not None
    assert claim.stated == claim.mark == (EPOCH, 4)


def test_problems_of_a_schema_without_attempts_are_kept_and_tried_as_usual(store: Store) -> None:
    stored = store.load()
    recorder, draft = Recorder(store, stored), Draft(stored.known)
    raise_problem(draft, 1000.0, Kind.NODE_STOPPED, NODE, Level.ERROR, "it is stopped")
    with recorder.savepoint():
        recorder.write(draft, 1000.0)
    recorder.commit()
    recorder.close()
    with store.writing() as connection:
        for name in ("automatic", "period", "most", "attempts", "attempt", "tried", "reopened", "gone"):
            connection.execute(text(f"ALTER TABLE problems DROP COLUMN {name}"))
        connection.execute(text("DROP TABLE attempts"))
        older = str(1 + list(MIGRATIONS).index(schema._solve))
        connection.execute(text("UPDATE meta SET value = :older WHERE name = 'schema'"), {"older": older})
    store.open()
    assert store.load().known.problems == draft.problems
    assert Attempts(store).of(1) == []


def test_a_migration_that_fails_leaves_the_old_schema(store: Store) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE nodes ADD COLUMN note TEXT"))
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError), store.writing() as connection:
        migrate(connection, (*MIGRATIONS, fails))
    with store.reading() as connection:
        assert schema_version(connection) == str(1 + len(MIGRATIONS))
        columns = connection.execute(text("SELECT name FROM pragma_table_info('nodes')")).scalars().all()
        assert "note" not in columns


def test_what_is_known_is_the_same_after_a_restart(store: Store) -> None:
    register_all(
        store,
        report(entry(event(1), event(2, "db", "stopped", ""), stats(3, "web", tx_packets=7))),
        report(entry(inventory(4, 3, web="running", mail="shutoff"), event(5, "web", "suspended", "paused"), base=3)),
    )
    known = store.load().known
    assert known.keys[NODE, EPOCH] == {3, 4, 5}
    assert known.epochs[NODE, EPOCH].base == 3
    assert known.nodes[NODE].floor == (EPOCH, 3)
    assert {uuid: claims[NODE].state for uuid, claims in known.vms.items()} == {
        uuid_of("web"): State.PAUSED,
        uuid_of("mail"): State.SHUTOFF,
    }
    assert known.turn == max(claims[NODE].turn for claims in known.vms.values())


def test_numbers_of_vms_and_events_go_on_after_a_restart(store: Store) -> None:
    register_all(store, report(entry(event(1, "a"), event(2, "b"))))
    register_all(store, report(entry(event(3, "b"), event(4, "c"))))
    stored = store.load()
    assert stored.vm_ids == {uuid_of("a"): 1, uuid_of("b"): 2, uuid_of("c"): 3}
    assert [number for number, _ in Events(store).after(Filter(), 0, 10)] == [1, 2, 3, 4]


def test_a_savepoint_that_fails_takes_back_its_rows_and_its_numbers_alone(store: Store) -> None:
    stored = store.load()
    recorder = Recorder(store, stored)
    for name in ("a", "b", "c"):
        draft = Draft(stored.known)
        register(draft, decode_report(report(entry(event(1, name), node=f"node-{name}"))), 1000.0)
        try:
            with recorder.savepoint():
                recorder.write(draft, 1000.0)
                if name == "b":
                    raise RuntimeError
        except RuntimeError:
            continue
        draft.merge()
    recorder.commit()
    recorder.close()
    assert stored.vm_ids == store.load().vm_ids == {uuid_of("a"): 1, uuid_of("c"): 2}
    assert {name: host.id for name, host in stored.hosts.items()} == {"node-a": 1, "node-c": 2}
    assert [row.name for _, row in Events(store).after(Filter(), 0, 10)] == ["a", "c"]


def test_filters_name_what_they_want_and_pages_are_ascending(store: Store) -> None:
    register_all(
        store,
        report(entry(event(1, "a", time=10.0), event(2, "b", time=20.0), event(3, "a", "stopped", "", time=30.0))),
        report(entry(event(1, "a", time=40.0), node="kvm-02")),
    )
    events = Events(store)

    def found(**wanted: object) -> list[int]:
        return [number for number, _ in events.after(Filter(**wanted), 0, 10)]  # type: ignore[arg-type]

    assert found() == [1, 2, 3, 4]
    assert found(name="a") == [1, 3, 4]
    assert found(uuid=uuid_of("b")) == [2]
    assert found(node="kvm-02") == [4]
    assert found(node="kvm-03") == []
    assert found(event="stopped") == [3]
    assert found(since=20.0, until=30.0) == [2, 3]
    assert [number for number, _ in events.newest(Filter(), 2)] == [3, 4]
    assert [number for number, _ in events.newest(Filter(), 2, before=3)] == [1, 2]
    assert [number for number, _ in events.page(Filter(name="a"), 1, 1)] == [3]
    assert events.count(Filter(name="a"), 10) == 3
    assert events.count(Filter(name="a"), 2) == 2


def test_a_renamed_vm_is_found_under_both_names_and_one_uuid(store: Store) -> None:
    renamed = event(2, "web", "defined", "renamed")
    renamed["vm"]["name"] = "www"
    register_all(store, report(entry(event(1, "web"), renamed)))
    events = Events(store)
    assert [row.name for _, row in events.after(Filter(uuid=uuid_of("web")), 0, 10)] == ["web", "www"]
    assert events.count(Filter(name="www"), 9) == events.count(Filter(name="web"), 9) == 1
