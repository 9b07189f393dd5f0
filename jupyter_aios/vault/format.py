"""The vault file's layout: bytes to parts and back, each byte accounted for.

docs/vault-format.md describes it. Nothing here needs a key, and nothing is believed before the seal
was checked (`generation.py`).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from jupyter_aios.errors import StorageError, VersionError
from jupyter_aios.vault.box import (
    DIGEST_BYTES,
    KEY_BYTES,
    OVERHEAD_BYTES,
    Cost,
)

MAGIC = b"\x89aios\r\n\x1a"
VERSION = 1
MAX_FILE_BYTES = 64 * 2**20
MAX_SLOTS = 8
KINDS = {1: "passphrase", 2: "key file", 3: "keyring", 4: "recovery key"}
STRETCHED_KIND = 1
"""Whose keys people choose, so that guessing must cost something."""

LEAST_COST = Cost(memory_kib=19 * 1024, passes=2, lanes=1)
"""OWASP's minimum for Argon2id (Password Storage Cheat Sheet)."""
MOST_COST = Cost(memory_kib=2**20, passes=16, lanes=16)
NO_COST = Cost(0, 0, 0)

RESTORE = "put the previous generation back: jupyter aios vault restore"

_PREFIX = struct.Struct(">8sH")
_HEAD = struct.Struct(">8sHHII16sQ32s")
_SLOT = struct.Struct(">8sBIIId32s")
_ROOT_BOX_BYTES = KEY_BYTES + OVERHEAD_BYTES
HEAD_BYTES = _HEAD.size
SLOT_BYTES = _SLOT.size + _ROOT_BOX_BYTES


@dataclass(frozen=True)
class Slot:
    """One way to the root key."""

    id: bytes
    kind: int
    cost: Cost
    created_at: float
    salt: bytes
    box: bytes
    """The root key, sealed under the slot's key."""

    def context(self) -> bytes:
        """Return all fields but the box, as they stand in the file."""
        cost = self.cost
        return _SLOT.pack(
            self.id,
            self.kind,
            cost.memory_kib,
            cost.passes,
            cost.lanes,
            self.created_at,
            self.salt,
        )


@dataclass(frozen=True)
class Layout:
    """The parts of one generation, as they lie in the file."""

    vault_id: bytes
    generation: int
    previous: bytes
    """SHA-256 of the previous generation's file."""
    slots: tuple[Slot, ...]
    table: bytes
    records: bytes

    def body(self) -> bytes:
        """Return the file but for its seal."""
        head = _HEAD.pack(
            MAGIC,
            VERSION,
            len(self.slots),
            len(self.table),
            len(self.records),
            self.vault_id,
            self.generation,
            self.previous,
        )
        slots = b"".join(slot.context() + slot.box for slot in self.slots)
        return head + slots + self.table + self.records


def parse(data: bytes) -> Layout:
    """Return the parts of a vault file; the seal is left to whoever has the root key.

    Raises:
        StorageError: it is no vault, cut off, too long, or holds values that no vault has.
        VersionError: a newer version wrote it.

    """
    reader = _Reader(data)
    magic, version = _PREFIX.unpack(reader.peek("head", _PREFIX.size))
    if magic != MAGIC:
        raise damaged("this is no vault: its first 8 bytes are others")
    if version != VERSION:
        raise VersionError(
            f"the vault is of format {version}, this version reads format {VERSION}",
            hint="pip install --upgrade jupyter-aios",
        )
    head = _HEAD.unpack(reader.take("head", _HEAD.size))
    _, _, slot_count, table_bytes, records_bytes, vault_id, generation, previous = head
    if not 1 <= slot_count <= MAX_SLOTS:
        raise damaged(
            f"the vault's head tells of {slot_count} slots, 1 to {MAX_SLOTS} are possible"
        )
    if table_bytes < OVERHEAD_BYTES:
        raise damaged(
            f"the vault's head tells of a record table of {table_bytes} bytes,"
            f" {OVERHEAD_BYTES} is the least"
        )
    if generation == 0 or (generation == 1) != (previous == bytes(DIGEST_BYTES)):
        raise damaged(f"the vault's generation {generation} cannot have the predecessor it names")
    slots = tuple(_read_slot(reader, number) for number in range(1, slot_count + 1))
    if len({slot.id for slot in slots}) < len(slots):
        raise damaged("two of the vault's slots have the same id")
    layout = Layout(
        vault_id=vault_id,
        generation=generation,
        previous=previous,
        slots=slots,
        table=reader.take("record table", table_bytes),
        records=reader.take("records", records_bytes),
    )
    reader.take("seal", DIGEST_BYTES)
    reader.end()
    return layout


def damaged(message: str) -> StorageError:
    """Return the error of a file that cannot be used as it is."""
    return StorageError(message, hint=RESTORE)


class _Reader:
    """Bytes from the front to the back, which know what they are read for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def peek(self, part: str, size_bytes: int) -> bytes:
        taken = self._data[self._at : self._at + size_bytes]
        if len(taken) < size_bytes:
            raise damaged(
                f"the vault's {part} is cut off at byte {len(self._data)};"
                f" it should end at byte {self._at + size_bytes}"
            )
        return taken

    def take(self, part: str, size_bytes: int) -> bytes:
        taken = self.peek(part, size_bytes)
        self._at += size_bytes
        return taken

    def end(self) -> None:
        if more := len(self._data) - self._at:
            raise damaged(f"{more} bytes follow the vault's end at byte {self._at}")


def _read_slot(reader: _Reader, number: int) -> Slot:
    fields = _SLOT.unpack(reader.take("slot table", _SLOT.size))
    slot_id, kind, memory_kib, passes, lanes, created_at, salt = fields
    cost = Cost(memory_kib, passes, lanes)
    if kind not in KINDS:
        raise damaged(f"the vault's slot {number} is of the unknown kind {kind}")
    if not math.isfinite(created_at):
        raise damaged(f"the vault's slot {number} has no time at which it was made")
    _refuse_cost(number, kind, cost)
    box = reader.take("slot table", _ROOT_BOX_BYTES)
    return Slot(slot_id, kind, cost, created_at, salt, box)


def _refuse_cost(number: int, kind: int, cost: Cost) -> None:
    """Refuse what is too cheap to guess, or so dear that trying it would stop the machine."""
    if kind != STRETCHED_KIND:
        if cost != NO_COST:
            raise damaged(f"the vault's slot {number} ({KINDS[kind]}) has parameters of Argon2id")
        return
    limits = (
        ("KiB of memory", LEAST_COST.memory_kib, cost.memory_kib, MOST_COST.memory_kib),
        ("passes", LEAST_COST.passes, cost.passes, MOST_COST.passes),
        ("lanes", LEAST_COST.lanes, cost.lanes, MOST_COST.lanes),
    )
    for what, least, found, most in limits:
        if not least <= found <= most:
            raise damaged(
                f"the vault's slot {number} asks Argon2id for {found} {what};"
                f" {least} to {most} are taken"
            )
