"""The steps from one version of the outbox to the next; what a real program makes of them is tested with it."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.testbed.oldoutbox import VERSION_1
from vmwatch.node import schema
from vmwatch.node.database import pragma


def described(connection: sqlite3.Connection) -> tuple[int, int, set[str]]:
    """Version, application, and all tables and indices, whatever their layout in the text."""
    texts = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return (
        pragma(connection, "user_version"),
        pragma(connection, "application_id"),
        {" ".join(text.split()).replace("( ", "(").replace(" )", ")") for (text,) in texts},
    )


@pytest.fixture
def connection(tmp_path: Path) -> "contextlib.closing[sqlite3.Connection]":
    return contextlib.closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None))


def test_the_first_step_still_makes_what_it_made_when_it_was_released(
    connection: "contextlib.closing[sqlite3.Connection]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is changed afterwards would leave two kinds of files under one number."""
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    monkeypatch.setattr(schema, "VERSION", 1)
    with connection as made, contextlib.closing(sqlite3.connect(":memory:")) as by_hand:
        schema.migrate(made)
        by_hand.executescript(VERSION_1)
        assert described(made) == described(by_hand)


def test_steps_are_taken_from_where_a_file_is_and_only_once(
    connection: "contextlib.closing[sqlite3.Connection]", monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [(f"CREATE TABLE step{number} (a)",) for number in (1, 2, 3)]
    with connection as database:
        for count in (1, 1, 3, 3):
            monkeypatch.setattr(schema, "MIGRATIONS", tuple(steps[:count]))
            monkeypatch.setattr(schema, "VERSION", count)
            schema.migrate(database)  # a step that was taken twice would fail: its table is there
            version, application, tables = described(database)
            assert (version, len(tables), application) == (count, count, schema.APPLICATION_ID)


def test_a_step_that_fails_leaves_the_version_before_it_whole(
    connection: "contextlib.closing[sqlite3.Connection]", monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection as database:
        schema.migrate(database)
        before = described(database)
        broken = ("CREATE TABLE more (a)", "DROP TABLE message", "INSERT INTO nowhere VALUES (1)")
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(database)
        assert described(database) == before
