from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.secrets import Secret, SecretClass, SecretInfo
from jupyter_aios.errors import StorageError
from jupyter_aios.vault.table import Table, decode_table
from tests.vault.safes import ANN, BEN, NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.vault.table import Record

INFO = SecretInfo("TOKEN", ANN, SecretClass.INJECT, 1, NOW, NOW, 5)


def table_of_two() -> Table:
    table = Table(bytes(16)).with_value(INFO, Secret("value"))
    return table.with_value(replace(INFO, owner=BEN), Secret("other"))


MOVES: dict[str, Callable[[Table, Record], tuple[Table, Record]]] = {
    "vault": lambda table, record: (replace(table, vault_id=b"\1" * 16), record),
    "record": lambda table, record: (table, replace(record, id=b"\1" * 16)),
    "owner": lambda table, record: (
        # Under the same data key, so that only the owner's id tells them apart.
        replace(table, owners={ANN: replace(table.owners[ANN], id=table.owners[BEN].id)}),
        record,
    ),
    "name": lambda table, record: (table, replace(record, info=replace(INFO, name="OTHER"))),
    "version": lambda table, record: (table, replace(record, info=replace(INFO, version=2))),
    "class": lambda table, record: (
        table,
        replace(record, info=replace(INFO, kind=SecretClass.BROKER)),
    ),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_value_opens_only_as_what_it_was_kept_as(
    move: Callable[[Table, Record], tuple[Table, Record]],
) -> None:
    table = table_of_two()
    record = table.record(ANN, "TOKEN")
    assert table.reveal(record).reveal() == b"value"
    with pytest.raises(StorageError, match="does not open"):
        Table.reveal(*move(table, record))


def test_another_owner_s_key_opens_nothing() -> None:
    table = table_of_two()
    record = table.record(ANN, "TOKEN")
    stolen = replace(table, owners={ANN: replace(table.owners[BEN], id=table.owners[ANN].id)})
    with pytest.raises(StorageError, match="does not open"):
        stolen.reveal(record)


def test_a_table_is_what_was_encoded() -> None:
    table = table_of_two().with_system("audit", b"k" * 32)
    text, boxes = table.encode()
    assert decode_table(table.vault_id, text, boxes) == table


def test_a_table_s_repr_holds_no_key() -> None:
    table = table_of_two().with_system("audit", b"k" * 32)
    shown = repr(table)
    for key in (table.owners[ANN].key, table.owners[BEN].key, b"k" * 32):
        assert repr(key)[2:-1] not in shown
        assert key.hex() not in shown


def test_changing_a_table_changes_another_one() -> None:
    table = table_of_two()
    kept = table.encode()
    table.with_value(replace(INFO, version=2), Secret("newer"))
    table.without(ANN, "TOKEN")
    table.without_owner(BEN)
    table.rekeyed()
    assert table.encode() == kept
