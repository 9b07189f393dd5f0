from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.controller import migrations, sqlite
from jupyter_aios.controller.migrations import SCHEMA_VERSION
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.controller.tables import METADATA
from jupyter_aios.core.entities import JobId
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import StateError, StorageError, VersionError
from jupyter_aios.testing.examples import example_job
from jupyter_aios.testing.store_contract import StoreContract
from jupyter_aios.testing.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.ports import Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store.sqlite"


@pytest.fixture
def sql_store(path: Path) -> Iterator[SqlStore]:
    store = SqlStore(url_of(path))
    yield store
    store.close()


class TestSqlStore(StoreContract):
    @pytest.fixture
    def store(self, sql_store: SqlStore) -> SqlStore:
        return sql_store


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


# ---------------------------------------------------------------- what survives


def test_another_store_object_finds_what_was_stored(path: Path, sql_store: SqlStore) -> None:
    job = example_job()
    sql_store.add_job(job)
    other = SqlStore(url_of(path))
    assert other.job(job.id) == job
    other.transition(job.id, JobState.PLACED, at=1.0, reason="")
    found = sql_store.job(job.id)
    assert found is not None
    assert found.state is JobState.PLACED
    other.close()


def test_what_was_stored_survives_kill_minus_9(path: Path) -> None:
    program = textwrap.dedent(f"""
        import os, signal
        from jupyter_aios.controller.store import SqlStore
        from jupyter_aios.testing.examples import example_job
        store = SqlStore({url_of(path)!r})
        store.add_job(example_job())
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program], check=False, env=_python_path())
    assert done.returncode == -9
    store = SqlStore(url_of(path))
    assert store.job(example_job().id) == example_job()
    store.close()


def test_strange_characters_in_a_reason_stop_no_transition(sql_store: SqlStore) -> None:
    sql_store.add_job(example_job())
    reason = "no file \udcff\0 there"
    job = sql_store.transition(example_job().id, JobState.FAILED, at=1.0, reason=reason)
    assert job.reason == r"no file \udcff\x00 there"
    assert sql_store.history(job.id)[-1].reason == job.reason


STEPS = st.lists(st.tuples(st.sampled_from(JobState), st.text(max_size=5)), max_size=12)


def test_both_stores_agree_on_any_sequence_of_transitions(sql_store: SqlStore) -> None:
    memory = MemoryStore()
    numbers = iter(range(10**6))

    @settings(max_examples=60, deadline=None)
    @given(steps=STEPS)
    def agree(steps: list[tuple[JobState, str]]) -> None:
        job = example_job(f"job-{next(numbers)}")
        seen = []
        stores: tuple[Store, Store] = (sql_store, memory)
        for store in stores:
            store.add_job(job)
            answers = [_answer(store, job.id, number, *step) for number, step in enumerate(steps)]
            seen.append((answers, store.job(job.id), store.history(job.id)))
        # PostgreSQL has no NUL in text, so the store escapes it everywhere.
        assert repr(seen[0]) == repr(seen[1]).replace(r"\x00", r"\\x00")

    agree()


# ---------------------------------------------------------------- the schema


def test_an_empty_file_gets_the_schema(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store = SqlStore(url_of(path))
    assert store.find_jobs() == []
    store.close()
    assert _version(path) == SCHEMA_VERSION


def test_an_upgrade_keeps_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqlStore(url_of(path))
    store.add_job(example_job())
    store.close()
    upgrades: list[sa.Connection] = []
    monkeypatch.setattr("jupyter_aios.controller.database.SCHEMA_VERSION", "0999")
    monkeypatch.setattr("jupyter_aios.controller.database.upgrade", upgrades.append)
    store = SqlStore(url_of(path))
    assert len(upgrades) == 1
    assert store.find_jobs() == [example_job()]
    store.close()


def test_an_upgrade_that_fails_leaves_no_half_schema(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sa.Connection) -> None:
        migrations.upgrade(connection)
        raise sa.exc.OperationalError(
            "", None, sqlite3.OperationalError("database or disk is full")
        )

    monkeypatch.setattr("jupyter_aios.controller.database.upgrade", fail)
    with pytest.raises(StorageError, match="disk is full"):
        SqlStore(url_of(path))
    assert _tables(path) == []


def test_a_newer_schema_is_refused_and_the_file_left_as_it_is(path: Path) -> None:
    SqlStore(url_of(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(VersionError, match="0999") as caught:
        SqlStore(url_of(path))
    assert str(path) in caught.value.message
    assert "pip install --upgrade jupyter-aios" in caught.value.hint
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_schema_that_is_up_to_date_needs_no_alembic(path: Path) -> None:
    SqlStore(url_of(path)).close()
    program = textwrap.dedent(f"""
        import sys
        from jupyter_aios.controller.store import SqlStore
        SqlStore({url_of(path)!r}).close()
        assert "alembic" not in sys.modules
    """)
    subprocess.run([sys.executable, "-c", program], check=True, env=_python_path())


def test_the_migrations_make_the_tables_that_the_code_knows(path: Path) -> None:
    SqlStore(url_of(path)).close()
    engine = sa.create_engine(url_of(path))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    assert differences == []


def test_the_schema_s_version_is_the_newest_migration() -> None:
    scripts = ScriptDirectory(Path(migrations.__file__).parent)
    assert scripts.get_current_head() == SCHEMA_VERSION


# ---------------------------------------------------------------- the file


def test_all_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    old_umask = os.umask(0)
    try:
        path = tmp_path / "new" / "home" / "store.sqlite"
        store = SqlStore(url_of(path))
        store.add_job(example_job())
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(old_umask)
    assert files == dict.fromkeys(("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"), 0o600)
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.parent.mkdir()
    path.touch(mode=0o644)
    path.chmod(0o644)
    SqlStore(url_of(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("folder", ["a b", "it's “漢字”", 'x"y', "50%?#&=", "a\nb", "x" * 200])
def test_the_home_may_have_any_name(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "store.sqlite"
    store = SqlStore(url_of(path))
    store.add_job(example_job())
    store.close()
    assert path.stat().st_size > 0


def test_a_path_that_sqlite_cannot_open_is_refused_with_a_hint(tmp_path: Path) -> None:
    for length, is_refused in ((sqlite.MAX_PATH_BYTES, False), (sqlite.MAX_PATH_BYTES + 1, True)):
        path = _path_of_length(tmp_path, length)
        if is_refused:
            with pytest.raises(StorageError, match="504 bytes") as caught:
                SqlStore(url_of(path))
            assert caught.value.hint.startswith("set AIOS_HOME=")
            assert not path.exists()
        else:
            SqlStore(url_of(path)).close()


# ---------------------------------------------------------------- a disk that says no


def test_a_file_that_is_no_database_is_named_with_a_hint(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(StorageError, match="not a database") as caught:
        SqlStore(url_of(path))
    assert str(path) in caught.value.message
    assert "free)" in caught.value.message
    assert "move the file away" in caught.value.hint
    assert path.read_bytes() == b"Dear diary, " * 1000


def test_a_damaged_database_is_named_with_a_hint(path: Path) -> None:
    store = SqlStore(url_of(path))
    for number in range(50):
        store.add_job(example_job(f"job-{number}"))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StorageError, match="malformed") as caught:
        SqlStore(url_of(path)).find_jobs()
    assert str(path) in caught.value.message


@not_as_root
def test_a_folder_that_cannot_be_written_is_named_with_a_hint(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission denied") as caught:
        SqlStore(url_of(closed / "store.sqlite"))
    assert caught.value.hint.startswith("set AIOS_HOME=")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tiny disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tiny", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@needs_root
def test_a_full_disk_stores_nothing_by_halves_and_the_store_recovers(tiny_disk: Path) -> None:
    path = tiny_disk / "home" / "store.sqlite"
    store = SqlStore(url_of(path))
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(600_000))
    stored = []
    with pytest.raises(StorageError, match="full") as caught:  # noqa: PT012 - until it is full
        for number in range(10_000):
            job = example_job(f"job-{number:05d}", argv=("x" * 2000,))
            store.add_job(job)
            stored.append(job.id)
    assert str(path) in caught.value.message
    assert "free)" in caught.value.message
    assert "%aios prune" in caught.value.hint
    with pytest.raises(StorageError, match="full"):
        store.add_job(example_job("zzz", argv=("x" * 200_000,)))

    def check() -> None:
        assert sorted(job.id for job in store.find_jobs()) == stored
        assert all(len(store.history(job_id)) == 1 for job_id in stored)

    assert stored
    check()
    filler.unlink()
    stored.append(JobId("zzzz"))
    store.add_job(example_job("zzzz"))
    check()
    store.close()
    store = SqlStore(url_of(path))
    check()
    store.close()


@needs_root
def test_a_disk_that_is_full_at_the_first_start_says_so(tiny_disk: Path) -> None:
    path = tiny_disk / "home" / "store.sqlite"
    (tiny_disk / "filler").write_bytes(bytes(1_040_000))
    with pytest.raises(StorageError, match="%aios prune") as caught:
        SqlStore(url_of(path))
    assert str(path) in caught.value.message
    (tiny_disk / "filler").unlink()
    SqlStore(url_of(path)).close()


@needs_root
def test_a_read_only_disk_is_named_with_a_hint(tiny_disk: Path) -> None:
    path = tiny_disk / "store.sqlite"
    store = SqlStore(url_of(path))
    store.add_job(example_job())
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(StorageError) as caught:
        SqlStore(url_of(path)).add_job(example_job("other"))
    assert str(path) in caught.value.message
    assert caught.value.hint.startswith("set AIOS_HOME=")


def _answer(store: Store, job_id: JobId, number: int, new: JobState, reason: str) -> Job | str:
    try:
        return store.transition(job_id, new, at=float(number), reason=reason, attempt=number)
    except StateError as error:
        return str(error)


def _python_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def _version(path: Path) -> str:
    connection = sqlite3.connect(path)
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    return str(version)


def _tables(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    return names


def _path_of_length(tmp_path: Path, length: int) -> Path:
    """Return a path of that many bytes; a folder's name may have 255."""
    left = length - len(os.fsencode(tmp_path)) - len("/store.sqlite")
    first = left // 2
    return tmp_path / ("x" * (first - 1)) / ("y" * (left - first - 1)) / "store.sqlite"
