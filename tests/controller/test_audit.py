"""The audit as it lies in the database: what a hand in the file changes is found."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from jupyter_aios.controller.store import SqlStore
from jupyter_aios.controller.tables import storable
from jupyter_aios.testing.access_contract import KEY, example_row
from jupyter_aios.testing.examples import example_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 12
COLUMNS = "at, user, action, resource, is_allowed, reason, mac, is_sealed"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{path}")
    for number in range(ROWS):
        store.add_audit(example_row(number), KEY)
    yield store
    store.close()


def tamper(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE audit SET user = 'eve' WHERE id = 5", 5),
        ("UPDATE audit SET at = at + 0.001 WHERE id = 1", 1),
        ("UPDATE audit SET is_allowed = 0 WHERE id = 12", 12),
        ("UPDATE audit SET is_sealed = 0 WHERE id = 7", 7),
        ("UPDATE audit SET resource = resource || ' ' WHERE id = 3", 3),
        ("DELETE FROM audit WHERE id = 4", 5),
        ("DELETE FROM audit WHERE id <= 4", 5),
        ("UPDATE audit SET id = CASE id WHEN 2 THEN -3 ELSE -2 END WHERE id IN (2, 3)", 4),
        (f"INSERT INTO audit SELECT 13, {COLUMNS} FROM audit WHERE id = 12", 13),  # noqa: S608
    ],
)  # fmt: skip
def test_what_a_hand_in_the_database_changes_is_found_with_its_place(
    path: Path, store: SqlStore, statement: str, place: int
) -> None:
    assert store.verify_audit([KEY]).is_good
    tamper(path, statement)
    assert f"row {place}" in store.verify_audit([KEY]).fault


def test_rows_cut_off_at_the_end_are_found_by_a_head_that_was_kept(
    path: Path, store: SqlStore
) -> None:
    head = store.audit_head()
    tamper(path, "DELETE FROM audit WHERE id > 9")
    assert store.verify_audit([KEY]).is_good
    assert store.verify_audit([KEY], [head]).fault == "it ends at row 9, but row 12 has been there"
    # New rows do not hide it.
    for number in range(ROWS):
        store.add_audit(example_row(number), KEY)
    assert "row 12 is another" in store.verify_audit([KEY], [head]).fault


def test_any_altered_byte_of_a_row_is_found(path: Path, store: SqlStore) -> None:
    draw = random.Random(7)
    with closing(sqlite3.connect(path)) as connection:
        rows = dict(connection.execute("SELECT id, reason FROM audit").fetchall())
        for _ in range(100):
            place = draw.randint(1, ROWS)
            text = rows[place]
            at = draw.randrange(len(text))
            changed = text[:at] + chr(draw.randrange(32, 0xD800)) + text[at + 1 :]
            with connection:
                connection.execute("UPDATE audit SET reason = ? WHERE id = ?", (changed, place))
            assert store.verify_audit([KEY]).is_good == (changed == text)
            with connection:
                connection.execute("UPDATE audit SET reason = ? WHERE id = ?", (text, place))
    assert store.verify_audit([KEY]).is_good


def test_strange_characters_do_not_break_the_chain(store: SqlStore) -> None:
    store.add_audit(example_row(99, resource="job:\udcff\0", reason="“漢字”\r\n"), KEY)
    assert store.verify_audit([KEY]).is_good
    assert store.audit(1)[0].resource == storable("job:\udcff\0")


def test_two_store_objects_write_one_chain(path: Path, store: SqlStore) -> None:
    other = SqlStore(f"sqlite:///{path}")
    for number in range(4):
        (store, other)[number % 2].add_audit(example_row(number), KEY)
    other.close()
    report = store.verify_audit([KEY])
    assert (report.fault, report.head.seq) == ("", ROWS + 4)


def test_pruning_removes_no_row(store: SqlStore) -> None:
    head = store.audit_head()
    store.add_job(example_job())
    store.remove_jobs([example_job().id])
    assert store.verify_audit([KEY], [head]).head == head


def test_the_rows_of_a_store_from_before_the_chain_are_chained_as_they_are(path: Path) -> None:
    old_rows = [(1.1, "ada", r"a\x00"), (2.25, "bob", "“漢字”"), (3.0, "ada", "")]
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "jupyter_aios.controller:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        # A gap, as a removed row would have left it.
        for place, (at, user, resource) in zip((1, 2, 5), old_rows, strict=True):
            connection.execute(
                sa.text(
                    "INSERT INTO audit (id, at, user, action, resource, is_allowed, reason)"
                    " VALUES (:id, :at, :user, 'job:read', :resource, 1, 'owner')"
                ),
                {"id": place, "at": at, "user": user, "resource": resource},
            )
    engine.dispose()
    store = SqlStore(f"sqlite:///{path}")
    rows = store.audit(9)[::-1]
    assert [(row.at, row.user, row.resource) for row in rows] == old_rows
    assert [(row.seq, row.is_sealed) for row in rows] == [(1, False), (2, False), (3, False)]
    store.add_audit(example_row(4), KEY)
    report = store.verify_audit([KEY])
    assert (report.fault, report.head.seq, report.sealed_until) == ("", 4, 4)
    store.close()
