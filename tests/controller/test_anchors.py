"""The vault and the audit hold each other: neither can be put back alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.controller.access import user_name
from jupyter_aios.controller.anchors import COMMIT, commit_row, newest_anchor
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.rights import AuditQuery
from jupyter_aios.errors import StorageError
from jupyter_aios.testing.stores import MemoryStore
from jupyter_aios.vault import Anchor
from tests.controller.rig import ME, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS = user_name(os.getuid())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home", SqlStore(f"sqlite:///{tmp_path}/home/store.sqlite"))
    yield rig
    rig.controller.close()


def test_the_newest_anchor_is_read_back_from_the_audit() -> None:
    store = MemoryStore()
    assert newest_anchor(store) is None
    for generation in (9, 10, 4):  # 4: after a restore
        store.add_audit(commit_row(Anchor(generation, f"{generation:064x}"), UserId("ada"), 1.0))
    assert newest_anchor(store) == Anchor(4, f"{4:064x}")


def test_every_commit_is_in_the_audit_with_the_file_s_digest(rig: Rig) -> None:
    rig.open_vault()
    rig.put_secret("FIRST", "value")
    rig.put_secret("SECOND", "value")
    rows = rig.store.audit(9, action=COMMIT)
    assert [row.resource.split(":")[1] for row in rows] == ["5", "4", "3", "2"]
    digest = hashlib.sha256(rig.controller.keeper.path.read_bytes()).hexdigest()
    assert rows[0].resource == f"vault:5:{digest}"
    assert {row.user for row in rows} == {RUNS}
    assert rows[0].is_sealed


def test_an_older_vault_is_refused_by_the_next_controller(rig: Rig, tmp_path: Path) -> None:
    rig.open_vault()
    rig.put_secret("FIRST", "value")
    shutil.copy(rig.controller.keeper.path, tmp_path / "copy")
    rig.put_secret("SECOND", "value")
    rig.restart()
    shutil.copy(tmp_path / "copy", rig.controller.keeper.path)
    with pytest.raises(StorageError, match="an older vault was put back: generation 4, 5"):
        rig.open_vault()
    assert not rig.controller.keeper.is_open


def test_who_puts_the_anchor_back_too_breaks_the_chain(rig: Rig, tmp_path: Path) -> None:
    rig.open_vault()
    rig.put_secret("FIRST", "value")
    shutil.copy(rig.controller.keeper.path, tmp_path / "copy")
    rig.put_secret("SECOND", "value")
    assert rig.rights.audit(rig.actor(RUNS), AuditQuery()).fault == ""
    place = rig.store.audit(1, action=COMMIT)[0].seq
    rig.restart()
    shutil.copy(tmp_path / "copy", rig.controller.keeper.path)
    older = rig.store.audit(2, action=COMMIT)[1].resource
    with closing(sqlite3.connect(rig.home / "store.sqlite")) as connection, connection:
        connection.execute("UPDATE audit SET resource = ? WHERE id = ?", (older, place))
    rig.open_vault()
    assert [row.info.name for row in rig.secrets.rows(rig.actor(ME))] == ["FIRST"]
    page = rig.rights.audit(rig.actor(RUNS), AuditQuery())
    assert page.fault.startswith(f"row {place} is not what was written")


def test_a_restore_is_in_the_audit_and_the_next_controller_goes_on_from_it(rig: Rig) -> None:
    rig.open_vault()
    rig.put_secret("FIRST", "value")
    rig.put_secret("SECOND", "value")
    rig.restart()
    rig.controller.keeper.path.write_bytes(b"damaged")
    with pytest.raises(StorageError, match="the vault's head is cut off"):
        rig.open_vault()
    rig.controller.keeper.restore_previous()
    rig.restart()
    rig.open_vault()
    assert [row.info.name for row in rig.secrets.rows(rig.actor(ME))] == ["FIRST"]
    assert rig.rights.audit(rig.actor(RUNS), AuditQuery()).fault == ""
