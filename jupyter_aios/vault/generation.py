"""One whole state of the vault, between the bytes of its file and the decrypted table. No disk."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from jupyter_aios.errors import StorageError
from jupyter_aios.vault.box import (
    DIGEST_BYTES,
    authenticate,
    derive,
    digest_of,
    is_same,
    seal,
    unseal,
)
from jupyter_aios.vault.format import MAX_FILE_BYTES, RESTORE, Layout, Slot, damaged
from jupyter_aios.vault.table import Table, decode_table

_GENERATION = struct.Struct(">Q")


@dataclass(frozen=True)
class Anchor:
    """What is kept of a generation in a second place, so that an older file is told apart."""

    generation: int
    digest: str
    """SHA-256 of the file, in hexadecimal."""


@dataclass(frozen=True)
class Generation:
    """Everything that one vault file holds, opened."""

    root: bytes = field(repr=False)
    slots: tuple[Slot, ...]
    table: Table
    anchor: Anchor

    @property
    def vault_id(self) -> bytes:
        """Return the vault's id, which every box is bound to."""
        return self.table.vault_id


def unlock(data: bytes, layout: Layout, root: bytes) -> Generation:
    """Return what a file holds; `layout` is what `parse` made of it.

    Raises:
        StorageError: the seal does not fit: a byte was changed, or another vault's was put in.

    """
    body, seal_found = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if not is_same(authenticate(_seal_key(root, layout.vault_id), body), seal_found):
        raise damaged("the vault was changed or damaged: its seal does not fit its contents")
    text = unseal(root, "table", layout.table, _table_context(layout.vault_id, layout.generation))
    if text is None:
        raise damaged("the vault's record table does not open")
    table = decode_table(layout.vault_id, text, layout.records)
    return Generation(root, layout.slots, table, Anchor(layout.generation, digest_of(data)))


def seal_next(current: Generation) -> tuple[bytes, Generation]:
    """Return the file that follows `current`'s anchor with `current`'s contents, and what it is.

    Raises:
        StorageError: it would be larger than a vault may be.

    """
    number = current.anchor.generation + 1
    text, boxes = current.table.encode()
    layout = Layout(
        vault_id=current.vault_id,
        generation=number,
        previous=bytes.fromhex(current.anchor.digest),
        slots=current.slots,
        table=seal(current.root, "table", text, _table_context(current.vault_id, number)),
        records=boxes,
    )
    body = layout.body()
    size_bytes = len(body) + DIGEST_BYTES
    if size_bytes > MAX_FILE_BYTES:
        raise StorageError(
            f"the vault would have {size_bytes / 2**20:.1f} MiB, it may have"
            f" {MAX_FILE_BYTES // 2**20}",
            hint="remove secrets that nobody needs: %aios secret rm NAME",
        )
    data = body + authenticate(_seal_key(current.root, current.vault_id), body)
    anchor = Anchor(number, digest_of(data))
    return data, Generation(current.root, current.slots, current.table, anchor)


def first_generation(vault_id: bytes, root: bytes, slots: tuple[Slot, ...]) -> Generation:
    """Return the state before the first commit."""
    return Generation(root, slots, Table(vault_id), Anchor(0, bytes(DIGEST_BYTES).hex()))


def refuse_rollback(layout: Layout, found: Anchor, anchor: Anchor) -> None:
    """Return where the file may follow what was seen last.

    Raises:
        StorageError: an older file was put back, or one of another history.

    """
    if found.generation < anchor.generation:
        raise StorageError(
            f"an older vault was put back: generation {found.generation},"
            f" {anchor.generation} was seen before",
            hint="put the newest file back, or take what there is: jupyter aios vault restore",
        )
    follows = layout.previous.hex() == anchor.digest
    is_other = found.generation == anchor.generation and found.digest != anchor.digest
    if is_other or (found.generation == anchor.generation + 1 and not follows):
        raise StorageError(
            f"this vault is of another history: its generation {found.generation} does not fit the"
            f" generation {anchor.generation} that was seen before",
            hint=RESTORE,
        )


def _seal_key(root: bytes, vault_id: bytes) -> bytes:
    return derive(root, vault_id, "seal")


def _table_context(vault_id: bytes, generation: int) -> bytes:
    return vault_id + _GENERATION.pack(generation)
